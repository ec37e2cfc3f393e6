"""The rows of `figures` as one CSV file: comma, quotes where needed, UTF-8, line feeds; numbers with all their digits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

from reports.formats.figures import COLUMNS, Row
from reports.page import visible

_FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet runs a cell that begins so


def csv_text(rows: Iterable[Row]) -> str:
    """The file's content: a line of column names, then a line per figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(value) for value in astuple(row)] for row in rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    """A value as a cell: "" for None; words with invisible characters spelt out, and none of them a formula of a spreadsheet."""
    if not isinstance(value, str):
        return "" if value is None else repr(value) if isinstance(value, float) else value
    words = visible(value)
    return f"'{words}" if words.startswith(_FORMULA) else words
