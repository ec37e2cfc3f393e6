"""The tables of a leaderboard for print: scores and what was forgotten, tiers, and the tasks of the other suites.

They are `reports.cells.Table`s like those of the pages, but narrow, and every cell has its own n, because a printed cell is quoted alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from iit_bench.types import Figure, tier_order
from reports.cells import Cell, Column, Table, figure_cell, missing_cell, percent, score_cell
from reports.entries import Entry, Group, all_tiers
from reports.iit.decision import lost_of
from reports.models import ModelRow, Models, TaskColumn
from reports.row_order import Block
from reports.shared import SCORES, SUITE_NAMES, chance_by_tier, settings_apart

TIERS_PER_TABLE = 7
TASKS_PER_TABLE = 6


def boards(groups: Sequence[Group], models: Models) -> list[Table]:
    """All tables, those of IIT first. Runs that were not asked alike are in tables of their own, whose captions say in what they differ."""
    made: list[Table] = []
    for group in groups:
        asked = _asked(group)
        made.append(_scores(group, asked))
        tiers = all_tiers(group.entries)
        parts = [tiers[at : at + TIERS_PER_TABLE] for at in range(0, len(tiers), TIERS_PER_TABLE)]
        made += [_tiers(group, part, asked, number if len(parts) > 1 else 0) for number, part in enumerate(parts, 1)]
    for suite in SUITE_NAMES:
        columns = [column for column in models.columns if column.suite == suite]
        made += [_tasks(models, columns[at : at + TASKS_PER_TABLE], at) for at in range(0, len(columns), TASKS_PER_TABLE)]
    return made


def _asked(group: Group) -> str:
    header = group.entries[0].header
    benchmark, limit = header["benchmark"], header["limit"]
    limited = "" if limit is None else f", limited to {limit} groups"
    apart = f" Asked otherwise than the first table: {'; '.join(group.apart)}." if group.apart else ""
    return (
        f"Benchmark {benchmark['name']} ({str(benchmark['rows_sha256'])[:12]}); {header['scoring']}, style {header['style']}, "
        f"{header['history']} history{limited}.{apart}"
    )


def _scores(group: Group, asked: str) -> Table:
    columns = (Column("model", words=True), *(Column(score.name, (score.small,)) for score in SCORES), Column("lost", ("text targets",)))
    rows = tuple((_name(entry), *(figure_cell(score.of(entry)) for score in SCORES), _lost(entry)) for entry in group.entries)
    caption = (
        "Accuracy in %, mean over tiers, with its 95% interval and n; lost: base LLM minus model on the text targets that both answered, "
        f"in percentage points. {asked}"
    )
    return Table(f"scores{group.key}", caption, columns, rows)


def _lost(entry: Entry) -> Cell:
    forgotten = lost_of(entry.run.results)
    if forgotten is None:
        return missing_cell("no base run")
    return replace(figure_cell(forgotten.pooled.difference, signed=True), title=f"against {forgotten.base}")


def _tiers(group: Group, tiers: Sequence[str], asked: str, number: int) -> Table:
    rows = []
    for entry in group.entries:
        results = [entry.tiers.get(tier) for tier in tiers]
        rows.append((_name(entry), *(missing_cell("not asked") if one is None else figure_cell(one.acc) for one in results)))
    chance = chance_by_tier(group.entries)
    foot = (Cell("chance", words=True), *(Cell(percent(chance[t])) if t in chance else missing_cell("not answered") for t in tiers))
    columns = (Column("model", words=True), *(Column(tier, code=True) for tier in sorted(tiers, key=tier_order)))
    caption = f"Accuracy in % by tier, from text-only to multimodal-rich, with its 95% interval and n. {asked}"
    return Table(f"tiers{group.key}{f'-part{number}' if number else ''}", caption, columns, tuple(rows), (foot,))


def _name(entry: Entry) -> Cell:
    marks = [*entry.badges, *(["some tiers"] if entry.block is Block.SUBSET else [])]
    return Cell(entry.name, (*marks, *entry.asked_with), words=True)


# ---------------------------------------------------------------- suites text and vqa


def _tasks(models: Models, columns: Sequence[TaskColumn], at: int) -> Table:
    mine = [row for row in models.rows if any(models.result(row, column) for column in columns)]
    heads = [Column(column.task, tuple(filter(None, (column.metric, *settings_apart(models, column))))) for column in columns]
    rows = tuple((Cell(row.name, words=True), *(_task(models, row, column) for column in columns)) for row in mine)
    caption = f"{SUITE_NAMES[columns[0].suite]}: accuracies in %, other scores in their own unit, with their 95% intervals and n."
    return Table(f"{columns[0].suite}{f'-{at}' if at else ''}", caption, (Column("model", words=True), *heads), rows)


def _task(models: Models, row: ModelRow, column: TaskColumn) -> Cell:
    found = models.result(row, column)
    if found is None:
        return missing_cell("not run")
    run, result = found
    figure = result.scores.get(column.metric, Figure(None, note="not measured"))
    tool = (str(run.run["tool"]),) if "tool" in run.run else ()
    return score_cell(figure, result.best, lines=tool)
