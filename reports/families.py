"""One family of tests per page: what a page prints in bold is corrected over all that it could print in bold (Holm).

Results of a run keep the families that they were made with; a reader of a page looks at all of its tables, so the page corrects anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from evaluators.statistics import holm
from reports.cells import ALPHA, Cell, Table, count, number_cell, p_line, p_value
from reports.section import Alternatives, Beside, Folded, Part, Section, TablePart, Words

PartT = TypeVar("PartT", bound=Part)


def one_family(sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The sections of a page with p-values adjusted over all tests that may be bold on it, and how many there are.

    A test that stands in several tables counts once. Cells that show the adjusted p of such a test elsewhere show the same.
    """
    tests = {id(cell.test): cell.test.p for section in sections for cell in _cells(section.parts) if cell.test is not None and cell.judged}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    if not adjusted:
        return sections
    note = Words(
        f"Bold: p < {ALPHA:g} after Holm's correction over the {count(len(adjusted))} tests that this page may print in bold.", "fine"
    )
    return tuple(_noted(_corrected_section(section, adjusted), note) for section in sections)


def _noted(section: Section, note: Words) -> Section:
    judged = any(cell.judged for cell in _cells(section.parts))
    return replace(section, parts=(*section.parts, note)) if judged else section


def _corrected_section(section: Section, adjusted: dict[int, float | None]) -> Section:
    return replace(section, parts=tuple(_mapped(part, lambda cell: _corrected(cell, adjusted)) for part in section.parts))


def _corrected(cell: Cell, adjusted: dict[int, float | None]) -> Cell:
    if cell.test is None or id(cell.test) not in adjusted:
        return cell
    p = adjusted[id(cell.test)]
    if not cell.judged:
        return replace(number_cell(p, p_value(p)), test=cell.test)
    return replace(cell, strong=p is not None and p < ALPHA, lines=(*cell.lines[:-1], p_line(p)))


def _mapped(part: PartT, change: Callable[[Cell], Cell]) -> PartT:
    """The part with every cell of its tables, and of the parts in it, changed."""
    if isinstance(part, TablePart):
        return replace(part, table=_mapped_table(part.table, change))
    if isinstance(part, Folded | Beside):
        return replace(part, parts=tuple(_mapped(one, change) for one in part.parts))
    if isinstance(part, Alternatives):
        options = tuple((label, tuple(_mapped(one, change) for one in parts)) for label, parts in part.options)
        return replace(part, options=options)
    return part


def _mapped_table(table: Table, change: Callable[[Cell], Cell]) -> Table:
    rows, foot = (tuple(tuple(change(cell) for cell in row) for row in lines) for lines in (table.rows, table.foot))
    return replace(table, rows=rows, foot=foot)


def _cells(parts: tuple[Part, ...]) -> Iterator[Cell]:
    for part in parts:
        if isinstance(part, TablePart):
            yield from (cell for row in (*part.table.rows, *part.table.foot) for cell in row)
        elif isinstance(part, Folded | Beside):
            yield from _cells(part.parts)
        elif isinstance(part, Alternatives):
            for _, inner in part.options:
                yield from _cells(inner)
