"""How the settings of two sides compare, cause by cause (docs/spec/explain.md#prompt-template-decoding-weights-dtype)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from evaluators.explain.sides import ASKED, AskedTask, Cause, Settings

State = Literal["equal", "different", "not recorded", "stated equal"]
_SHA256 = 64  # digits
HASH, NAME, REVISION, ADAPTER = "hash of the checkpoint", "checkpoint", "revision", "adapter"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One cause of two sides."""

    state: State
    different: tuple[str, ...] = ()  # settings with both values, in words
    unknown: tuple[str, ...] = ()  # settings that a side does not record

    @property
    def possible(self) -> bool:
        """Whether it may be behind a difference."""
        return self.state in ("different", "not recorded")


def standings(a: AskedTask, b: AskedTask, stated: Collection[str] = ()) -> dict[Cause, Standing]:
    """Each cause of `ASKED`; `stated` are those that the user knows to be equal."""
    return {cause: _standing(a.settings.get(cause, {}), b.settings.get(cause, {}), cause in stated) for cause in ASKED}


def _standing(a: Settings, b: Settings, stated: bool) -> Standing:
    names = list(dict.fromkeys([*a, *b]))
    if HASH in names:  # two hashes say all that names say; without both, names count
        hashed = bool(a.get(HASH) and b.get(HASH))
        names = [name for name in names if name not in ((NAME, REVISION, ADAPTER) if hashed else (HASH,))]
    pairs = {name: (a.get(name), b.get(name)) for name in names}
    if NAME in pairs and None not in pairs[NAME] and pairs[NAME][0] != pairs[NAME][1] and not all(map(_is_hub_id, pairs[NAME])):
        pairs[NAME] = (None, None)  # folders of two names may hold one checkpoint
    different = tuple(f"{name} ({short(x)} and {short(y)})" for name, (x, y) in pairs.items() if None not in (x, y) and x != y)
    unknown = tuple(name for name, values in pairs.items() if None in values)
    if stated:
        return Standing(state="stated equal", different=different, unknown=unknown)
    if not names:
        return Standing(state="not recorded", unknown=("every setting",))
    return Standing(state="different" if different else "not recorded" if unknown else "equal", different=different, unknown=unknown)


def _is_hub_id(name: str | None) -> bool:
    return bool(name and re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists())


def short(value: str | None) -> str:
    """A value for a table: of a long one the beginning."""
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:12]}…"


# ---------------------------------------------------------------- weights, of run.json or another tool's header


def weights_of(header: Mapping[str, Any], arguments: Mapping[str, Any] | None = None) -> dict[str, str | None]:
    """Settings of the cause weights.

    Args:
        header: run.json, or what stands for it.
        arguments: lm-eval's `model_args`, where it ran the model.
    """
    model: Mapping[str, Any] = header.get("model") or {}
    given = arguments or {}
    named = str(given.get("pretrained") or model.get("checkpoint") or "")
    own = str(model.get("checkpoint_sha256") or "")
    settings: dict[str, str | None] = {
        HASH: (own if len(own) == _SHA256 else "") or _hashed(named, str(given.get("peft") or "")) or None,
        NAME: named or str(model.get("name") or "") or None,
    }
    if own and len(own) != _SHA256:  # a commit of the Hub
        settings[REVISION] = own
    settings[ADAPTER] = str(header.get("adapter") or given.get("peft") or "none")
    placed = (model.get("settings") or {}).get("quantization")
    quantised = [name for name in ("load_in_4bit", "load_in_8bit", "quantization", "gptqmodel") if given.get(name)]
    settings["quantisation"] = ", ".join([*quantised, *([str(placed)] if placed else [])]) or "none"
    return settings


@cache
def _hashed(folder: str, adapter: str) -> str:
    """The hash that this project makes of a checkpoint's files, where the folder is here; "" otherwise."""
    from iit_bench.models.checkpoint_files import checkpoint_sha256

    place = Path(folder)
    if not folder or adapter or not (place / "config.json").is_file():
        return ""
    return checkpoint_sha256(place)
