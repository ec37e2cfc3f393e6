"""Runs that repeat one model under several seeds, as one model: `report --seeds A,B,C` (docs/spec/iit.md#seeds)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import incomparable, pair_targets
from evaluators.iit.results import Pairs
from evaluators.statistics import Dependence
from evaluators.statistics.seeds import OverSeeds, accuracy_over_seeds, difference_over_seeds
from iit_bench.errors import UserError
from reports.cells import Cell, Column, Table, figure_cell, missing_cell, p_value, percent, points, text_cell
from reports.entries import Entry, Group, base_of
from reports.iit import seed_runs
from reports.section import Folded, Part, Section, TablePart, Words, tables
from reports.shared import SCORES

_NOTE = (
    "Figures are means over seeds and items, both taken as drawn at random; the interval counts how much seeds differ and which items were "
    "asked, so it is about the recipe, not about one of its runs. Between seeds: standard deviation of the seeds' own effect."
)


@dataclass(frozen=True)
class Repeated:
    """Runs of one table that are one model under several seeds."""

    entries: tuple[Entry, ...]
    group: Group

    @property
    def name(self) -> str:
        """What their names have in common, and how many they are."""
        names = [entry.name for entry in self.entries]
        beginning = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        common = "".join(letters[0] for letters in beginning).rstrip(" -_.:,0123456789").removesuffix("seed").rstrip(" -_.:")
        return f"{common or ' / '.join(names)} ({len(names)} seeds)"


def chosen(groups: Sequence[Group], asked: Sequence[str]) -> list[Repeated]:
    """The sets of runs that the user names, each "A,B,C" by names or file names of the page.

    Raises:
        UserError: a name that is not there, fewer than two runs, one twice, or runs that may not share a table.
    """
    known = {label: (entry, number) for number, group in enumerate(groups) for entry in group.entries for label in (entry.slug, entry.name)}
    return [_chosen(groups, words, known) for words in asked]


def _chosen(groups: Sequence[Group], words: str, known: dict[str, tuple[Entry, int]]) -> Repeated:
    names = [name for name in (part.strip() for part in words.split(",")) if name]
    if unknown := [name for name in names if name not in known]:
        models = ", ".join(entry.name for group in groups for entry in group.entries) or "none with an IIT run"
        raise UserError(f"--seeds {words!r} names {unknown[0]!r}, which is no model of the page; its models are {models}")
    found = [known[name] for name in names]
    entries = tuple(entry for entry, _ in found)
    if len({entry.slug for entry in entries}) < max(2, len(entries)):
        raise UserError(f"--seeds {words!r} needs two runs or more, each once: one model trained, or sampled, under several seeds")
    if len({number for _, number in found}) > 1:
        apart = next(one for other in entries[1:] if (one := incomparable(entries[0].header, other.header)))
        raise UserError(f"--seeds {words!r} were not asked the same, they differ in {'; '.join(apart)}; name runs that share a table")
    if differing := seed_runs.apart(entries):
        raise UserError(f"--seeds {words!r} are no seeds of one recipe: they differ in {'; '.join(differing)}; name runs of one model")
    return Repeated(entries, groups[found[0][1]])


def seeds_section(sets: Sequence[Repeated]) -> Section | None:
    """A row per model: its scores, and what was forgotten, over seeds; None without a set."""
    if not sets:
        return None
    columns = (
        Column("model", ("its runs",), words=True),
        *(Column(score.name, (score.small, "mean, 95% interval, between seeds")) for score in SCORES),
        Column("lost", ("points, against its base", "mean, 95% interval, between seeds")),
    )
    rows = tuple(_row(one) for one in sets)
    caption = "Accuracy in % over several seeds of one recipe, over the items that every one of them finished."
    parts: list[Part] = [TablePart(Table("seeds-table", caption, columns, rows)), Words(_NOTE, "fine")]
    parts += [Words(sentence, "notice") for one in sets if (sentence := seed_runs.same_weights(one.entries))]
    known = [seed_runs.runs_table(f"seeds-runs-{number}", one.name, one.entries) for number, one in enumerate(sets, start=1)]
    return Section("seeds", "Under several seeds", (*parts, Folded("The runs: checkpoints, and in what they differ", tables(*known))))


def _row(one: Repeated) -> tuple[Cell, ...]:
    names = text_cell(one.name, lines=tuple(entry.name for entry in one.entries))
    tiers = {tier for entry in one.group.entries for tier in entry.header["benchmark"]["tiers"]}
    scores = (_score_cell(one, [tier for tier in tiers if score.takes(tier)]) for score in SCORES)
    return (names, *scores, _lost_cell(one))


def _score_cell(one: Repeated, tiers: Sequence[str]) -> Cell:
    found = score_over_seeds([entry.turns for entry in one.entries], tiers) if tiers else None
    if found is None:
        return missing_cell("a tier was not answered by every run" if tiers else "no such tier")
    return _cell(found, [percent(value) for value in found.per_seed], signed=False)


def _lost_cell(one: Repeated) -> Cell:
    bases = {base.slug: base for entry in one.entries if (base := base_of(entry, one.group.entries)) is not None}
    if len(bases) != 1:
        return missing_cell("its base's run is not on this page" if not bases else "its runs have several bases")
    found = lost_over_seeds([entry.turns for entry in one.entries], next(iter(bases.values())).turns)
    if found is None:
        return missing_cell("no text target that all runs and the base finished")
    cell = _cell(found, [points(value) for value in found.per_seed], signed=True)
    return Cell(cell.text, (*cell.lines, f"p = {p_value(found.p)}"), cell.sort, cell.title)


def _cell(found: OverSeeds, per_seed: Sequence[str], *, signed: bool) -> Cell:
    cell = figure_cell(found.figure, signed=signed)
    more = (f"between seeds {percent(found.between)}", f"each {', '.join(per_seed)}")
    return Cell(cell.text, (*cell.lines, *more), cell.sort, cell.title)


# ---------------------------------------------------------------- figures


def score_over_seeds(runs: Sequence[Turns], tiers: Sequence[str]) -> OverSeeds | None:
    """Mean over tiers of the accuracy, over seeds and the targets that every run finished; None where a tier has none."""
    done = _shared(runs)
    ending = np.array(done[0].tier.names)[done[0].tier.code] if len(done[0]) else np.zeros(0, dtype=str)
    rows = np.flatnonzero(np.isin(ending, list(tiers)))
    if not len(rows) or set(np.unique(ending[rows])) != set(tiers):
        return None
    first = done[0].take(rows)
    right = np.array([one.take(rows).acc for one in done], dtype=np.float64)
    return accuracy_over_seeds(right, _dependence(first), statistics.codes(first.tier.code))


def lost_over_seeds(runs: Sequence[Turns], base: Turns) -> OverSeeds | None:
    """Base minus run on the text targets that the base and every run finished; None without one."""
    *done, answers = _shared([*runs, base])
    ending_in_t = np.array([tier.endswith("T") for tier in answers.tier.names], dtype=bool)
    text = np.flatnonzero(ending_in_t[answers.tier.code]) if len(answers) else np.zeros(0, dtype=np.int64)
    if not len(text):
        return None
    answers = answers.take(text)
    differences = np.array([answers.acc.astype(np.float64) - one.take(text).acc for one in done])
    return difference_over_seeds(differences, _dependence(answers))


def _shared(runs: Sequence[Turns]) -> list[Turns]:
    """The targets that every run finished, row by row the same in each."""
    kept = runs[0]
    for other in runs[1:]:
        kept = _finished(kept, other)[0]
    return [kept if run is runs[0] else _finished(kept, run)[1] for run in runs]


def _finished(a: Turns, b: Turns) -> tuple[Turns, Turns]:
    parts = list(pair_targets(a, b).values())
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return a.take(none), b.take(none)
    done = Pairs.concat(parts).finished()
    return done.a, done.b


def _dependence(rows: Turns) -> Dependence:
    return Dependence.of(statistics.components(rows.group.code, rows.cluster.code), histories=rows.histories)
