"""What of a path is written into the folder of a trained model, which may be published: from the root of a disk, its last name only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = ("llm", "tower", "model", "source", "images")  # of a recipe, whose value may be a path


def without_root(path: str) -> str:
    """The last name of a path from the root of a disk or from a home; any other text as it is."""
    return Path(path).name if path.startswith("~") or Path(path).is_absolute() else path


def without_roots(value: Any) -> Any:
    """A part of a recipe, with `without_root` of its paths."""
    if isinstance(value, Mapping):
        return {key: without_root(one) if key in KEYS and isinstance(one, str) else without_roots(one) for key, one in value.items()}
    return [without_roots(one) for one in value] if isinstance(value, list | tuple) else value
