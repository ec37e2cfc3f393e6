"""Every way in which one part of a JSON value can be changed."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

_ROWS = 3  # of a table that are changed


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


def damaged_tables(data: bytes) -> Iterator[bytes]:
    """A whole parquet table with one value of its first rows changed or missing, or a row removed, doubled, or at another place.

    Nothing of a file that is no table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:
        return
    rows = table.to_pylist()
    tables = [rows[1:], [*rows, rows[0]], [*rows[1:], rows[0]]]
    for place, row in enumerate(rows[:_ROWS]):
        for name, value in row.items():
            others = [None] if value is None else [None, *_other_values(value)]
            tables += [[*rows[:place], {**row, name: other}, *rows[place + 1 :]] for other in others if other != value]
    for changed_rows in tables:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(changed_rows, schema=table.schema), sink)
        yield sink.getvalue()


def _other_values(value: Any) -> Iterator[Any]:
    """Other values of the same type."""
    if isinstance(value, bytes):
        yield value + b"x"
    elif isinstance(value, (dict, list)):
        yield type(value)()
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value + 1
    else:
        yield from damages(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each part of a JSON value, without the whole."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any, drop: bool) -> Any:
    """The value with the part at `path` replaced by `new`, or left out."""
    whole = copy.deepcopy(value)
    part = whole
    for key in path[:-1]:
        part = part[key]
    if drop:
        del part[path[-1]]
    else:
        part[path[-1]] = new
    return whole
