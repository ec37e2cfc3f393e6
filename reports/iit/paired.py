"""The page's tables of paired differences: interleaving effect, forgetting, blind gap. Each as a matrix of models × tiers for reading,
and as a list with the test, discordant pairs and detectable difference of every pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iit_bench.types import Figure, Forgetting, PairedResult, tier_order
from reports.cells import PAIRED_COLUMNS, Cell, Column, Table, figure_cell, missing_cell, paired_cell, paired_cells, size, text_cell
from reports.iit.entries import Entry, base_of
from reports.iit.sections import common_n, name_cell

_BOLD = "Small print: 95% interval, p adjusted by Holm over the tiers of a run. Bold: adjusted p < 0.05."


def interleaving(entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(matrix, list), or None where no tier has a history."""
    found = {entry.name: entry.run.results.interleaving for entry in entries}
    if not any(found.values()):
        return None
    caption = f"Accuracy with the history minus accuracy on the same targets without it, in percentage points. {_BOLD}"
    detail = "Every tier (A) against its targets without history (B)."
    return _matrix("interleaving", caption, entries, found), _list("interleaving-detail", detail, "against (B)", entries, found)


def forgetting(entries: Sequence[Entry]) -> tuple[Table, Table, Table] | None:
    """(pooled, one line a model; matrix; list), or None where no run had a base."""
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
        "Model (A) minus its base LLM (B) on the text targets that both answered, all shared tiers pooled. Retention = (acc − chance) / "
        "(base acc − chance), in %: 100 is nothing lost, 0 is all lost that exceeds guessing."
    )
    tiers = {entry.name: result.per_tier for entry, result in with_base}
    owners = [entry for entry, _ in with_base]
    return (
        Table("forgetting", caption, columns, tuple(_pooled_row(entry, result) for entry, result in with_base)),
        _matrix("forgetting-tiers", f"The same difference by tier, in percentage points. {_BOLD}", owners, tiers),
        _forgetting_list(owners, tiers, entries),
    )


def blind_gap(gaps: Mapping[str, Sequence[PairedResult]], entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(matrix, list), or None without a pair of runs. `gaps` goes by the sighted entry's name."""
    owners = [entry for entry in entries if gaps.get(entry.name)]
    if not owners:
        return None
    caption = (
        f"Accuracy on visual targets with images minus the same model's without, in percentage points; V* pools all tiers. {_BOLD} "
        "A model that never looks has no gap."
    )
    detail = "With images (A) against without (B)."
    return _matrix("blind-gap", caption, owners, gaps), _list("blind-gap-detail", detail, "without images (B)", owners, gaps)


# ---------------------------------------------------------------- how they are laid out


def _matrix(key: str, caption: str, entries: Sequence[Entry], found: Mapping[str, Sequence[PairedResult]]) -> Table:
    """Models × tiers; the heading says against what, where that is the same for all, and the most common n."""
    results = {(name, result.over): result for name, line in found.items() for result in line}
    heads, columns = [Column("model", words=True)], [[name_cell(entry) for entry in entries]]
    for tier in _tiers(results):
        column = [results.get((entry.name, tier)) for entry in entries]
        present = [result for result in column if result is not None]
        n = common_n([result.difference for result in present])
        against = {result.against for result in present}
        small = [f"against {next(iter(against))}"] if len(against) == 1 else []
        heads.append(Column(tier, (*small, *([size(n)] if n else [])), code=True))
        columns.append([_matrix_cell(result, entry, tier, n) for result, entry in zip(column, entries, strict=True)])
    return Table(key, caption, tuple(heads), tuple(zip(*columns, strict=True)))


def _matrix_cell(result: PairedResult | None, entry: Entry, tier: str, n: int | None) -> Cell:
    if result is not None:
        return paired_cell(result, show_n=result.difference.n != n)
    own = entry.tiers.get(tier)
    return missing_cell(own.acc.note if own is not None and own.acc.value is None else "no pairs in this run")


def _list(key: str, caption: str, against: str, entries: Sequence[Entry], found: Mapping[str, Sequence[PairedResult]]) -> Table:
    lines = tuple(
        (name_cell(entry), text_cell(result.over), text_cell(result.against), *paired_cells(result))
        for entry in entries
        for result in found[entry.name]
    )
    heads = (Column("model", words=True), Column("tier (A)", words=True), Column(against, words=True), *PAIRED_COLUMNS)
    return Table(key, caption, heads, lines)


def _tiers(results: Mapping[tuple[str, str], PairedResult]) -> list[str]:
    """Tiers from text-only to multimodal-rich, pools ("V*") before them."""
    names = {tier for _, tier in results}
    return sorted(names, key=lambda tier: (not tier.endswith("*"), tier_order(tier)))


def _pooled_row(entry: Entry, result: Forgetting) -> tuple[Cell, ...]:
    base = text_cell(result.base, lines=(f"run {result.base_run}", f"over {', '.join(result.tiers)}"))
    figures: tuple[Figure, ...] = (result.base_acc, result.acc, result.retention)
    return (name_cell(entry), base, *(figure_cell(figure) for figure in figures), *paired_cells(result.pooled))


def _forgetting_list(owners: Sequence[Entry], found: Mapping[str, Sequence[PairedResult]], entries: Sequence[Entry]) -> Table:
    lines = []
    for entry in owners:
        base = base_of(entry, entries)
        for result in found[entry.name]:
            own, its = _own_acc(entry, result.over, ""), _own_acc(base, result.over, "the base run is not on this page")
            lines.append((name_cell(entry), text_cell(result.over), its, own, *paired_cells(result)))
    heads = (Column("model", words=True), Column("tier", words=True), Column("base acc"), Column("acc"), *PAIRED_COLUMNS)
    return Table(
        "forgetting-detail", "Model (A) against base (B) by tier. Accuracies are each run's own on that tier.", heads, tuple(lines)
    )


def _own_acc(entry: Entry | None, tier: str, otherwise: str) -> Cell:
    result = None if entry is None else entry.tiers.get(tier)
    return missing_cell(otherwise) if result is None else figure_cell(result.acc)
