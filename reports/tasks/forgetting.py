"""What tuning cost on tasks of the suites text and vqa: every run against the base's, task by task, over the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.compare.tasks import TaskComparison, by_reason, matched
from iit_bench.storage.runs import TaskRun
from iit_bench.types import TaskSuite
from reports.cells import PAIRED_COLUMNS, Cell, Column, Table, figure_cell, missing_cell, paired_cell, paired_cells, size, text_cell
from reports.entries import base_of
from reports.iit.paired import BOLD
from reports.models import ModelRow, Models, TaskColumn
from reports.shared import common_n, row_cell, settings_apart

# The page's column of the task as this run was asked it (None inside a group), the comparison base minus run, the base's name.
Compared = tuple[TaskColumn | None, TaskComparison, str]


@dataclass(frozen=True)
class SuiteForgetting:
    """The section of the page."""

    matrix: Table
    details: Table
    left_out: Sequence[tuple[str, str]]  # (model, why nothing or not every task was compared)


def suite_forgetting(models: Models, base: Sequence[TaskRun], suite: TaskSuite) -> SuiteForgetting | None:
    """Every run of a suite against its model's base; None where none has a base.

    Args:
        models: of the page.
        base: task runs of the base; where none is of the suite, those of the base that a model's IIT run was compared with.
    """
    by_model: dict[str, list[Compared]] = {}
    left_out: list[tuple[str, str]] = []
    for row in models.rows:
        bases = [run for run in base if run.run["suite"] == suite] or _base_of(row, models, suite)
        mine = [run for run in models.runs_of(row, suite) if all(run.path.resolve() != other.path.resolve() for other in bases)]
        for run in mine if bases else ():
            compared, reasons = _against(run, bases)
            by_model.setdefault(row.name, []).extend((models.column(run, one.result.over), one, name) for one, name in compared)
            left_out += [(row.name, reason) for reason in reasons]
    owners = [row for row in models.rows if by_model.get(row.name)]
    if not owners and not left_out:
        return None
    return SuiteForgetting(_matrix(owners, by_model, models, suite), _details(owners, by_model, models, suite), left_out)


def _base_of(row: ModelRow, models: Models, suite: TaskSuite) -> list[TaskRun]:
    """Runs of the base of the row's IIT run, where the base is on the page."""
    base = base_of(row.entry, [other.entry for other in models.rows if other.entry]) if row.entry else None
    return [run for other in models.rows if base and other.entry is base for run in models.runs_of(other, suite)]


def _against(run: TaskRun, bases: Sequence[TaskRun]) -> tuple[list[tuple[TaskComparison, str]], list[str]]:
    """Comparisons, each with its base's name, and what was left out.

    Accuracies only: nothing is forgotten or retained in a perplexity's unit.
    """
    compared: list[tuple[TaskComparison, str]] = []
    apart: dict[str, str] = {}
    for base in bases:
        more, left_out = matched(base, run)
        compared += [(one, str(base.run["name"])) for one in more if one.best == 1]
        apart |= left_out
    done = {one.result.over for one, _ in compared}
    return compared, by_reason({task: reason for task, reason in apart.items() if task not in done})


def _matrix(owners: Sequence[ModelRow], by_model: dict[str, list[Compared]], models: Models, suite: TaskSuite) -> Table:
    """A column for every way of asking a task, as in the overview; tasks inside groups are in the details."""
    shown = [column for column in models.columns if any(one is column for row in owners for one, *_ in by_model[row.name])]
    heads, columns = [Column("model", words=True)], [[row_cell(row) for row in owners]]
    for way in shown:
        column = [next((one for other, one, _ in by_model[row.name] if other is way), None) for row in owners]
        n = common_n([one.result.difference for one in column if one])
        heads.append(Column(way.task, (*settings_apart(models, way), *([size(n)] if n else []))))
        columns.append(
            [paired_cell(one.result, show_n=one.result.difference.n != n) if one else missing_cell("not compared") for one in column]
        )
    caption = "Accuracy of the base minus the model's on the same documents, in percentage points: positive is lost. " + BOLD
    return Table(f"{suite}-forgetting", caption, tuple(heads), tuple(zip(*columns, strict=True)))


def _details(owners: Sequence[ModelRow], by_model: dict[str, list[Compared]], models: Models, suite: TaskSuite) -> Table:
    rows = [
        (row_cell(row), *_line(one, base, settings_apart(models, column) if column else []))
        for row in owners
        for column, one, base in by_model[row.name]
    ]
    columns = (
        Column("model", words=True),
        Column("task", words=True),
        Column("base", words=True),
        Column("base acc"),
        Column("acc"),
        Column("retention", ("of what exceeds chance",)),
        *PAIRED_COLUMNS,
    )
    caption = (
        "Base (A) minus model (B): positive is lost. Retention = (acc − chance) / (base acc − chance), in %; chance is the mean of "
        "1 / number of choices. "
        "Tasks inside groups, which are not in the table above, are a family of their own for Holm."
    )
    return Table(f"{suite}-forgetting-detail", caption, columns, tuple(rows))


def _line(one: TaskComparison, base: str, settings: Sequence[str]) -> tuple[Cell, ...]:
    task = text_cell(one.result.over, lines=[one.metric, *settings, *(["group"] if one.group else [])])
    return (
        task,
        text_cell(base),
        *(figure_cell(figure) for figure in (one.a, one.b, one.retention)),
        *paired_cells(one.result),
    )
