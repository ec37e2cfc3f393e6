"""How a table's answers name the right choice: decided once for the whole column, and refused where two readings fit and differ.

In a column of numbers over the choices "1" and "2", 1 may be the first choice, the second, or the choice that is called "1". Nothing is
guessed: `--answers` decides.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from builders.sources.columns import as_text, check_source
from iit_bench.errors import UserError

AUTO, YES_NO = "auto", "yes/no"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A row's answer, with what it may refer to."""

    row: int  # 1-based, for messages
    cell: Any  # as in the table
    choices: tuple[str, ...]
    labels: tuple[str, ...] = ()  # what the answers call the choices; () = the table has no such column


def _text(one: Answered) -> int | None:
    text = as_text(one.cell)
    return one.choices.index(text) if text in one.choices else None


def _label(one: Answered) -> int | None:
    text = as_text(one.cell)
    return one.labels.index(text) if text in one.labels else None


def _letter(one: Answered) -> int | None:
    if not isinstance(one.cell, str):
        return None
    letter = re.fullmatch(r"\(?([A-Za-z])[).:]?", one.cell.strip())
    position = string.ascii_uppercase.index(letter[1].upper()) if letter else len(one.choices)
    return position if position < len(one.choices) else None


def _number(one: Answered, first: int) -> int | None:
    whole = isinstance(one.cell, float) and one.cell.is_integer()  # numbers of a column that has gaps are floats
    text = as_text(int(one.cell) if whole else one.cell)
    if isinstance(one.cell, bool) or not re.fullmatch("[0-9]{1,9}", text):
        return None
    position = int(text) - first
    return position if 0 <= position < len(one.choices) else None


# Reading → the index of the choice that an answer names, None if it names none.
READINGS: dict[str, Callable[[Answered], int | None]] = {
    "text": _text,
    "letter": _letter,
    "from-0": lambda one: _number(one, 0),
    "from-1": lambda one: _number(one, 1),
}


def parse_answers(given: Sequence[str], sources: Iterable[str] | None = None) -> dict[str, str]:
    """Source ("" = every table) → reading, as `--answers` names them.

    Args:
        sources: that the command names; None = not checked.

    Raises:
        UserError: an unknown reading, or a source that the command does not name.
    """
    parsed = {}
    for one in given:
        source, _, reading = one.rpartition(":")
        check_source("--answers", source, sources)
        if reading not in (AUTO, *READINGS):
            raise UserError(f"--answers {reading!r} is not known; use {AUTO}, {', '.join(READINGS)}")
        parsed[source] = reading
    return parsed


def read_answers(table: str, rows: Sequence[Answered], how: str) -> tuple[str, list[int | None]]:
    """The reading, and per row the index of the right choice; None where the reading finds none.

    Args:
        table: for messages.
        rows: those that have an answer and choices.
        how: a reading, or "auto": the one that fits every row. A column of labels is always read as labels.

    Raises:
        UserError: no reading fits every row, or several do and they differ.
    """
    if any(one.labels for one in rows):
        return "label", [_label(one) for one in rows]
    found = {name: [read(one) for one in rows] for name, read in READINGS.items() if how in (AUTO, name)}
    if how != AUTO:
        return how, found[how]
    fitting = {name: indices for name, indices in found.items() if None not in indices}
    if not fitting:
        raise UserError(_none_fits(table, rows, found))
    name, indices = next(iter(fitting.items()))
    for other, others in fitting.items():
        if others != indices:
            row = next(row for row, a, b in zip(rows, indices, others, strict=True) if a != b)
            raise UserError(
                f"the answers of table {table!r} can be read as {name} and as {other}: {as_text(row.cell)!r} in row {row.row}, with the "
                f"choices {_shown(row.choices)}; name the right reading with --answers {' or '.join(fitting)}"
            )
    return name, indices


def _none_fits(table: str, rows: Sequence[Answered], found: dict[str, list[int | None]]) -> str:
    best = max(found, key=lambda name: len(rows) - found[name].count(None))
    row = rows[found[best].index(None)]
    return (
        f"no reading fits all {len(rows)} answers of table {table!r}: {best} fits {len(rows) - found[best].count(None)}, but not "
        f"{as_text(row.cell)!r} in row {row.row}, with the choices {_shown(row.choices)}; correct such rows, or leave them out, counted, "
        f"with --answers {best}"
    )


def _shown(choices: Sequence[str]) -> str:
    shown = ", ".join(repr(choice if len(choice) <= 40 else choice[:39] + "…") for choice in choices[:4])
    return shown + (f" and {len(choices) - 4} more" if len(choices) > 4 else "")
