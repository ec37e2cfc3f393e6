"""The page's tables over all suites: one row per model; IIT scores, text-only tasks and VQA data sets side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from evaluators.compare.tasks import how_asked
from evaluators.runs.marks import UNSEALED
from iit_bench.storage.runs import TaskRun
from iit_bench.types import OUTCOMES, Figure, TaskResult, TaskSuite
from reports.cells import (
    NOT_AVAILABLE,
    Cell,
    Column,
    Table,
    count,
    count_cell,
    figure_cell,
    interval,
    missing_cell,
    number_cell,
    percent,
    score_cell,
    size,
    text_cell,
)
from reports.entries import Group, all_tiers
from reports.models import ModelRow, Models, TaskColumn
from reports.row_order import HEADINGS, Block
from reports.shared import (
    SCORES,
    SUITE_NAMES,
    TEXT_ONLY,
    Score,
    chance_by_tier,
    common_n,
    means,
    row_cell,
    settings_apart,
    short,
    tool_badge,
)

_IIT = (TEXT_ONLY, *SCORES[:-1])  # the score that every model has comes first


# ---------------------------------------------------------------- leaderboard


def overview(models: Models, groups: Sequence[Group]) -> Table:
    """Models × (text-only score, IIT, T score, V score, text tasks, VQA data sets), each with the metric that its tool shows first.

    IIT runs that may not share a table have columns of their own, without those that would be empty.
    """
    heads, columns = [Column("model", words=True)], [[_head(row, models) for row in models.rows]]
    for group in groups:
        over = "IIT" if not group.apart else f"IIT, asked otherwise: {'; '.join(group.apart)}"
        shown = _scores_of(group)
        for score in shown:
            figures = [score.of(row.entry) if row.entry in group.entries and row.entry else Figure(None) for row in models.rows]
            n = common_n(figures)
            ranks = score is SCORES[0] and not group.key
            small = (score.small, *([size(n)] if n else []))
            heads.append(Column(score.name, small, over=over, divider=score is shown[0], sorted=ranks))
            columns.append([_iit_cell(row, group, figure, n) for row, figure in zip(models.rows, figures, strict=True)])
    first = None if groups else next((c for c in models.columns if _ranks(c)), None)
    for place, column in enumerate(models.columns):
        before = models.columns[place - 1].suite if place else ""
        head, cells = _task_column(models, column, divider=column.suite != before)
        heads.append(replace(head, sorted=column is first))
        columns.append(cells)
    caption = (
        "Small print: 95% interval, and n where it is not the heading's. Accuracies in %, other scores in their own unit. A name in a "
        "frame is the tool whose own result files hold the number; the others were run by iit-bench. A group of tasks has the mean that "
        "its tool defines."
    )
    rows = tuple(zip(*columns, strict=True))
    return Table("overview", caption, tuple(heads), rows, (_chance_line(models, groups),), _blocks(models))


def _scores_of(group: Group) -> list[Score]:
    """The scores that have a column: what no run of a group can have is left out, as the rows' heads tell why."""
    whole = any(entry.block is Block.WHOLE for entry in group.entries)
    return [score for score in _IIT if whole or any(score.of(entry).value is not None for entry in group.entries)]


def _blocks(models: Models) -> tuple[tuple[str, int], ...]:
    """Headings over the rows, where they are of several blocks; `Models.rows` are in their order."""
    names = [HEADINGS[row.entry.block] if row.entry else "without an IIT run" for row in models.rows]
    blocks = [(name, len(list(rows))) for name, rows in groupby(names)]
    return tuple(blocks) if len(blocks) > 1 else ()


def _head(row: ModelRow, models: Models) -> Cell:
    """The row's name, and in one line what it lacks: what a text LLM cannot run, what a run of some tiers has instead of scores."""
    cell, entry = row_cell(row), row.entry
    if entry is None:
        return cell
    if entry.block is Block.SUBSET:
        figure, tiers = entry.run.results.subset_score["acc"], ", ".join(entry.run.results.subset_tiers)
        value = NOT_AVAILABLE if figure.value is None else f"{percent(figure.value)}, {interval(figure)}"
        return replace(cell, lines=(f"subset score{f' over {tiers}' if tiers else ''}: {value}",))
    if entry.block is Block.TEXT:
        lacking = [score.name for score in SCORES if score.of(entry).value is None]
        lacking += ["VQA"] if any(column.suite == "vqa" for column in models.columns) else []
        return replace(cell, lines=(f"takes no images: no {', '.join(lacking)}",))
    return cell


def _iit_cell(row: ModelRow, group: Group, figure: Figure, n: int | None) -> Cell:
    entry = row.entry
    if entry is None:
        return missing_cell("no IIT run")
    if entry not in group.entries:
        return _nothing("asked otherwise: see the other columns")
    if figure.value is None and entry.block is not Block.WHOLE:
        return _nothing(figure.note)  # the row's head has the reason
    return figure_cell(figure, show_n=figure.n != n)


def _nothing(reason: str) -> Cell:
    """For what the row's head explains."""
    return Cell("–", title=reason, missing=True)


