"""Tables of differences between methods of the experiment."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.lab.claims import Pairing
from evaluators.lab.effects import Effect
from evaluators.lab.findings import Findings
from iit_bench.lab.cells import rate_word
from reports.cells import ALPHA, Cell, Column, Table, figure_cell, in_percent, p_line, text_cell
from reports.section import Part, Section, TablePart, Words, none


def effect_cell(effect: Effect) -> Cell:
    """A difference with its interval, n and adjusted p; bold where p (Holm) is below 0.05."""
    cell = figure_cell(effect.figure, signed=True, strong=effect.p_holm is not None and effect.p_holm < ALPHA)
    if cell.missing or effect.p_holm is None:
        return cell
    return Cell(cell.text, (*cell.lines, p_line(effect.p_holm)), cell.sort, cell.title, cell.strong)


def pairs(key: str, heading: str, found: Findings, made: Sequence[Pairing]) -> Section:
    """A row per two methods and rate; p adjusted over the table."""
    if not made:
        return none(key, heading, "the cells for it are not there.")
    columns = (
        Column("difference", ("rate of both",), words=True),
        Column("text alone", ("points",)),
        Column("text after an image", ("points",)),
        Column("VQA", ("points",)),
        Column("seeds", ("fewer of both",)),
    )
    rows = []
    for one in made:
        name = f"{found.grid.label(one.over)} − {found.grid.label(one.against)}"
        seeds = Cell(str(one.seeds), sort=one.seeds)
        rows.append((text_cell(name, lines=(f"rate {rate_word(one.rate)}",)), *map(effect_cell, one.effects), seeds))
    caption = f"{heading}. Small print: 95% interval, n, p (Holm, over this table). Bold: p < 0.05."
    return Section(key, heading, (TablePart(Table(f"{key}-table", caption, columns, tuple(rows))),))


def equal_vqa(found: Findings) -> tuple[Part, ...]:
    """What each main method keeps more than full tuning at the VQA accuracy of the latter."""
    if not found.equal_vqa:
        return (Words("Not available: the cells for it are not there.", "none"),)
    columns = (
        Column("method", ("its rates",), words=True),
        Column("full tuning", ("rate, VQA",), words=True),
        Column("text alone", ("points",)),
        Column("text after an image", ("points",)),
    )
    rows = []
    for one in found.equal_vqa:
        low, high = one.between or (0.0, 0.0)
        words = "none reaches it" if one.between is None else rate_word(low) if low == high else f"{rate_word(low)} to {rate_word(high)}"
        level = "" if one.vqa is None else in_percent(one.vqa)
        full = text_cell(rate_word(one.rate), lines=(level,) if level else ())
        rows.append((text_cell(found.grid.label(one.method), lines=(words,)), full, effect_cell(one.text), effect_cell(one.after)))
    caption = "Method − full tuning where both have the same VQA, interpolated between rates of the method. p (Holm) over this table."
    return (TablePart(Table("equal-table", caption, columns, tuple(rows))),)
