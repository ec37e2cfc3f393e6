"""Converts records to table rows and JSON: the columns of a parquet table are the fields of its record, in order.

pyarrow is imported inside functions, so that the command line starts quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import sys
import types as python_types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from iit_bench.errors import UserError, one_line
from iit_bench.types import Dialogue, Image, Question

TABLE_VERSION = 1
ROW_GROUP = 1000  # rows of a group in a table
BATCH = 32 * ROW_GROUP  # rows that are in memory where a table is read part by part
IMAGE_BYTES = 32 << 20  # a group of rows ends with the image that reaches this


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, UTF-8, no NaN. Every hash of records is computed over it."""
    return _CANONICAL.encode(value)


class WrongField(ValueError):
    """A field of a JSON value that is missing, or of another type."""

    def __init__(self, place: str, *value: Any) -> None:
        """`value`: what it is, and what it must be; none if it is missing."""
        shown = repr(value[0])[:80] if value else ""
        super().__init__(f"its field {place!r} is {shown} and must be {value[1]}" if value else f"it lacks the field {place!r}")


def decode(kind: Any, value: Any, place: str = "") -> Any:
    """Rebuild a record (dataclass, tuple, dict, Optional, …) of type `kind` from its JSON form; the reverse of `dataclasses.asdict`.

    Args:
        kind: the type.
        value: of json.
        place: the field's name in the whole, for errors.

    Raises:
        WrongField: a field is missing or has another type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, python_types.UnionType):
        return None if value is None and type(None) in args else _of_one(args, value, place)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(decode(args[0], item, f"{place}[{number}]") for number, item in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {key: decode(args[1], item, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _record(kind, value, place)
    if _fits(kind, origin, args, value):
        return value
    raise WrongField(place, value, _in_words(kind, origin, args))


def _of_one(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """A value of one of several types."""
    *some, last = [kind for kind in kinds if kind is not type(None)]
    for kind in some:
        with contextlib.suppress(WrongField):
            return decode(kind, value, place)
    return decode(last, value, place)


def _record(kind: Any, value: Mapping[str, Any], place: str) -> Any:
    inside = f"{place}." if place else ""
    values = {}
    for field, hint in _hints(kind):
        if field.name in value:
            values[field.name] = decode(hint, value[field.name], inside + field.name)
        elif not _has_default(field):
            raise WrongField(inside + field.name)
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _fits(kind: Any, origin: Any, args: Sequence[Any], value: Any) -> bool:
    """Whether a value is of a type without parts. Types that JSON does not have are not looked at."""
    if origin is typing.Literal:
        return any(value is one or (type(value) is type(one) and value == one) for one in args)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind in (int, bool, str):
        return type(value) is kind
    return origin not in (tuple, dict, Mapping) and not dataclasses.is_dataclass(kind)


def _in_words(kind: Any, origin: Any, args: Sequence[Any]) -> str:
    if origin is typing.Literal:
        return " or ".join(map(str, args))
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", tuple: "a list"}
    return names.get(origin or kind, "an object")


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


_QUESTION_FIELDS = tuple(f.name for f in dataclasses.fields(Question))
_DIALOGUE_FIELDS = tuple(f.name for f in dataclasses.fields(Dialogue))


def question_row(question: Question) -> dict[str, Any]:
    """A question as JSON values, each image as its sha256: the row that `rows_sha256` hashes."""
    row = {name: getattr(question, name) for name in _QUESTION_FIELDS}
    return row | {"images": [image.sha256 for image in question.images]}


def rows_sha256(questions: Iterable[Question], dialogues: Iterable[Dialogue]) -> str:
    """sha256 of a benchmark's content, independent of pyarrow and of the tables' encoding."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(canonical_json(question_row(question)).encode() + b"\n")
    for dialogue in dialogues:
        digest.update(canonical_json({name: getattr(dialogue, name) for name in _DIALOGUE_FIELDS}).encode() + b"\n")
    return digest.hexdigest()


