"""Presets: which sources a benchmark is built from, as YAML files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from iit_bench.errors import UserError


@dataclass(frozen=True)
class Preset:
    """A named choice of sources."""

    name: str
    description: str
    text: tuple[str, ...]  # source names
    visual: tuple[str, ...]
    size: int  # targets per modality
    style: str  # default style of asking


def describe_presets() -> list[tuple[str, str]]:
    """Name of every preset, and what it is."""
    return [(name, load_preset(name).description) for name in _names()]


def load_preset(name: str) -> Preset:
    """Raises UserError for an unknown name."""
    import yaml

    if name not in _names():
        raise UserError(f"there is no preset called {name!r}; the presets are {', '.join(_names())}")
    values = yaml.safe_load((resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return Preset(name, values["description"], tuple(values["text"]), tuple(values["visual"]), values["size"], values["style"])


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml"))
