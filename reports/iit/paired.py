"""How tables of paired differences are laid out: a matrix of models × tiers for reading, and a list with the test, discordant pairs and
detectable difference of every pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluators.iit.forgetting import THIS_RUN
from iit_bench.types import PairedResult, tier_order
from reports.cells import PAIRED_COLUMNS, Cell, Column, Table, missing_cell, paired_cell, paired_cells, size, text_cell
from reports.entries import Entry
from reports.shared import common_n, name_cell

BOLD = "Small print: 95% interval, p adjusted by Holm over all tests of the page that may be bold. Bold: adjusted p < 0.05."


def matrix(key: str, caption: str, entries: Sequence[Entry], of_entry: Mapping[str, Sequence[PairedResult]]) -> Table:
    """Models × tiers; the heading names side B, where that is the same for all, and the most common n."""
    results = {(name, result.over): result for name, line in of_entry.items() for result in line}
    heads, columns = [Column("model", words=True)], [[name_cell(entry) for entry in entries]]
    for tier in _tiers(results):
        column = [results.get((entry.name, tier)) for entry in entries]
        present = [result for result in column if result is not None]
        n = common_n([result.difference for result in present])
        against = {result.against for result in present}
        small = [f"against {next(iter(against))}"] if len(against) == 1 and against != {THIS_RUN} else []
        heads.append(Column(tier, (*small, *([size(n)] if n else [])), code=True))
        columns.append([_matrix_cell(result, entry, tier, n) for result, entry in zip(column, entries, strict=True)])
    return Table(key, caption, tuple(heads), tuple(zip(*columns, strict=True)))


def _matrix_cell(result: PairedResult | None, entry: Entry, tier: str, n: int | None) -> Cell:
    if result is not None:
        return paired_cell(result, show_n=result.difference.n != n)
    own = entry.tiers.get(tier)
    if own is not None and own.acc.value is None and not any(own.outcomes.values()):
        return Cell("–", title=own.acc.note, missing=True)  # the leaderboard has the reason once
    return missing_cell("no pairs in this run")


def paired_list(key: str, caption: str, against: str, entries: Sequence[Entry], of_entry: Mapping[str, Sequence[PairedResult]]) -> Table:
    """The table `key`, one row per model and paired test A minus B.

    Args:
        against: label of the column that names B.
        of_entry: the tests of each entry, by its name.
    """
    lines = tuple(
        (name_cell(entry), text_cell(result.over), text_cell(result.against), *paired_cells(result))
        for entry in entries
        for result in of_entry[entry.name]
    )
    heads = (Column("model", words=True), Column("tier (A)", words=True), Column(against, words=True), *PAIRED_COLUMNS)
    return Table(key, caption, heads, lines)


def _tiers(results: Mapping[tuple[str, str], PairedResult]) -> list[str]:
    """Tiers from text-only to multimodal-rich, pools ("V*") before them."""
    names = {tier for _, tier in results}
    return sorted(names, key=lambda tier: (not tier.endswith("*"), tier_order(tier)))