def _schema(kind: type, about: Mapping[str, str] = MappingProxyType({})) -> Any:
    """The pyarrow schema of a record's table, with the `datasets` features that make images decode in the Hub's viewer."""
    import pyarrow as pa

    simple: dict[Any, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    simple |= {tuple[str, ...]: pa.list_(pa.string()), tuple[int, ...]: pa.list_(pa.int64()), tuple[float, ...]: pa.list_(pa.float64())}
    simple |= {tuple[Image, ...]: pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    hints = typing.get_type_hints(kind)
    types = {f.name: simple.get(hints[f.name], pa.string()) for f in dataclasses.fields(kind)}  # Literals are strings
    metadata = {"iit-bench": canonical_json({"record": kind.__name__, "version": TABLE_VERSION})}
    metadata |= about
    if kind is Question:
        metadata["huggingface"] = canonical_json({"info": {"features": {name: _feature(t) for name, t in types.items()}}})
    return pa.schema(list(types.items()), metadata=metadata)


def _feature(arrow_type: Any) -> dict[str, Any]:
    import pyarrow as pa

    if pa.types.is_list(arrow_type):
        return {"feature": _feature(arrow_type.value_type), "_type": "List"}
    if pa.types.is_struct(arrow_type):
        return {"_type": "Image"}
    return {"dtype": str(arrow_type).replace("double", "float64"), "_type": "Value"}


def table_bytes(kind: type, records: Iterable[Any], about: Mapping[str, str] = MappingProxyType({}), *, checksums: bool = False) -> bytes:
    """Records of one type as a parquet file; the same bytes for the same records and version of pyarrow. Arguments: as of `write_table`."""
    sink = io.BytesIO()
    write_table(kind, records, sink, about, checksums=checksums)
    return sink.getvalue()


def write_table(
    kind: type,
    records: Iterable[Any],
    file: BinaryIO,
    about: Mapping[str, str] = MappingProxyType({}),
    *,
    checksums: bool = False,
) -> None:
    """Write records of one type as a parquet file, one group of rows after another, so that only one is in memory.

    Args:
        about: texts for the file's metadata, which `read_about` reads.
        checksums: in each page, for a table whose hash is nowhere else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(kind, about)
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=checksums) as writer:
        for columns in _row_groups(kind, records):
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
            pa.default_memory_pool().release_unused()  # which otherwise keeps a fifth of a benchmark


def _row_groups(kind: type, records: Iterable[Any]) -> Iterator[dict[str, list[Any]]]:
    """The columns of each group of rows; of no records, one empty group."""
    names = [f.name for f in dataclasses.fields(kind)]
    rows: list[Any] = []
    image_bytes = written = 0
    for record in records:
        if len(rows) == ROW_GROUP or image_bytes >= IMAGE_BYTES:
            yield {name: _column(rows, name) for name in names}
            written += len(rows)
            rows, image_bytes = [], 0
        rows.append(record)
        if kind is Question:
            image_bytes += sum(len(image.data) for image in record.images)
    if rows or not written:
        yield {name: _column(rows, name) for name in names}


def _column(rows: Sequence[Any], name: str) -> list[Any]:
    """The cells of a column; pyarrow takes tuples for lists."""
    if name == "images":
        return [[{"bytes": image.data, "path": None} for image in row.images] for row in rows]
    return [getattr(row, name) for row in rows]


def read_table(kind: type, paths: Sequence[Path]) -> list[Any]:
    """The records of a table written by `table_bytes`; a field with a default may lack its column, as in tables of earlier versions.

    Equal images, equal texts and equal sequences of texts are one object, however many records have them.

    Raises:
        UserError: not such a table, or it holds what no record has (`table_values`).
    """
    from iit_bench.storage.table_values import check_keys, check_values, key_of

    records: list[Any] = []
    known: dict[Any, Any] = {}
    for path in paths:
        first = len(records)
        with _opened(kind, path) as file:
            names = _columns(kind, path, file.schema_arrow.names, [f.name for f in dataclasses.fields(kind)])
            for batch in file.iter_batches(batch_size=ROW_GROUP, columns=names):
                check_values(kind, {name: _as_array(batch.column(name)) for name in names}, path, len(records) - first)
                columns = [[_value(cell, known) for cell in batch.column(name).to_pylist()] for name in names]
                records += [kind(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        if key := key_of(kind):
            check_keys(kind, ([getattr(one, name) for name in key] for one in records[first:]), path)
    return records


def read_about(kind: type, path: Path, name: str) -> str | None:
    """The text of this name in a table's metadata; None if it has none.

    Raises:
        UserError: not a table.
    """
    with _opened(kind, path) as file:
        found = (file.schema_arrow.metadata or {}).get(name.encode())
        return None if found is None else found.decode()


def check_pages(kind: type, path: Path) -> None:
    """Read a table once, a group of rows at a time; pages that have checksums are compared with them.

    Raises:
        UserError: not such a table, or a page was changed.
    """
    with _opened(kind, path) as file:
        for _ in file.iter_batches(batch_size=ROW_GROUP):
            pass


def read_columns(kind: type, path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Columns of such a table as pyarrow arrays by name; one that the table lacks, and whose field has a default, is left out.

    Raises:
        UserError: not such a table, or it holds what no record has (`table_values`).
    """
    from iit_bench.storage.table_values import check_values

    with _opened(kind, path) as file:
        table = file.read(columns=_columns(kind, path, file.schema_arrow.names, names))
    columns = {name: _as_array(table.column(name)) for name in table.column_names}
    check_values(kind, columns, path)
    return columns


def read_batches(kind: type, path: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """As `read_columns`, `BATCH` rows after another, so that only these are in memory; of a table without rows one empty batch.

    Raises:
        UserError: not such a table, or it holds what no record has (`table_values`).
    """
    from iit_bench.storage.table_values import check_values

    first = 0
    with _opened(kind, path) as file:
        wanted = _columns(kind, path, file.schema_arrow.names, names)
        batches = file.iter_batches(batch_size=BATCH, columns=wanted) if file.metadata.num_rows else (file.read(columns=wanted),)
        for batch in batches:
            columns = {name: _as_array(batch.column(name)) for name in wanted}
            check_values(kind, columns, path, first)
            first += batch.num_rows
            yield columns


def _as_array(column: Any) -> Any:
    """One array instead of chunks."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def columns_of(kind: type, records: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """What `read_columns` would give of a table of these records."""
    import pyarrow as pa

    schema = _schema(kind)
    return {name: pa.array(_column(records, name), type=schema.field(name).type) for name in names}


@contextmanager
def _opened(kind: type, path: Path) -> Iterator[Any]:
    """A table's file, whose errors are UserErrors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{str(path)!r} is not a readable parquet table of {kind.__name__} records: {one_line(error)}; make the folder again"
        ) from error


def _columns(kind: type, path: Path, there: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of `names` that are read: a column that the table lacks has to have a default."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    wanted = [name for name in names if name in there or not _has_default(fields[name])]
    if missing := sorted(set(wanted) - set(there)):
        raise UserError(f"{str(path)!r} lacks the columns {missing}; it was written by another program or version, make the folder again")
    return wanted


def _value(cell: Any, known: dict[Any, Any]) -> Any:
    if isinstance(cell, list):
        values = tuple(_value(item, known) for item in cell)
        return known.setdefault(values, values) if values and isinstance(values[0], str) else values
    if isinstance(cell, dict):
        data = cell["bytes"]
        return known.get(data) or known.setdefault(data, Image(data))
    return known.setdefault(cell, cell) if isinstance(cell, str) else cell
