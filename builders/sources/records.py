"""Rows of a JSONL, JSON, CSV, TSV or parquet file as records, one after another; cells are what the file has, never guessed.

In CSV and TSV every cell is text: "NA", "None" and "01" are words.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from builders.sources.columns import Record
from iit_bench.errors import UserError, one_line
from iit_bench.tools.vlmevalkit import FIELD_LIMIT


def records(path: Path) -> Iterator[Record]:
    """The rows of a file.

    Raises:
        UserError: there is no such file, its kind is not known, or it is damaged; names the line where there is one.
    """
    read = READERS.get(path.suffix.casefold())
    if read is None:
        raise UserError(f"{str(path)!r} is not a table that can be read; use {', '.join(READERS)}")
    if not path.is_file():
        raise UserError(f"there is no table {str(path)!r}; check its path")
    try:
        yield from read(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is not in UTF-8 ({one_line(error)}); save it in UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r} ({one_line(error)}); check the file") from error


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(path, number, "line", _parsed(path, line, f"line {number}"))


def _json(path: Path) -> Iterator[Record]:
    rows = _parsed(path, path.read_text(encoding="utf-8-sig"), "the file")
    if not isinstance(rows, list):
        raise UserError(f"{str(path)!r} holds no list of records; write a list of objects, or one object per line as .jsonl")
    for number, row in enumerate(rows, 1):
        yield _object(path, number, "record", row)


def _parsed(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} of {str(path)!r} is not JSON ({one_line(error)}); correct it") from error


def _object(path: Path, number: int, what: str, row: Any) -> Record:
    if not isinstance(row, dict):
        raise UserError(f'{what} {number} of {str(path)!r} is no object with named columns; write {{"question": …, "answer": …}}')
    return row


def _separated(delimiter: str) -> Callable[[Path], Iterator[Record]]:
    def read(path: Path) -> Iterator[Record]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            header = _next(path, rows) or []
            if repeated := sorted({name for name in header if header.count(name) > 1}):
                raise UserError(f"{str(path)!r} has two columns called {repeated[0]!r}; rename one")
            while (cells := _next(path, rows)) is not None:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UserError(
                        f"the row that ends in line {rows.line_num} of {str(path)!r} has {len(cells)} cells, the header {len(header)}; "
                        "quote cells that hold the separator or a line break"
                    )
                yield dict(zip(header, cells, strict=True))

    return read


def _next(path: Path, rows: Any) -> list[str] | None:
    """The next row; None at the end. csv's limit on the size of a cell is process-wide: it is raised for each row and restored."""
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        row: list[str] | None = next(rows, None)
    except csv.Error as error:
        raise UserError(f"line {rows.line_num} of {str(path)!r} is not well formed ({one_line(error)}); correct its quotes") from error
    finally:
        csv.field_size_limit(limit)
    return row


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{str(path)!r} is not a readable parquet file ({one_line(error)}); write it again") from error


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
}
