"""Every number of a results.json changed, one after the other: at which places a reader finds another figure than before."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from evaluators.runs.contradictions import agreeing
from iit_bench.errors import UserError
from iit_bench.storage.tables import decode


def as_json(results: Any) -> dict[str, Any]:
    """What results.json holds of it."""
    return json.loads(json.dumps(dataclasses.asdict(results)))  # type: ignore[no-any-return]


def changed_numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every copy of a JSON value with one of its numbers, or true and false, changed, and where."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for place, other in changed_numbers(inner, f"{path}.{key}"):
                whole = copy.copy(value)
                whole[key] = other
                yield place, whole
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, (int, float)):
        yield path, value + 1 if isinstance(value, int) else value * 0.9 + 0.01


def unnoticed(run: Any, kind: type, part: dict[str, Any], every: bool = False) -> list[str]:
    """Where a number of results.json can be changed so that a reader finds another one."""
    whole = agreeing(run, every).results
    found = []
    for place, changed in changed_numbers(part):
        try:
            results = decode(kind, as_json(run.results) | changed)
            if agreeing(dataclasses.replace(run, results=results), every).results != whole:
                found.append(place)
        except UserError:
            pass
    return found
