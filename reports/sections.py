"""The page's tables of results, each a pure function from entries to a `Table` (or several)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from iit_bench.types import Breakdown, Figure, PairedResult, TierResult, tier_order
from reports.cells import (
    PAIRED_COLUMNS,
    Cell,
    Column,
    Table,
    count,
    figure_cell,
    missing_cell,
    number_cell,
    paired_cell,
    paired_cells,
    percent,
    text_cell,
)
from reports.entries import Entry, all_tiers

# On-disk name of a metric -> its short label and what it is.
METRICS = {
    "acc": ("acc", "the choice with the highest log-probability (or the choice extracted from a generated reply)"),
    "acc_norm": ("acc_norm", "log-probability divided by the choice's characters"),
    "acc_bytes": ("acc_bytes", "log-probability divided by the choice's UTF-8 bytes"),
    "acc_corrected": ("chance-corrected", "(acc − chance) / (1 − chance): 0 is guessing, 100 is perfect"),
}


def name_cell(entry: Entry) -> Cell:
    return Cell(entry.name, sort=entry.name.casefold(), style=entry.style, badges=entry.badges, words=True)


# ---------------------------------------------------------------- leaderboard


def leaderboard(entries: Sequence[Entry], metric: str) -> Table:
    """Models × (IIT, T score, V score, every tier), one metric."""
    tiers = all_tiers(entries)
    strict = metric == "acc"
    columns: list[tuple[Column, Callable[[Entry], tuple[Figure, Figure | None]]]] = []
    for label, attribute, ending in (("IIT", "iit", "TV"), ("T score", "t_score", "T"), ("V score", "v_score", "V")):
        small = "mean of all tiers" if attribute == "iit" else f"tiers ending in {ending}"
        columns.append((Column(label, small), _score_of(attribute, metric, ending, strict)))
    for position, tier in enumerate(tiers):
        columns.append((Column(tier, code=True, divider=position == 0), _tier_of(tier, metric, strict)))
    figures = [[pick(entry) for _, pick in columns] for entry in entries]
    heads: list[Column] = [Column("model", words=True)]
    cells: list[list[Cell]] = [[name_cell(entry)] for entry in entries]
    for i, (column, _) in enumerate(columns):
        sizes = {row[i][0].n for row in figures if row[i][0].value is not None}
        size = f"n {count(next(iter(sizes)))}" if len(sizes) == 1 else ""
        heads.append(Column(column.label, "; ".join(filter(None, (column.small, size))), code=column.code, divider=column.divider))
        for entry, row, cell_row in zip(entries, figures, cells, strict=True):
            cell = figure_cell(row[i][0], show_n=not size, strict=row[i][1])
            cell_row.append(cell if column.code else _with_tiers(cell, entry, tiers))
    label, meaning = METRICS[metric]
    caption = f"{label} in %: {meaning}. Small print: 95% interval. Tiers from text-only (left) to multimodal-rich (right)."
    return Table(f"leaderboard-{metric}", caption, tuple(heads), tuple(map(tuple, cells)))


def _score_of(attribute: str, metric: str, ending: str, strict: bool) -> Callable[[Entry], tuple[Figure, Figure | None]]:
    def pick(entry: Entry) -> tuple[Figure, Figure | None]:
        scores: dict[str, Figure] = getattr(entry.run.results, attribute)
        figure = scores.get(metric, Figure(None, note="this run's results do not hold it"))
        mine = [tier for tier in entry.run.results.tiers if tier.tier[-1] in ending]
        return figure, _strict_mean(mine) if strict and any(map(_has_errors, mine)) else None

    return pick


def _tier_of(tier: str, metric: str, strict: bool) -> Callable[[Entry], tuple[Figure, Figure | None]]:
    def pick(entry: Entry) -> tuple[Figure, Figure | None]:
        result = entry.tiers.get(tier)
        if result is None:
            return Figure(None, note="not asked in this run"), None
        return getattr(result, metric), result.acc_strict if strict and _has_errors(result) else None

    return pick


def _has_errors(result: TierResult) -> bool:
    return result.outcomes.get("error", 0) > 0


def _strict_mean(tiers: Sequence[TierResult]) -> Figure:
    """Mean over tiers of the strict figures, as the scores are means over tiers; without an interval."""
    values = [tier.acc_strict.value for tier in tiers]
    known = [value for value in values if value is not None]
    return Figure(sum(known) / len(known), n=sum(tier.acc_strict.n for tier in tiers)) if len(known) == len(values) else Figure(None)


def _with_tiers(cell: Cell, entry: Entry, tiers: Sequence[str]) -> Cell:
    """A mean over other tiers than the neighbours' says so."""
    if cell.missing or set(entry.tiers) == set(tiers):
        return cell
    return Cell(cell.text, (*cell.lines, f"over {len(entry.tiers)} of {len(tiers)} tiers"), cell.sort, cell.title, cell.strong)


