"""The page's tables of accuracies, each a pure function from entries to a `Table`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iit_bench.types import Breakdown, Figure, PositionResult, TierResult, tier_order
from reports import links
from reports.cells import Cell, Column, Table, figure_cell, missing_cell, number_cell, percent, size, text_cell
from reports.entries import Entry, all_tiers, baseline
from reports.row_order import Block
from reports.shared import SCORES, TEXT_ONLY, Score, chance_by_tier, common_n, means, name_cell

# On-disk name of a metric -> its short label and what it is.
METRICS = {
    "acc": ("acc", "the choice with the highest log-probability (or the choice extracted from a generated reply)"),
    "acc_norm": ("acc_norm", "log-probability divided by the choice's characters"),
    "acc_bytes": ("acc_bytes", "log-probability divided by the choice's UTF-8 bytes"),
    "acc_corrected": ("chance-corrected", "(acc − chance) / (1 − chance): 0 is guessing, 100 is perfect"),
}


# ---------------------------------------------------------------- leaderboard


def leaderboards(entries: Sequence[Entry], metric: str, linked: bool = False) -> list[Table]:
    """Models × (scores, tiers) by one metric: a table per `row_order.Block` that has entries; `linked`: names lead to their pages."""
    blocks = {block: [entry for entry in entries if entry.block is block] for block in Block}
    parts = {
        Block.WHOLE: (SCORES, "Models that were asked every tier."),
        Block.TEXT: ((TEXT_ONLY,), "Text LLMs: the text-only score is over the tiers that they share with models that take images."),
        Block.SUBSET: ((_SUBSET,), "Runs that were asked some of the benchmark's tiers; scores over different tiers do not compare."),
    }
    return [_leaderboard(mine, metric, block, *parts[block], linked) for block, mine in blocks.items() if mine]


_SUBSET = Score("subset score", "subset_score", "the tiers that were run", lambda tier: True)


def _leaderboard(entries: Sequence[Entry], metric: str, block: Block, scores: Sequence[Score], about: str, linked: bool) -> Table:
    tiers = all_tiers(entries) if block is Block.WHOLE else _answered(entries)
    label, meaning = METRICS[metric]
    names = [replace(name_cell(entry), lines=entry.asked_with, href=links.model(entry.slug) if linked else "") for entry in entries]
    heads, columns = [Column("model", words=True)], [names]
    for score in scores:
        members = [[result for tier, result in entry.tiers.items() if score.takes(tier)] for entry in entries]
        strict = [_strict_mean(mine) if metric == "acc" and any(map(_has_errors, mine)) else None for mine in members]
        column = Column(score.name, (score.small,), sorted=score is scores[0] and block is not Block.SUBSET)
        head, cells = _sized(column, [score.of(entry, metric) for entry in entries], strict)
        heads.append(head)
        marks = [(", ".join(entry.run.results.subset_tiers),) if block is Block.SUBSET else () for entry in entries]
        columns.append([replace(cell, lines=(*cell.lines, *mark)) for cell, mark in zip(cells, marks, strict=True)])
    for tier in tiers:
        results = [entry.tiers.get(tier) for entry in entries]
        figures = [Figure(None, note="not asked in this run") if result is None else getattr(result, metric) for result in results]
        strict = [result.acc_strict if metric == "acc" and result is not None and _has_errors(result) else None for result in results]
        head, cells = _sized(Column(tier, code=True, divider=tier == tiers[0]), figures, strict)
        heads.append(head)
        columns.append(cells)
    caption = (
        f"{about} {label} in %: {meaning}. Small print: 95% interval, and n where it is not the heading's. "
        f"Tiers from text-only (left) to multimodal-rich (right).{_not_run(entries, tiers) if block is Block.TEXT else ''}"
    )
    parts = [*([tier for tier in tiers if score.takes(tier)] for score in scores if score is not _SUBSET), *([tier] for tier in tiers)]
    foot = () if metric == "acc_corrected" else _foot(entries, parts, of_subsets=block is Block.SUBSET)
    key = {Block.WHOLE: "", Block.TEXT: "text-", Block.SUBSET: "subset-"}[block]
    return Table(f"leaderboard-{key}{metric}", caption, tuple(heads), tuple(zip(*columns, strict=True)), foot)


def by_tier(entry: Entry, base: Entry | None) -> Table:
    """One model's scores and tiers × metrics, with what guessing reaches, and its base beside it."""
    shown = SCORES if entry.block is not Block.SUBSET else (_SUBSET,)
    chance = chance_by_tier([entry])
    rows = []
    for score in shown:
        figures = [score.of(entry, metric) for metric in METRICS]
        cells = [_n_of(figures), *(figure_cell(figure, show_n=False) for figure in figures)]
        expected = means(chance, [[tier for tier in entry.tiers if score.takes(tier)]], "a tier was not answered")
        theirs = [] if base is None else [figure_cell(score.of(base))]
        rows.append((text_cell(score.name, lines=[score.small]), *cells, *expected, *theirs))
    for tier in all_tiers([entry]):
        result = entry.tiers[tier]
        figures = [getattr(result, metric) for metric in METRICS]
        cells = [_n_of(figures), *(figure_cell(figure, show_n=False) for figure in figures)]
        if _has_errors(result):
            cells[1] = figure_cell(result.acc, show_n=False, strict=result.acc_strict)
        expected = means(chance, [[tier]], "the tier was not answered")
        theirs = [] if base is None else [_acc_of(base, tier)]
        rows.append((Cell(tier, words=True), *cells, *expected, *theirs))
    heads = [Column("tier", words=True), Column("n"), *(Column(label) for label, _ in METRICS.values()), Column("chance", ("mean 1/k",))]
    heads += [] if base is None else [Column(base.name, ("its base, acc",), name=True)]
    meanings = "; ".join(f"{label}: {meaning}" for label, meaning in METRICS.values())
    caption = f"In %, with 95% intervals; n is the number of items; tiers from text-only to multimodal-rich. {meanings}."
    return Table("tiers", caption, tuple(heads), tuple(rows))


