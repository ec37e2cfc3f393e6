"""Names → sources (and models). Built-ins stand in one table each; third parties add theirs by entry point.

A built-in is `"module:function"`, imported only when its name is asked for, so that listing names stays instant. A name that ends in `:` is
a prefix and serves every name that starts with it (`lm-eval:openbookqa`). An entry point of group `iit_bench.sources` is the same: its name
(or prefix) and a function `load(name, options) -> SourceQuestions` (see `builders.sources.base`); of group `iit_bench.models`,
`load(name, options) -> Model` (see `iit_bench.models.base`). Built-ins win over entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError

if TYPE_CHECKING:
    from builders.sources.base import SourceOptions, SourceQuestions
    from iit_bench.models.base import Model, ModelOptions

SOURCES: dict[str, str] = {
    "facts": "builders.sources.lab:load_facts",
    "easyvqa": "builders.sources.lab:load_easyvqa",
    "lm-eval:": "builders.sources.lm_eval:load",
    "vlmeval:": "builders.sources.vlmeval:load",
}
SOURCE_GROUP = "iit_bench.sources"

MODELS: dict[str, str] = {
    "wings": "iit_bench.models.bundled:load_wings",
    "llava": "iit_bench.models.bundled:load_wings",
    "llava-one-rate": "iit_bench.models.bundled:load_wings",
    "base-llm": "iit_bench.models.bundled:load_base_llm",
    "hf:": "iit_bench.models.huggingface:load",
    "openai:": "iit_bench.models.openai_server:load",
    "vllm:": "iit_bench.models.vllm_offline:load",
    "vlmeval:": "iit_bench.models.vlmeval_zoo:load",
    "random": "iit_bench.models.baselines:load_random",
    "majority": "iit_bench.models.baselines:load_majority",
}
MODEL_GROUP = "iit_bench.models"


# ---------------------------------------------------------------- sources


def load_source(name: str, options: SourceOptions) -> SourceQuestions:
    """The evaluation questions of the source called `name`.

    Raises:
        UserError: no source has this name, or the source refuses (unknown task, missing files, a kind it cannot ask).
    """
    source: SourceQuestions = _resolve(name, "source", SOURCES, SOURCE_GROUP)(name, options)
    return source


def list_sources() -> dict[str, str]:
    """Name or prefix of every source → `module:function` that loads it, built-ins first, then entry points by name."""
    return _listed(SOURCES, SOURCE_GROUP)


# ---------------------------------------------------------------- models


def load_model(name: str, options: ModelOptions, blind: bool = False) -> Model:
    """The model called `name`, loaded; with `blind`, all images are removed before it sees a chat.

    Raises:
        UserError: no model has this name, or it cannot be loaded as asked.
    """
    _refuse_server_options(name, options)
    model: Model = _resolve(name, "model", MODELS, MODEL_GROUP)(name, options)
    if blind:
        from iit_bench.models.baselines import BlindModel

        return BlindModel(model)
    return model


def _refuse_server_options(name: str, options: ModelOptions) -> None:
    """Only a model behind a server has an address and a price; models of entry points may have both."""
    given = [field.name for field in fields(options.server) if getattr(options.server, field.name) != field.default]
    if given and _match(name, MODELS) not in (None, "openai:"):
        flags = ", ".join("--" + field.replace("_", "-") for field in given)
        raise UserError(f"model {name!r} runs here, not on a server; leave out {flags}, or use --model openai:NAME")


def list_models() -> dict[str, str]:
    """Name or prefix of every model → `module:function` that loads it, built-ins first, then entry points by name."""
    return _listed(MODELS, MODEL_GROUP)


# ---------------------------------------------------------------- both


def _resolve(name: str, kind: str, builtin: Mapping[str, str], group: str) -> Callable[..., Any]:
    key = _match(name, builtin)
    if key is not None:
        module, _, function = builtin[key].partition(":")
        loaded: Callable[..., Any] = getattr(import_module(module), function)
        return loaded
    extra = _entry_points(group)
    key = _match(name, extra)
    if key is not None:
        return _load_entry_point(extra[key], kind)
    known = list(_listed(builtin, group))
    if name in known:
        raise UserError(f"{kind} {name!r} is a prefix; put a name after the colon, see `iit-bench list {kind}s`.")
    raise UserError(
        f"There is no {kind} called {name!r}; {_suggestion(name, known)}`iit-bench list {kind}s` shows all: {', '.join(known)}."
    )


def _match(name: str, keys: Iterable[str]) -> str | None:
    """The key equal to `name`, else the longest prefix key (ending in `:`) with something after it; a prefix alone names nothing."""
    found = [key for key in keys if name != "" and (name.startswith(key) and name != key if key.endswith(":") else name == key)]
    return max(found, key=len, default=None)


def _suggestion(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _listed(builtin: Mapping[str, str], group: str) -> dict[str, str]:
    extra = _entry_points(group)
    return {**builtin, **{name: extra[name].value for name in sorted(extra) if name not in builtin}}


def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value))}


def _load_entry_point(point: EntryPoint, kind: str) -> Callable[..., Any]:
    try:
        loaded: Callable[..., Any] = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"The {kind} {point.name!r} of entry point {point.value!r} cannot be imported ({error}); repair or uninstall its package."
        ) from error
    return loaded
