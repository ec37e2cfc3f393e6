"""`--columns`: which columns of a table hold what a question needs, and how a cell is read.

`--columns question=q,choices=opts,answer=gold,images=img` holds for every table of the command; `--columns my.jsonl:question=q` for one
source. A field that is not named is the column of its own name, if the table has one. A column may be `a.b` (field b inside a), or
`A+B+C+D` (several columns as one list).
"""

from __future__ import annotations

import json
import math
from ast import literal_eval
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iit_bench.errors import UserError

# Field → what its column holds.
FIELDS = {
    "question": "its words; an <image> mark places each image",
    "choices": "a list of texts, or an object of label → text; none for questions that are answered Yes or No",
    "answer": "the right one: see --answers",
    "images": "one or a list of: bytes, a path below the table's folder, base64, a data URL, an Image of `datasets`",
    "labels": "what the answers call the choices, a list beside them",
    "id": "unique in the table",
    "subject": "category",
    "cluster": "what several questions share, such as a passage",
    "language": "BCP 47",
}
NEEDED = ("question", "answer")
Record = Mapping[str, Any]  # column → cell


@dataclass(frozen=True)
class Columns:
    """The column of each field that a table has."""

    of: Mapping[str, str]

    def cell(self, field: str, record: Record) -> Any:
        """A record's cell; None if the table has no such column or the record nothing in it."""
        name = self.of.get(field)
        return None if name is None else _lookup(record, name)

    def text(self, field: str, record: Record) -> str:
        """A cell as text, without outer white space; "" for none."""
        return as_text(self.cell(field, record))


def parse_columns(given: Sequence[str], sources: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Source ("" = every table) → field → column, as `--columns` names them.

    Args:
        sources: that the command names; None = not checked.

    Raises:
        UserError: not FIELD=COLUMN, an unknown field, or a source that the command does not name.
    """
    parsed: dict[str, dict[str, str]] = {}
    for one in given:
        start, _, _ = one.partition("=")
        source, _, _ = start.rpartition(":")
        check_source("--columns", source, sources)
        for pair in one[len(source) + 1 if source else 0 :].split(","):
            field, equals, column = (part.strip() for part in pair.partition("="))
            if not equals or not column:
                raise UserError(f"--columns {one!r} is not FIELD=COLUMN,…; write e.g. --columns question=q,choices=options,answer=gold")
            if field not in FIELDS:
                raise UserError(f"--columns knows no field {field!r}; the fields are {', '.join(FIELDS)}")
            parsed.setdefault(source, {})[field] = column
    return parsed


def check_source(option: str, source: str, sources: Iterable[str] | None) -> None:
    """Check that an option speaks of a source that the command names; "" is every source, None for `sources` is no check.

    Raises:
        UserError: it does not.
    """
    if source and sources is not None and source not in (known := list(sources)):
        raise UserError(f"{option} names the source {source!r}, and the command has {', '.join(known)}; write it as there")


def columns_of(table: str, given: Mapping[str, str], there: Sequence[str]) -> Columns:
    """The column of each field.

    Args:
        table: for messages.
        given: field → column, from `--columns`.
        there: the table's columns.

    Raises:
        UserError: a column is missing.
    """
    of = {field: given.get(field, field) for field in FIELDS if field in given or field in there}
    missing = {field: name for field, name in of.items() if not _exists(name, there)} | {one: one for one in NEEDED if one not in of}
    if missing:
        field, name = next(iter(missing.items()))
        role = "" if field == name else f" for the {field}"
        raise UserError(
            f"table {table!r} has no column {name!r}{role}; its columns are {', '.join(map(str, there))}; name the right one with "
            f"--columns {field}=COLUMN"
        )
    return Columns(of)


def _exists(name: str, there: Sequence[str]) -> bool:
    return name in there or all(part in there or part.split(".")[0] in there for part in name.split("+"))


def _lookup(record: Record, name: str) -> Any:
    if name in record:
        return record[name]
    if "+" in name:
        cells = [_lookup(record, part) for part in name.split("+")]
        while cells and cells[-1] in (None, ""):  # a question with fewer choices leaves the last columns empty
            cells.pop()
        return cells
    cell: Any = record
    for part in name.split("."):
        cell = [_inside(one, part) for one in cell] if isinstance(cell, (list, tuple)) else _inside(cell, part)
    return cell


def _inside(cell: Any, name: str) -> Any:
    return cell.get(name) if isinstance(cell, Mapping) else None


def as_text(cell: Any) -> str:
    """A cell as text, as Python writes it, without outer white space; "" for None and NaN, which a parquet file has for missing numbers."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(cell).strip()


def as_list(cell: Any) -> list[Any] | None:
    """A cell as a list: one already, or the text of a JSON or Python list; None if it is neither."""
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if not isinstance(cell, str) or not cell.strip().startswith("["):
        return None
    for read in (json.loads, literal_eval):
        try:
            value = read(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return list(value) if isinstance(value, (list, tuple)) else None
    return None