def chance_row(entries: Sequence[Entry]) -> dict[str, float]:
    """Mean 1/k per tier, from the run that finished most of it."""
    best: dict[str, TierResult] = {}
    for entry in entries:
        for tier, result in entry.tiers.items():
            if result.chance is not None and (tier not in best or result.acc.n > best[tier].acc.n):
                best[tier] = result
    return {tier: best[tier].chance or 0.0 for tier in sorted(best, key=tier_order)}


# ---------------------------------------------------------------- interleaving


def interleaving(entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(models × tiers, one line per model and tier with everything), or None where no tier has a history."""
    found = {(entry.name, result.tier): result for entry in entries for result in entry.run.results.interleaving}
    tiers = sorted({tier for _, tier in found}, key=tier_order)
    if not tiers:
        return None
    absent = PairedResult("", "", Figure(None, note="no pairs in this run"), "", None, None, None, 0, 0)
    rows = [(name_cell(entry), *(paired_cell(found.get((entry.name, tier), absent)) for tier in tiers)) for entry in entries]
    columns = (Column("model", words=True), *(Column(tier, f"against {tier[-1]}", code=True) for tier in tiers))
    caption = (
        "Accuracy with the history minus accuracy on the same targets without it, in percentage points: 95% interval, p adjusted by Holm "
        "over the tiers of a run. Bold: adjusted p < 0.05."
    )
    lines = tuple(
        (name_cell(entry), text_cell(result.tier), text_cell(result.against), *paired_cells(result))
        for entry in entries
        for result in sorted(entry.run.results.interleaving, key=lambda r: tier_order(r.tier))
    )
    heads = (Column("model", words=True), Column("tier (A)", words=True), Column("against (B)", words=True), *PAIRED_COLUMNS)
    detail_caption = "Every pair of tiers: the test used, discordant pairs, and the smallest difference that could have been detected."
    return Table("interleaving", caption, columns, tuple(rows)), Table("interleaving-detail", detail_caption, heads, lines)


# ---------------------------------------------------------------- forgetting and blind gap


def forgetting(entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(one line per model, one line per model and tier), or None where no run had a base."""
    mine = [(entry, entry.run.results.forgetting) for entry in entries if entry.run.results.forgetting is not None]
    if not mine:
        return None
    rows, lines = [], []
    for entry, result in mine:
        assert result is not None
        base = text_cell(result.base, lines=(f"run {result.base_run}",))
        accuracies = (figure_cell(result.base_acc), figure_cell(result.acc), figure_cell(result.retention))
        rows.append((name_cell(entry), base, text_cell(" ".join(result.tiers)), *accuracies, *paired_cells(result.pooled)))
        for paired in result.per_tier:
            lines.append((name_cell(entry), text_cell(paired.tier), *_per_tier_acc(entry, paired, entries), *paired_cells(paired)))
    start = Column("model", words=True)
    accuracy = (Column("base acc"), Column("acc"))
    pooled = (start, Column("base", words=True), Column("tiers pooled", words=True), *accuracy, Column("retention"), *PAIRED_COLUMNS)
    caption = (
        "Model (A) minus its base LLM (B) on the text targets both answered. Retention = (acc − chance) / (base acc − chance), in %: "
        "100 is nothing lost, 0 is all that exceeds guessing lost."
    )
    per_tier = "The same difference by tier; p adjusted by Holm over the tiers of a run. Accuracies are each run's own on that tier."
    return (
        Table("forgetting", caption, pooled, tuple(rows)),
        Table("forgetting-tiers", per_tier, (start, Column("tier", words=True), *accuracy, *PAIRED_COLUMNS), tuple(lines)),
    )


def _per_tier_acc(entry: Entry, paired: PairedResult, entries: Sequence[Entry]) -> tuple[Cell, Cell]:
    forgotten = entry.run.results.forgetting
    base = next((other for other in entries if forgotten is not None and other.run.path.name == forgotten.base_run), None)
    cells = []
    for side, reason in ((base, "the base run is not among the reported runs"), (entry, "not asked in this run")):
        result = None if side is None else side.tiers.get(paired.tier)
        cells.append(missing_cell(reason) if result is None else figure_cell(result.acc))
    return cells[0], cells[1]


def blind_gap(gaps: Mapping[str, Sequence[PairedResult]], entries: Sequence[Entry]) -> Table | None:
    """One line per model and tier: with images (A) minus without (B). `gaps` goes by the sighted entry's name."""
    lines = tuple(
        (name_cell(entry), text_cell(result.tier), text_cell(result.against), *paired_cells(result))
        for entry in entries
        for result in gaps.get(entry.name, ())
    )
    heads = (Column("model (A)", words=True), Column("tier", words=True), Column("without images (B)", words=True), *PAIRED_COLUMNS)
    caption = "Accuracy on visual targets with images minus the same model's without. A model that never looks has a gap of 0."
    return Table("blind-gap", caption, heads, lines) if lines else None


# ---------------------------------------------------------------- breakdown


@dataclass(frozen=True)
class _Part:
    source: str
    subject: str


def breakdown(entries: Sequence[Entry], modality: str) -> Table | None:
    """Source × subject of the targets of one modality without history, one column a model, chance beside them."""
    tier = next((tier for tier in sorted(all_tiers(entries), key=len) if tier[-1] == modality), None)
    found: dict[tuple[_Part, str], Breakdown] = {}
    for entry in entries:
        found |= {(_Part(b.source, b.subject), entry.name): b for b in entry.run.results.breakdown if b.tier == tier}
    parts = sorted({part for part, _ in found}, key=lambda part: (part.source, part.subject))
    if tier is None or not parts:
        return None
    rows = []
    for part in parts:
        cells = [found.get((part, entry.name)) for entry in entries]
        chances = [cell.chance for cell in cells if cell is not None and cell.chance is not None]
        figures = [_part_cell(cell, entry, tier) for cell, entry in zip(cells, entries, strict=True)]
        chance = number_cell(chances[0], percent(chances[0])) if chances else missing_cell("no run answered it")
        rows.append((text_cell(part.subject or "(no subject)", lines=(part.source,)), chance, *figures))
    what = "visual" if modality == "V" else "text"
    caption = f"Tier {tier}: {what} targets by subject, acc in % with 95% interval; chance is the mean of 1/k."
    columns = (Column("subject", "source", words=True), Column("chance"), *(Column(entry.name) for entry in entries))
    return Table(f"breakdown-{modality}", caption, columns, tuple(rows))


def _part_cell(part: Breakdown | None, entry: Entry, tier: str) -> Cell:
    if part is not None:
        return figure_cell(part.acc)
    result = entry.tiers.get(tier)
    return missing_cell(result.acc.note if result is not None and result.acc.value is None else "no such targets in this run")


