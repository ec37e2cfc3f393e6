"""From `vlmeval:NAME` to a model of VLMEvalKit's zoo (`supported_VLM`), where its full package is installed."""

from __future__ import annotations

from importlib.util import find_spec

from iit_bench.errors import UserError
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.vlmevalkit.adapter import ZooModel

WHOLE = "pip install ms-vlmeval"


def load(name: str, options: ModelOptions) -> Model:
    """A model of the zoo; `name` is `vlmeval:NAME`.

    Raises:
        UserError: VLMEvalKit is not installed as a whole, has no model of this name, or cannot load it.
    """
    if find_spec("vlmeval") is None:
        raise UserError(f"model {name!r} needs the whole of VLMEvalKit, which is not installed: {WHOLE}")
    defaults = ModelOptions()
    for option in ("checkpoint", "device", "dtype", "trust_remote_code"):
        if getattr(options, option) != getattr(defaults, option):
            raise UserError(f"VLMEvalKit decides itself how {name!r} is loaded; leave out --{option.replace('_', '-')}")
    return ZooModel(name)
