"""Names → sources (and models). Built-ins are in one table each; third parties add theirs by entry point.

A built-in is `"module:function"`, imported only when its name is asked for, so that listing names stays instant. A name that ends in `:` is
a prefix and serves every name that starts with it (`lm-eval:openbookqa`). An entry point of group `iit_bench.sources` is the same: its name
(or prefix) and a function `load(name, options) -> SourceQuestions` (see `builders.sources.base`); of group `iit_bench.models`,
`load(name, options) -> Model` (see `iit_bench.models.contract`). Built-ins win over entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line

SOURCES: dict[str, str] = {
    "facts": "builders.sources.lab:load_facts",
    "two-hop": "builders.sources.lab:load_two_hop",
    "easyvqa": "builders.sources.lab:load_easyvqa",
    "digits": "builders.sources.lab:load_digits",
    "flags": "builders.sources.lab:load_flags",
    "flag-facts": "builders.sources.lab:load_flag_facts",
    "lm-eval:": "builders.sources.lm_eval:load",
    "vlmeval:": "builders.sources.vlmeval:load",
    "table:": "builders.sources.table:load",
    "hub:": "builders.sources.table:load",
}
BUNDLED_SOURCES = tuple(name for name in SOURCES if not name.endswith(":"))  # the lab's: they need nothing but the package
SOURCE_GROUP = "iit_bench.sources"

MODELS: dict[str, str] = {
    "wings": "iit_bench.models.bundled:load_wings",
    "llava": "iit_bench.models.bundled:load_wings",
    "llava-one-rate": "iit_bench.models.bundled:load_wings",
    "base-llm": "iit_bench.models.bundled:load_base_llm",
    "hf:": "iit_bench.models.huggingface.load:load",
    "openai:": "iit_bench.models.openai.load:load",
    "vllm:": "iit_bench.models.vllm.load:load",
    "vlmeval:": "iit_bench.models.vlmevalkit.load:load",
    "random": "iit_bench.models.baselines:load_random",
    "majority": "iit_bench.models.baselines:load_majority",
}
MODEL_GROUP = "iit_bench.models"


def list_sources() -> dict[str, str]:
    """Name or prefix of every source → `module:function` that loads it, built-ins first, then entry points by name."""
    return _listed(SOURCES, SOURCE_GROUP)


def list_models() -> dict[str, str]:
    """Name or prefix of every model → `module:function` that loads it, built-ins first, then entry points by name."""
    return _listed(MODELS, MODEL_GROUP)


def resolve(name: str, kind: str, builtin: Mapping[str, str], group: str) -> Callable[..., Any]:
    """The function that loads `name`, imported.

    Raises:
        UserError: there is no such `kind`, or the package behind its entry point cannot be imported.
    """
    key = match(name, builtin)
    if key is not None:
        module, _, function = builtin[key].partition(":")
        loaded: Callable[..., Any] = getattr(import_module(module), function)
        return loaded
    extra = _entry_points(group)
    key = match(name, extra)
    if key is not None:
        return _load_entry_point(extra[key], kind)
    known = list(_listed(builtin, group))
    if kind == "model" and _names_a_checkpoint(name):
        raise UserError(f"There is no model called {name!r}; for a checkpoint, a folder or Hub id, use hf:{name}.")
    if name in known:
        raise UserError(f"{kind} {name!r} is a prefix; put a name after the colon, see `iit-bench list {kind}s`.")
    raise UserError(
        f"There is no {kind} called {name!r}; {_suggestion(name, known)}`iit-bench list {kind}s` shows all: {', '.join(known)}."
    )


def match(name: str, keys: Iterable[str]) -> str | None:
    """The key equal to `name`, else the longest prefix key (ending in `:`) with something after it; a prefix by itself names nothing."""
    matching = [key for key in keys if name != "" and (name.startswith(key) and name != key if key.endswith(":") else name == key)]
    return max(matching, key=len, default=None)


def _names_a_checkpoint(name: str) -> bool:
    """Whether a name is a path, or of the form ORGANISATION/NAME that Hub ids have."""
    return bool(name) and ":" not in name.partition("/")[0] and ("/" in name or Path(name).is_dir())


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
            f"The {kind} {point.name!r} of entry point {point.value!r} cannot be imported ({one_line(error)}); repair or uninstall its "
            "package."
        ) from error
    return loaded
