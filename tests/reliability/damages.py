"""Every way in which one part of a JSON value can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def damages(value: Any) -> Iterator[Any]:
    """The value with one part of it changed, taken away, or one added: each leaf and each key in turn."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: one for name, one in value.items() if name != key}
            yield {(f"{name}x" if name == key else name): one for name, one in value.items()}
            for damaged in damages(inner):
                yield value | {key: damaged}
    elif isinstance(value, list):
        yield [*value, value[-1] if value else 0]
        for place, inner in enumerate(value):
            yield [*value[:place], *value[place + 1 :]]
            for damaged in damages(inner):
                yield [*value[:place], damaged, *value[place + 1 :]]
    elif isinstance(value, bool) or value is None:
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
        yield float(value) + 1e-9
    else:
        yield f"{value}x"
