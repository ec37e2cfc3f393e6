"""The page's tables over all suites: one row per model; IIT scores, text-only tasks and VQA data sets side by side."""

from __future__ import annotations

from dataclasses import replace

from evaluators.compare.tasks import how_asked
from iit_bench.storage.runs import TaskRun
from iit_bench.types import OUTCOMES, Figure, TaskResult, TaskSuite
from reports.cells import Cell, Column, Table, count, figure_cell, missing_cell, number_cell, percent, score_cell, size, text_cell
from reports.entries import all_tiers
from reports.models import ModelRow, Models, TaskColumn
from reports.shared import SUITE_NAMES, chance_by_tier, common_n, means, row_cell, settings_apart, short, tool_badge

_IIT = (("IIT", "iit", "all tiers"), ("T score", "t_score", "ending in T"), ("V score", "v_score", "ending in V"))


# ---------------------------------------------------------------- leaderboard


def overview(models: Models) -> Table:
    """Models × (IIT, T score, V score, every text task, every VQA data set), each with the metric that its tool shows first."""
    heads, columns = [Column("model", words=True)], [[row_cell(row) for row in models.rows]]
    for label, attribute, small in _IIT if any(row.entry for row in models.rows) else ():
        figures = [_iit(row, attribute) for row in models.rows]
        n = common_n(figures)
        leads = attribute == "iit"
        heads.append(Column(label, (small, *([size(n)] if n else [])), over="IIT", divider=leads, sorted=leads))
        columns.append([figure_cell(figure, show_n=figure.n != n) for figure in figures])
    first = None if any(row.entry for row in models.rows) else next((c for c in models.columns if _ranks(c)), None)
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
    return Table("overview", caption, tuple(heads), tuple(zip(*columns, strict=True)), (_chance_line(models),))


def _ranks(column: TaskColumn) -> bool:
    """Whether rows are ordered by a column: the highest figure is the best."""
    return all(result.best == 1 for result in column.results.values())


def _chance_line(models: Models) -> tuple[Cell, ...]:
    """What guessing reaches, under the IIT scores and the text tasks that tell."""
    entries = [row.entry for row in models.rows if row.entry]
    cells = [Cell("chance", ("mean 1/k",), words=True)]
    if entries:
        cells += means(chance_by_tier(entries), all_tiers(entries), "a tier was not answered")[: len(_IIT)]
    for column in models.columns:
        level = next((result.chance[column.metric] for result in column.results.values() if column.metric in result.chance), None)
        cells.append(missing_cell("not known") if level is None else Cell(percent(level)))
    return tuple(cells)


def _iit(row: ModelRow, attribute: str) -> Figure:
    if row.entry is None:
        return Figure(None, note="no IIT run")
    if row.text_only and attribute != "t_score":
        return Figure(None, note="the model takes no images")
    figure: Figure | None = getattr(row.entry.run.results, attribute).get("acc")
    return figure or Figure(None, note="this run's results do not hold it")


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
        return missing_cell("the model takes no images" if suite == "vqa" and row.text_only else "not run")
    run, result = of_run
    figure = result.scores.get(metric) or next(iter(result.scores.values()), Figure(None))
    if result.state == "not run":  # the list of all figures gives the reason
        return replace(missing_cell("not run"), title=figure.note)
    failed = result.outcomes.get("error", 0)
    lines = ([f"{count(failed)} failed"] if failed else []) + (["from its stderr"] if figure.from_stderr else [])
    marks = tool_badge(run) + (() if run.results.complete else ("incomplete",))
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
        "share an image count as one."
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
        number_cell(figure.n),
        number_cell(figure.clusters),
        text_cell(figure.method or "no interval"),
        *(number_cell(result.outcomes.get(outcome, 0)) for outcome in OUTCOMES),
        text_cell(changed),
        text_cell("; ".join(filter(None, (*notes, figure.note))) or "none"),
    )


def _best(figure: Figure) -> float | None:
    """A metric beside the one that tables show: a fraction where value and interval look like one."""
    bounds = [bound for bound in (figure.value, figure.low, figure.high) if bound is not None]
    return 1.0 if bounds and all(0 <= bound <= 1 for bound in bounds) else None
