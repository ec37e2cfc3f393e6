"""The page's section on IIT's text-only forgetting: every model against its base LLM on the text targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iit_bench.types import Figure, Forgetting, PairedResult
from reports.cells import PAIRED_COLUMNS, Cell, Column, Table, figure_cell, missing_cell, paired_cells, text_cell
from reports.entries import Entry, base_of
from reports.iit.paired import BOLD, matrix
from reports.shared import name_cell


def forgetting(entries: Sequence[Entry]) -> tuple[Table, Table, Table] | None:
    """(pooled, one line per model; matrix; list), or None where no run had a base."""
    mine = {entry.name: entry.run.results.forgetting for entry in entries}
    with_base = [(entry, result) for entry in entries if (result := mine[entry.name]) is not None]
    if not with_base:
        return None
    columns = (
        Column("model", words=True),
        Column("base", words=True),
        Column("base acc"),
        Column("acc"),
        Column("retention", ("of what exceeds chance",)),
        *PAIRED_COLUMNS,
    )
    caption = (
        "Base LLM (A) minus model (B) on the text targets that both answered, all shared tiers pooled: positive is lost. "
        "Retention = (acc − chance) / (base acc − chance), in %: 100 is nothing lost, 0 is all lost that exceeds guessing."
    )
    tiers = {entry.name: result.per_tier for entry, result in with_base}
    owners = [entry for entry, _ in with_base]
    return (
        Table("forgetting", caption, columns, tuple(_pooled_row(entry, result) for entry, result in with_base)),
        matrix("forgetting-tiers", f"The same difference by tier, in percentage points. {BOLD}", owners, tiers),
        _forgetting_list(owners, tiers, entries),
    )


def _pooled_row(entry: Entry, result: Forgetting) -> tuple[Cell, ...]:
    apart = [f"{what}: {' there, '.join(values)} here" for what, values in result.asked_apart.items()]
    base = text_cell(result.base, lines=(f"run {result.base_run}", f"over {', '.join(result.tiers)}", *apart))
    figures: tuple[Figure, ...] = (result.base_acc, result.acc, result.retention)
    return (name_cell(entry), base, *(figure_cell(figure) for figure in figures), *paired_cells(result.pooled))


def _forgetting_list(owners: Sequence[Entry], results: Mapping[str, Sequence[PairedResult]], entries: Sequence[Entry]) -> Table:
    lines = []
    for entry in owners:
        base = base_of(entry, entries)
        for result in results[entry.name]:
            own, its = _own_acc(entry, result.over, ""), _own_acc(base, result.over, "the base run is not in this table")
            lines.append((name_cell(entry), text_cell(result.over), its, own, *paired_cells(result)))
    heads = (Column("model", words=True), Column("tier", words=True), Column("base acc"), Column("acc"), *PAIRED_COLUMNS)
    return Table("forgetting-detail", "Base (A) minus model (B) by tier. Accuracies are each run's own on that tier.", heads, tuple(lines))


def _own_acc(entry: Entry | None, tier: str, otherwise: str) -> Cell:
    result = None if entry is None else entry.tiers.get(tier)
    return missing_cell(otherwise) if result is None else figure_cell(result.acc)
