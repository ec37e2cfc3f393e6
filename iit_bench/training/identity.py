"""What decides which training a folder holds: the recipe, and the values put over it, without where its inputs and data lay on a disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from iit_bench.training.recipe import Loaded
from iit_bench.training.recorded_paths import without_roots


def identity_of(loaded: Loaded) -> dict[str, Any]:
    """What a training must share with the one that it resumes."""
    return {"recipe": loaded.name, "recipe_sha256": loaded.sha256, "overrides": _that_count(loaded.overrides)}


def agrees(known: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether a card or a checkpoint is of the training with this identity; earlier versions recorded paths of data whole."""
    overrides = known.get("overrides")
    recorded = {key: known.get(key) for key in identity}
    return recorded | ({"overrides": _that_count(overrides)} if isinstance(overrides, list) else {}) == identity


def without_paths(overrides: Sequence[str]) -> list[str]:
    """Overrides as they are recorded: of an input folder, or a file of data, only its name."""
    kept = []
    for item in overrides:
        key, _, value = item.partition("=")
        kept.append(f"{key}={Path(value.strip()).name if key.startswith('inputs.') else _named(value)}")
    return kept


def _that_count(overrides: Sequence[str]) -> list[str]:
    """Those that change more of the result than its rounding."""
    return [item for item in without_paths(overrides) if not item.startswith("run.") or item.startswith("run.precision=")]


def _named(value: str) -> str:
    """A value in YAML with the names of paths in place of them; as it is written where it has none."""
    given = yaml.safe_load(value)
    named = without_roots(given)
    return value if named == given else json.dumps(named, ensure_ascii=False)