def _n_of(figures: Sequence[Figure]) -> Cell:
    n = common_n(figures)
    return missing_cell("no item") if n is None else number_cell(n)


def _acc_of(entry: Entry, tier: str) -> Cell:
    result = entry.tiers.get(tier)
    return missing_cell("not asked") if result is None else figure_cell(result.acc)


def _answered(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The tiers of which some run has a figure."""
    return tuple(tier for tier in all_tiers(entries) if any(tier in e.tiers and e.tiers[tier].acc.value is not None for e in entries))


def _not_run(entries: Sequence[Entry], shown: Sequence[str]) -> str:
    """One sentence per reason on the tiers that have no column."""
    reasons: dict[str, list[str]] = {}
    for tier in all_tiers(entries):
        if tier not in shown:
            note = next(entry.tiers[tier].acc.note for entry in entries if tier in entry.tiers)
            reasons.setdefault(note, []).append(tier)
    return "".join(f" Not run ({reason}): {', '.join(tiers)}." for reason, tiers in reasons.items())


def _foot(entries: Sequence[Entry], parts: Sequence[Sequence[str]], of_subsets: bool) -> tuple[tuple[Cell, ...], ...]:
    """Lines for comparison: chance, and the question prior. Every tier asks the same targets of its modality, so the manifest's figure for
    the modality is each tier's."""
    priors = {tier: baseline(entries, tier[-1], "question_prior") for tier in all_tiers(entries)}
    known = {tier: value for tier, value in priors.items() if value is not None}
    skipped = [missing_cell("of other tiers in each run")] if of_subsets else []
    chance = means(chance_by_tier(entries), parts, "a tier was not answered")
    return (
        (Cell("chance", ("mean 1/k",), words=True), *skipped, *chance),
        (Cell("question prior", ("best answer per question text",), words=True), *skipped, *means(known, parts, "not in the manifest")),
    )


def _sized(column: Column, figures: Sequence[Figure], strict: Sequence[Figure | None]) -> tuple[Column, list[Cell]]:
    """The most common n goes into the heading; cells with another one print theirs."""
    n = common_n(figures)
    cells = [figure_cell(figure, show_n=figure.n != n, strict=hard) for figure, hard in zip(figures, strict, strict=True)]
    return replace(column, small=(*column.small, *([size(n)] if n else []))), cells


def _has_errors(result: TierResult) -> bool:
    return result.outcomes.get("error", 0) > 0


def _strict_mean(tiers: Sequence[TierResult]) -> Figure:
    """Mean over tiers of the strict figures, as the scores are means over tiers; without an interval."""
    values = [tier.acc_strict.value for tier in tiers]
    known = [value for value in values if value is not None]
    return Figure(sum(known) / len(known), n=sum(tier.acc_strict.n for tier in tiers)) if len(known) == len(values) else Figure(None)


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
    owners = [entry for entry in entries if any((part, entry.name) in by_part for part in parts)]
    others = [entry.name for entry in entries if entry not in owners]
    rows = []
    for part in parts:
        cells = [by_part.get((part, entry.name)) for entry in owners]
        chances = [cell.chance for cell in cells if cell is not None and cell.chance is not None]
        figures = [_part_cell(cell, entry, tier) for cell, entry in zip(cells, owners, strict=True)]
        chance = number_cell(chances[0], percent(chances[0])) if chances else missing_cell("no run answered it")
        prior = baseline(entries, f"{part.source}/{part.subject}", "question_prior")
        reach = missing_cell("not in the manifest") if prior is None else number_cell(prior, percent(prior))
        rows.append((text_cell(part.subject or "(no subject)", lines=(part.source,)), chance, reach, *figures))
    what = "visual" if modality == "V" else "text"
    rules = "Chance is the mean of 1/k; the question prior sees only the question's text."
    caption = f"Tier {tier}: {what} targets by subject, acc in % with 95% interval. {rules}"
    caption += f" Not run by {', '.join(others)}." if others else ""
    columns = (
        Column("subject", ("source",), words=True),
        Column("chance"),
        Column("question prior", name=True),
        *(Column(entry.name, name=True) for entry in owners),
    )
    return Table(f"breakdown-{modality}", caption, columns, tuple(rows))


def _part_cell(part: Breakdown | PositionResult | None, entry: Entry, tier: str) -> Cell:
    if part is not None:
        return figure_cell(part.acc)
    result = entry.tiers.get(tier)
    return missing_cell(result.acc.note if result is not None and result.acc.value is None else "no such targets in this run")
