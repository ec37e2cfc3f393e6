"""The page of a series: checkpoints of one training in order, with a curve each for scores, forgetting, lost and gained items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.iit.forgetting import forgetting
from evaluators.iit.ledger import ledger, tally
from evaluators.statistics import few_items
from iit_bench.errors import UserError
from iit_bench.storage.runs import folder_label
from iit_bench.types import Figure, Forgetting, LedgerPart
from reports import links
from reports.cells import Cell, Column, Table, count, figure_cell, in_percent, missing_cell, percent
from reports.entries import Entry, Group, base_of
from reports.headlines import changed, interval_of_change
from reports.iit.decision import lost_of
from reports.pages import Page
from reports.section import Beside, Drawing, Section, TablePart, Words, figure
from reports.series_plot import At, Line, series_plot
from reports.shared import SCORES, name_cell

_NUMBER = re.compile(r"(\d+)(?!.*\d)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One checkpoint of a series."""

    entry: Entry
    place: int  # the step, or 1, 2, …
    lost: Forgetting | None  # against the series' reference; None for the reference itself, and without a common text tier


@dataclass(frozen=True, kw_only=True)
class Series:
    """Checkpoints in order, and what they are compared with."""

    stops: tuple[Stop, ...]
    by_step: bool  # places are steps
    against: str  # name of the base, or of the first checkpoint
    base: Entry | None  # the base's run, where the page has it


def series_page(groups: Sequence[Group], given: Sequence[Path]) -> Page:
    """The page of the series in each group of runs.

    Args:
        groups: of the report.
        given: paths of the runs in the order that the user gave.

    Raises:
        UserError: no group has two checkpoints.
    """
    found = [series for group in groups if (series := series_of(group, given)) is not None]
    if not found:
        raise UserError("a series needs two or more runs that may share a table, beside their base; name more, or leave out --series")
    return Page(
        place=links.SERIES,
        stem="series",
        title="Series",
        headline=tuple(headline(series) for series in found),
        about="Checkpoints of one training in their order: what each step brought, and what it cost.",
        sections=tuple(section for number, series in enumerate(found) for section in sections(series, f"-{number}" if number else "")),
    )


def series_of(group: Group, given: Sequence[Path]) -> Series | None:
    """The series of runs that may share a table: all but those that others of them name as their base; None for fewer than two.

    They are in the order of their steps, where their folders' names differ in their last number only; else in the order given.
    """
    bases = {base.slug: base for entry in group.entries if (base := base_of(entry, group.entries)) is not None}
    members = [entry for entry in group.entries if entry.slug not in bases]
    if len(members) < 2:
        return None
    order = {path.resolve(): place for place, path in enumerate(given)}
    members.sort(key=lambda entry: order[entry.run.path.resolve()])
    found = steps([folder_label(entry.run.path) for entry in members])
    placed = sorted(zip(found or range(1, len(members) + 1), members, strict=True), key=lambda one: one[0])
    named = {(lost.base, lost.base_run) if (lost := entry.run.results.forgetting) else None for entry in members}
    common = named.pop() if len(named) == 1 else None
    if common is not None:
        base = next(iter(bases.values()), None)
        stops = tuple(Stop(entry=entry, place=place, lost=_with_ledger(entry, base)) for place, entry in placed)
        return Series(stops=stops, by_step=found is not None, against=common[0], base=base)
    first = placed[0][1]
    stops = tuple(Stop(entry=entry, place=place, lost=None if entry is first else _since(entry, first)) for place, entry in placed)
    return Series(stops=stops, by_step=found is not None, against=first.name, base=None)


def steps(names: Sequence[str]) -> list[int] | None:
    """The last number in each name, where the names are equal but for it and it differs in all; else None."""
    matches = [_NUMBER.search(name) for name in names]
    rests = {match and name[: match.start()] + "#" + name[match.end() :] for match, name in zip(matches, names, strict=True)}
    numbers = [int(match.group(1)) for match in matches if match]
    return numbers if len(rests) == 1 and len(numbers) == len(names) == len(set(numbers)) else None


def _with_ledger(entry: Entry, base: Entry | None) -> Forgetting | None:
    """Forgetting as it is stored; its ledger made now where the run is of before there were some."""
    lost = lost_of(entry.run.results)
    return replace(lost, ledger=ledger(entry.turns, base.turns)) if lost and lost.ledger is None and base else lost


def _since(entry: Entry, first: Entry) -> Forgetting | None:
    try:
        return forgetting(entry.turns, first.turns, first.name, folder_label(first.run.path))
    except UserError:  # no text tier in common
        return None


# ---------------------------------------------------------------- the page's parts


def sections(series: Series, suffix: str) -> list[Section]:
    """Curves, then the table. `suffix` ends ids."""
    axis = "step" if series.by_step else "checkpoint, in the order given"
    drawings = [one for one in (_scores(series, axis, suffix), _lost(series, axis, suffix), _changed(series, axis, suffix)) if one]
    table = TablePart(_table(series, suffix))
    about = Words("Corrected: without lucky guesses, of which one in k is right among k choices; noise may leave 0 to 100.", "fine")
    return [
        Section(f"series-curves{suffix}", "Step by step", (Beside(tuple(drawings)),)),
        Section(f"series-table{suffix}", "The numbers", (table, about)),
    ]


def _line(name: str, style: int, series: Series, figures: Sequence[Figure | None]) -> Line:
    points = [
        At(stop.place, one.value, one.low, one.high)
        for stop, one in zip(series.stops, figures, strict=True)
        if one is not None and one.value is not None
    ]
    return Line(name, style, tuple(points))


