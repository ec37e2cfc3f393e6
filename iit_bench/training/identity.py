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


def difference(known: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """What a card or a checkpoint has of another training, in words; empty if it is of this one.

    Earlier versions recorded paths of data whole; they are compared by name.
    """
    if known == identity:
        return ""
    if known.get("recipe") != identity["recipe"]:
        return f"it is of recipe {known.get('recipe')}, and this is {identity['recipe']}"
    if known.get("recipe_sha256") != identity["recipe_sha256"]:
        return f"recipe {identity['recipe']} has changed since"
    overrides = known.get("overrides")
    there, here = _that_count(overrides) if isinstance(overrides, list) else [], identity["overrides"]
    if there == here:
        return ""
    only = [", ".join(_short(item) for item in one if item not in other) or "no others" for one, other in ((here, there), (there, here))]
    return f"--set here: {only[0]}; there: {only[1]}"


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


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 2] + " …"


def _named(value: str) -> str:
    """A value in YAML with the names of paths in place of them; as it is written where it has none."""
    given = yaml.safe_load(value)
    named = without_roots(given)
    return value if named == given else json.dumps(named, ensure_ascii=False)
