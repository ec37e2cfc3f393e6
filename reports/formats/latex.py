"""A table as LaTeX (booktabs), for \\input in a paper. Names and notes are untrusted: no command in them survives."""

from __future__ import annotations

from collections.abc import Iterable

from reports.cells import Cell, Column, Table
from reports.page import visible

# Only commands that every engine has without a package.
_SPELT = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # behind the \\ of a row, [ and * would be its arguments
    "]": "{]}",
    "*": "{*}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "⟨": r"\textless{}",  # of `visible`
    "⟩": r"\textgreater{}",
}
HEAD = "% Needs \\usepackage{booktabs}; UTF-8.\n"


def latex(table: Table) -> str:
    """A `table` environment with caption and label, one line per row."""
    marks = "".join("l" if column.words else "r" for column in table.columns)
    foot = [r"\midrule", *map(_row, table.foot)] if table.foot else []
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{words(table.caption)}}}",
        rf"\label{{tab:iit-{table.key}}}",
        rf"\begin{{tabular}}{{{marks}}}",
        r"\toprule",
        _line(words(column.label) for column in table.columns),
        *([_line(map(_small, table.columns))] if any(column.small for column in table.columns) else []),
        r"\midrule",
        *map(_row, table.rows),
        *foot,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def words(text: str) -> str:
    """A text on one line, in which nothing is a command."""
    return "".join(_SPELT.get(char, char) for char in visible(text).replace("\n", " ").replace("\t", " "))


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _small(column: Column) -> str:
    return rf"{{\scriptsize {words(', '.join(column.small))}}}" if column.small else ""


def _row(row: Iterable[Cell]) -> str:
    return _line(map(_cell, row))


def _cell(cell: Cell) -> str:
    small = words("; ".join(cell.lines))
    return rf"{words(cell.text)} {{\scriptsize ({small})}}" if small else words(cell.text)
