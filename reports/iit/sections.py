"""The page's tables of accuracies, each a pure function from entries to a `Table`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iit_bench.types import Breakdown, Figure, PositionResult, TierResult, tier_order
from reports.cells import Cell, Column, Table, figure_cell, missing_cell, number_cell, percent, size, text_cell
from reports.entries import Entry, all_tiers, baseline
from reports.shared import SCORES, chance_by_tier, common_n, means, name_cell

# On-disk name of a metric -> its short label and what it is.
METRICS = {
    "acc": ("acc", "the choice with the highest log-probability (or the choice extracted from a generated reply)"),
    "acc_norm": ("acc_norm", "log-probability divided by the choice's characters"),
    "acc_bytes": ("acc_bytes", "log-probability divided by the choice's UTF-8 bytes"),
    "acc_corrected": ("chance-corrected", "(acc − chance) / (1 − chance): 0 is guessing, 100 is perfect"),
}


# ---------------------------------------------------------------- leaderboard


def leaderboard(entries: Sequence[Entry], metric: str) -> Table:
    """Models × (IIT, T score, V score, every tier), one metric."""
    tiers = all_tiers(entries)
    label, meaning = METRICS[metric]
    heads, columns = [Column("model", words=True)], [[name_cell(entry) for entry in entries]]
    for name, attribute, ending in SCORES:
        scores = [_score(entry, attribute, metric) for entry in entries]
        members = [[result for tier, result in entry.tiers.items() if tier.endswith(ending)] for entry in entries]
        strict = [_strict_mean(mine) if metric == "acc" and any(map(_has_errors, mine)) else None for mine in members]
        head, cells = _sized(Column(name, (f"ending in {ending}" if ending else "all tiers",), sorted=not ending), scores, strict)
        wanted = [tier for tier in tiers if tier.endswith(ending)]
        heads.append(head)
        columns.append([_over_tiers(cell, mine, wanted) for cell, mine in zip(cells, members, strict=True)])
    for tier in tiers:
        results = [entry.tiers.get(tier) for entry in entries]
        figures = [Figure(None, note="not asked in this run") if result is None else getattr(result, metric) for result in results]
        strict = [result.acc_strict if metric == "acc" and result is not None and _has_errors(result) else None for result in results]
        head, cells = _sized(Column(tier, code=True, divider=tier == tiers[0]), figures, strict)
        heads.append(head)
        columns.append(cells)
    caption = (
        f"{label} in %: {meaning}. Small print: 95% interval, and n where it is not the heading's. "
        "Tiers from text-only (left) to multimodal-rich (right)."
    )
    foot = () if metric == "acc_corrected" else (_chance_line(entries, tiers), _prior_line(entries, tiers))
    return Table(f"leaderboard-{metric}", caption, tuple(heads), tuple(zip(*columns, strict=True)), foot)


def _chance_line(entries: Sequence[Entry], tiers: Sequence[str]) -> tuple[Cell, ...]:
    head = Cell("chance", ("mean 1/k",), words=True)
    return (head, *means(chance_by_tier(entries), tiers, "a tier was not answered"))


def _prior_line(entries: Sequence[Entry], tiers: Sequence[str]) -> tuple[Cell, ...]:
    """Every tier asks the same targets of its modality, so the manifest's figure for the modality is each tier's."""
    priors = {tier: baseline(entries, tier[-1], "question_prior") for tier in tiers}
    head = Cell("question prior", ("best answer per question text",), words=True)
    return (head, *means({tier: value for tier, value in priors.items() if value is not None}, tiers, "not in the manifest"))


def _sized(column: Column, figures: Sequence[Figure], strict: Sequence[Figure | None]) -> tuple[Column, list[Cell]]:
    """The most common n goes into the heading; cells with another one print theirs."""
    n = common_n(figures)
    cells = [figure_cell(figure, show_n=figure.n != n, strict=hard) for figure, hard in zip(figures, strict, strict=True)]
    return replace(column, small=(*column.small, *([size(n)] if n else []))), cells


def _score(entry: Entry, attribute: str, metric: str) -> Figure:
    scores: dict[str, Figure] = getattr(entry.run.results, attribute)
    return scores.get(metric, Figure(None, note="this run's results do not hold it"))


def _has_errors(result: TierResult) -> bool:
    return result.outcomes.get("error", 0) > 0


def _strict_mean(tiers: Sequence[TierResult]) -> Figure:
    """Mean over tiers of the strict figures, as the scores are means over tiers; without an interval."""
    values = [tier.acc_strict.value for tier in tiers]
    known = [value for value in values if value is not None]
    return Figure(sum(known) / len(known), n=sum(tier.acc_strict.n for tier in tiers)) if len(known) == len(values) else Figure(None)


def _over_tiers(cell: Cell, mine: Sequence[TierResult], wanted: Sequence[str]) -> Cell:
    """The cell of a mean: one that lacks tiers shows the reason in few words, as does one over other tiers than its neighbours'."""
    reasons = {result.acc.note for result in mine if result.acc.value is None}
    lacking = len(wanted) - sum(result.acc.value is not None for result in mine)
    if not lacking:
        return cell
    if not cell.missing:
        return replace(cell, lines=(*cell.lines, f"over {len(wanted) - lacking} of {len(wanted)} tiers"))
    if len(reasons) == 1 and lacking == len(wanted):
        return replace(cell, lines=(next(iter(reasons)),))
    return replace(cell, lines=(f"{lacking} of {len(wanted)} tiers have no result",))