def _scores(series: Series, axis: str, suffix: str) -> Drawing | None:
    lines = [_line(score.name, style, series, [score.of(stop.entry) for stop in series.stops]) for style, score in enumerate(SCORES)]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    text = SCORES[-1].of(series.base).value if series.base else None
    level = (f"{series.against}, text-only", text) if text is not None else None
    description = "Scores of each checkpoint in order. The numbers are in the table below."
    plot = series_plot(lines, key=f"series-scores{suffix}", description=description, axis=axis, level=level)
    return figure(plot, "Scores in %")


def _lost(series: Series, axis: str, suffix: str) -> Drawing | None:
    line = _line("lost", 1, series, [stop.lost.pooled.difference if stop.lost else None for stop in series.stops])
    if not line.points:
        return None
    description = f"Accuracy of {series.against} on text targets minus that of each checkpoint. The numbers are in the table below."
    plot = series_plot([line], key=f"series-lost{suffix}", description=description, axis=axis, differences=True)
    return figure(plot, f"Text-only forgetting against {series.against}, percentage points: above 0 is lost")


def _changed(series: Series, axis: str, suffix: str) -> Drawing | None:
    wholes = [_whole(stop) for stop in series.stops]
    parts = (("lost", 1), ("gained", 2))
    lines = [_line(name, style, series, [whole.corrected[name] if whole else None for whole in wholes]) for name, style in parts]
    if not any(line.points for line in lines):
        return None
    description = f"Items lost and gained against {series.against}, corrected for lucky guesses. The numbers are in the table below."
    plot = series_plot(lines, key=f"series-items{suffix}", description=description, axis=axis, differences=True)
    return figure(plot, f"Text items lost and gained against {series.against}, % of the items, corrected for lucky guesses")


def _whole(stop: Stop) -> LedgerPart | None:
    return stop.lost.ledger.parts[0] if stop.lost and stop.lost.ledger else None


def _table(series: Series, suffix: str) -> Table:
    scores = [score for score in SCORES if any(score.of(stop.entry).value is not None for stop in series.stops)]
    columns = (
        Column("checkpoint", words=True),
        Column("step" if series.by_step else "place"),
        *(Column(score.name, (score.small,)) for score in scores),
        Column("forgotten", ("points",), over=f"against {series.against}"),
        Column("lost", ("corrected",), over=f"against {series.against}"),
        Column("gained", ("corrected",), over=f"against {series.against}"),
        Column("lost", ("text items",), over="since the one before"),
        Column("gained", ("text items",), over="since the one before"),
    )
    rows = []
    for before, stop in zip((None, *series.stops), series.stops, strict=False):
        name = replace(name_cell(stop.entry), href=links.at(links.model(stop.entry.slug), 0))
        figures = [figure_cell(score.of(stop.entry)) for score in scores]
        rows.append((name, Cell(str(stop.place), sort=stop.place), *figures, *_against(stop), *_moved(before, stop)))
    caption = "One row per checkpoint, in order. Small print: 95% interval and n."
    return Table(f"series{suffix}", caption, columns, tuple(rows))


def _against(stop: Stop) -> tuple[Cell, ...]:
    if stop.lost is None:
        return (missing_cell("it is what the others are compared with, or has no text tier in common"),) * 3
    whole = _whole(stop)
    unknown = missing_cell("made before there were ledgers")
    changed = [_of_ledger(whole, name) if whole else unknown for name in ("lost", "gained")]
    return (figure_cell(stop.lost.pooled.difference, signed=True), *changed)


def _of_ledger(whole: LedgerPart, transition: str) -> Cell:
    cell = figure_cell(whole.corrected[transition])
    return replace(cell, lines=(*cell.lines, "few items")) if transition in few_items(whole.counts) else cell


def _moved(before: Stop | None, stop: Stop) -> tuple[Cell, ...]:
    if before is None:
        return (Cell("–"), Cell("–"))
    counts = tally(stop.entry.turns, before.entry.turns)
    n = sum(counts.values())
    return tuple(Cell(count(counts[name]), (f"of {count(n)}",), counts[name]) for name in ("lost", "gained"))


def headline(series: Series) -> str:
    """What the series brought and cost, with the numbers."""
    first, last = series.stops[0], series.stops[-1]
    score = next((one for one in SCORES if None not in (one.of(first.entry).value, one.of(last.entry).value)), None)
    words = f"From {first.entry.name} to {last.entry.name}"
    if score is not None:
        values = [in_percent(score.of(stop.entry).value or 0.0) for stop in (first, last)]
        words += f", {score.name} goes from {values[0]} to {values[1]} right"
    known = [(stop, d) for stop in series.stops if stop.lost and (d := stop.lost.pooled.difference).value is not None]
    if not known:
        return f"{words}."
    stop, d = max(known, key=lambda one: one[1].value or 0.0)
    end, ending = known[-1]
    verb, value = changed(ending)
    who = "the last" if end is last else end.entry.name
    words += f"; against {series.against} {who} {verb} {value} points on text targets (95% interval {interval_of_change(ending)})"
    where = f"step {stop.place}" if series.by_step else stop.entry.name
    more = changed(d)[0] == "lost" and percent(d.value or 0.0) not in ("0.0", percent(ending.value or 0.0))
    return f"{words}, and {where} lost most, {percent(d.value or 0.0)}." if more else f"{words}."