def _ranks(column: TaskColumn) -> bool:
    """Whether rows are ordered by a column: the highest figure is the best."""
    return all(result.best == 1 for result in column.results.values())


def _chance_line(models: Models, groups: Sequence[Group]) -> tuple[Cell, ...]:
    """What guessing reaches, under the IIT scores and the text tasks that tell."""
    cells = [Cell("chance", ("mean 1/k",), words=True)]
    for group in groups:
        tiers = all_tiers(group.entries)
        parts = [[tier for tier in tiers if score.takes(tier)] for score in _scores_of(group)]
        cells += means(chance_by_tier(group.entries), parts, "a tier was not answered")
    for column in models.columns:
        level = next((result.chance[column.metric] for result in column.results.values() if column.metric in result.chance), None)
        cells.append(missing_cell("not known") if level is None else Cell(percent(level)))
    return tuple(cells)


def _task_column(models: Models, column: TaskColumn, divider: bool) -> tuple[Column, list[Cell]]:
    results = [models.result(row, column) for row in models.rows]
    figures = [one[1].scores[column.metric] for one in results if one and column.metric in one[1].scores]
    n = common_n(figures)
    cells = [_cell(one, column.metric, n, row, column.suite) for one, row in zip(results, models.rows, strict=True)]
    metric = column.metric.replace(",", ", ") or "no run has it"
    small = (metric, *settings_apart(models, column), *([size(n)] if n else []))
    return Column(column.task, small, over=SUITE_NAMES[column.suite], divider=divider), cells


def _cell(of_run: tuple[TaskRun, TaskResult] | None, metric: str, n: int | None, row: ModelRow, suite: TaskSuite) -> Cell:
    if of_run is None:
        return _nothing("the model takes no images") if suite == "vqa" and row.text_only else missing_cell("not run")
    run, result = of_run
    figure = result.scores.get(metric) or next(iter(result.scores.values()), Figure(None))
    if result.state == "not run":  # the list of all figures gives the reason
        return replace(missing_cell("not run"), title=figure.note)
    failed = result.outcomes.get("error", 0)
    lines = ([f"{count(failed)} failed"] if failed else []) + (["from its stderr"] if figure.from_stderr else [])
    marks = tool_badge(run) + (() if run.results.complete else ("incomplete",)) + ((UNSEALED,) if run.unsealed else ())
    return score_cell(figure, result.best, show_n=figure.n != n, lines=lines, badges=marks)


# ---------------------------------------------------------------- every score


def scores(models: Models, suite: TaskSuite) -> Table | None:
    """Every metric of every task of a suite, one line each, or None where no run has the suite."""
    rows = []
    for row in models.rows:
        for run in models.runs_of(row, suite):
            for result in run.results.tasks:
                rows += [_line(row, run, result, metric) for metric in result.scores]
    columns = (
        Column("model", words=True),
        Column("task", words=True),
        Column("metric", words=True),
        Column("value", ("95% interval",)),
        Column("n"),
        Column("clusters"),
        Column("interval by", words=True),
        *(Column(outcome) for outcome in OUTCOMES),
        Column("asked", words=True),
        Column("notes", words=True),
    )
    caption = (
        f"{SUITE_NAMES[suite]}: all figures. Groups come before their tasks. An item that failed counts as wrong. Clusters: items that "
        "share an image, passage or source count as one."
    )
    return Table(f"scores-{suite}", caption, columns, tuple(rows)) if rows else None


def _line(row: ModelRow, run: TaskRun, result: TaskResult, metric: str) -> tuple[Cell, ...]:
    figure = result.scores[metric]
    shown = metric == result.metric
    cell = score_cell(figure, result.best if shown else _best(figure), show_n=False, badges=tool_badge(run))
    how = how_asked(run, result)
    changed = "; ".join(short(name, value) for name, value in how.settings.items() if name not in how.usual) or "as usual"
    size_of = "" if result.members is None else f"group of {len(result.members)}"
    notes = (*(f"warning: {one}" for one in result.warnings), *result.notes) if shown else ()
    return (
        row_cell(row),
        text_cell(result.task, lines=[size_of] if size_of else []),
        text_cell(metric or "none"),
        cell,
        count_cell(figure.n),
        count_cell(figure.clusters),
        text_cell(figure.method or "no interval"),
        *_outcomes(result, metric),
        text_cell(changed),
        text_cell("; ".join(filter(None, (*notes, figure.note))) or "none"),
    )


def _outcomes(result: TaskResult, metric: str) -> list[Cell]:
    """The metric's own counts; "–" where its items are neither right nor wrong, were not counted by metric, or are not at hand."""
    counts = result.metric_outcomes.get(metric, {} if result.metric_outcomes or metric != result.metric else result.outcomes)
    if not any(counts.values()):
        counts = {}
    return [number_cell(counts[outcome]) if outcome in counts else text_cell("–", sort=None) for outcome in OUTCOMES]


def _best(figure: Figure) -> float | None:
    """A metric beside the one that tables show: a fraction where value and interval look like one."""
    bounds = [bound for bound in (figure.value, figure.low, figure.high) if bound is not None]
    return 1.0 if bounds and all(0 <= bound <= 1 for bound in bounds) else None
