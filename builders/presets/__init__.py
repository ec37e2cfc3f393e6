"""Presets: named choices of sources, one YAML file each in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from iit_bench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named choice of sources, size and style."""

    name: str
    description: str
    text: tuple[str, ...]  # source names
    visual: tuple[str, ...]
    size: int  # targets per modality
    style: str  # default style of the questions


def describe_presets() -> list[tuple[str, str]]:
    """Name and description of each preset."""
    return [(name, load_preset(name).description) for name in _names()]


def load_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        UserError: no preset has this name.
    """
    import yaml

    if name not in _names():
        raise UserError(f"there is no preset called {name!r}; the presets are {', '.join(_names())}")
    values = yaml.safe_load((resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return Preset(
        name=name,
        description=values["description"],
        text=tuple(values["text"]),
        visual=tuple(values["visual"]),
        size=values["size"],
        style=values["style"],
    )


def _names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml"))