# ---------------------------------------------------------------- parts of tiers


@dataclass(frozen=True)
class _Part:
    source: str
    subject: str


def positions(entries: Sequence[Entry]) -> Table | None:
    """Accuracy by position in the dialogue, tier by tier, one column per model; None unless history turns were scored (own history)."""
    parts = {(b.tier, b.position, entry.name): b for entry in entries for b in entry.run.results.positions}
    keys = sorted({(tier, position) for tier, position, _ in parts}, key=lambda key: (tier_order(key[0]), key[1]))
    rows = []
    for tier, position in keys:
        cells = [parts.get((tier, position, entry.name)) for entry in entries]
        figures = [_part_cell(cell, entry, tier) for cell, entry in zip(cells, entries, strict=True)]
        rows.append((text_cell(tier), text_cell(f"position {position}"), *figures))
    columns = (Column("tier", words=True), Column("turn", words=True), *(Column(entry.name, name=True) for entry in entries))
    return Table("positions", "Own history: acc in % of every turn, by its position.", columns, tuple(rows)) if rows else None


def breakdown(entries: Sequence[Entry], modality: str) -> Table | None:
    """Source × subject of the targets of one modality without history, one column per model, chance beside them."""
    tier = next((tier for tier in sorted(all_tiers(entries), key=len) if tier[-1] == modality), None)
    by_part: dict[tuple[_Part, str], Breakdown] = {}
    for entry in entries:
        by_part |= {(_Part(b.source, b.subject), entry.name): b for b in entry.run.results.breakdown if b.tier == tier}
    parts = sorted({part for part, _ in by_part}, key=lambda part: (part.source, part.subject))
    if tier is None or not parts:
        return None
    rows = []
    for part in parts:
        cells = [by_part.get((part, entry.name)) for entry in entries]
        chances = [cell.chance for cell in cells if cell is not None and cell.chance is not None]
        figures = [_part_cell(cell, entry, tier) for cell, entry in zip(cells, entries, strict=True)]
        chance = number_cell(chances[0], percent(chances[0])) if chances else missing_cell("no run answered it")
        prior = baseline(entries, f"{part.source}/{part.subject}", "question_prior")
        reach = missing_cell("not in the manifest") if prior is None else number_cell(prior, percent(prior))
        rows.append((text_cell(part.subject or "(no subject)", lines=(part.source,)), chance, reach, *figures))
    what = "visual" if modality == "V" else "text"
    rules = "Chance is the mean of 1/k; the question prior sees only the question's text."
    caption = f"Tier {tier}: {what} targets by subject, acc in % with 95% interval. {rules}"
    columns = (
        Column("subject", ("source",), words=True),
        Column("chance"),
        Column("question prior", name=True),
        *(Column(entry.name, name=True) for entry in entries),
    )
    return Table(f"breakdown-{modality}", caption, columns, tuple(rows))


def _part_cell(part: Breakdown | PositionResult | None, entry: Entry, tier: str) -> Cell:
    if part is not None:
        return figure_cell(part.acc)
    result = entry.tiers.get(tier)
    return missing_cell(result.acc.note if result is not None and result.acc.value is None else "no such targets in this run")
