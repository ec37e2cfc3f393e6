"""A table as Markdown, as GitHub and the Hub show it. Names and notes are untrusted: no markup in them survives."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.cells import Cell, Column, Table
from reports.page import visible

_MARKUP = frozenset("\\`*_{}[]<>#!|~$&@:")  # what Markdown, its tables, mathematics, mentions and bare links begin with
_BARE = re.compile(r"(?i)\b(www)\.")  # GitHub makes links of such addresses


def markdown(table: Table) -> str:
    """The caption, the table, and its rows for comparison."""
    rows = [_line(map(_cell, row)) for row in (*table.rows, *table.foot)]
    rule = _line(":--" if column.words else "--:" for column in table.columns)
    return "\n".join([words(table.caption), "", _line(map(_head, table.columns)), rule, *rows, ""])


def words(text: str) -> str:
    """A text on one line, in which nothing is markup."""
    shown = "".join(f"&#{ord(char)};" if char in _MARKUP else char for char in " ".join(visible(text).split()))
    return _BARE.sub(r"\1&#46;", shown)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    return " ".join(filter(None, (words(column.label), words(", ".join(column.small)))))


def _cell(cell: Cell) -> str:
    small = words("; ".join(cell.lines))
    return f"{words(cell.text)} ({small})" if small else words(cell.text)
