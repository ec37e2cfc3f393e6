"""The models of one page: runs of all suites gathered into one row per model, and tasks into one column per way of asking them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators.compare.tasks import TaskSettings, differences, how_asked, shown_tasks
from iit_bench.storage.runs import AnyRun, TaskRun, folder_label
from iit_bench.types import TASK_SUITES, TaskResult, TaskSuite
from reports.entries import Entry
from reports.row_order import tasks_rank


@dataclass(kw_only=True)
class TaskColumn:
    """The figures of one task that were asked the same."""

    suite: TaskSuite
    task: str
    metric: str  # that its cells show; "" where no run has a figure
    ways: list[TaskSettings] = field(default_factory=list)  # how each of its runs asked it; they do not contradict
    results: dict[int, TaskResult] = field(default_factory=dict)  # place of a run -> its result


@dataclass
class ModelRow:
    """One model of the page."""

    name: str
    entry: Entry | None  # its IIT run
    runs: list[int] = field(default_factory=list)  # places of its other runs

    @property
    def text_only(self) -> bool:
        """Whether its IIT run records that the model takes no images."""
        return self.entry is not None and self.entry.model.get("accepts_images") is False


@dataclass(frozen=True)
class Models:
    """What the page shows beside the IIT runs."""

    runs: Sequence[TaskRun]  # suite by suite, in order of path
    rows: Sequence[ModelRow]  # IIT entries first, in their order, then by the first column in which they differ
    columns: Sequence[TaskColumn]  # suite by suite; columns of one task side by side

    def runs_of(self, row: ModelRow, suite: TaskSuite) -> list[TaskRun]:
        """The runs of a suite that a row holds, in order of path."""
        return [self.runs[place] for place in row.runs if self.runs[place].run["suite"] == suite]

    def result(self, row: ModelRow, column: TaskColumn) -> tuple[TaskRun, TaskResult] | None:
        """The run and result that a row shows in a column: the first of its runs that has one; None if none has."""
        return next(((self.runs[place], column.results[place]) for place in row.runs if place in column.results), None)

    def column(self, run: TaskRun, task: str) -> TaskColumn | None:
        """The column that shows `run`'s figure of a task; None for a task inside a group."""
        place = next(place for place, other in enumerate(self.runs) if other is run)
        return next((column for column in self.columns if column.task == task and place in column.results), None)

    def siblings(self, column: TaskColumn) -> list[TaskColumn]:
        """All columns of its task."""
        return [other for other in self.columns if (other.suite, other.task) == (column.suite, column.task)]


def gather(entries: Sequence[Entry], unordered: Sequence[TaskRun]) -> Models:
    """Rows and columns of the page; the order of `unordered` does not matter."""
    runs = sorted(unordered, key=lambda run: (TASK_SUITES.index(run.run["suite"]), "tool" in run.run, str(run.run["name"]), str(run.path)))
    columns = _columns(runs)
    rows = [ModelRow(entry.name, entry) for entry in entries]
    for place, run in enumerate(runs):
        mine = [column for column in columns if place in column.results]
        row = next((row for row in rows if _fits(row, run, runs, mine)), None)
        if row is None:
            row = ModelRow(_name(run), None)
            rows.append(row)
        row.runs.append(place)
    _distinguish(rows, runs)
    models = Models(runs, rows, columns)
    return Models(runs, sorted(rows, key=lambda row: _rank(row, models)), columns)


# ---------------------------------------------------------------- columns


def _columns(runs: Sequence[TaskRun]) -> list[TaskColumn]:
    columns: list[TaskColumn] = []
    unanswered: list[tuple[int, TaskRun, TaskResult]] = []
    for place, run in enumerate(runs):
        for result in shown_tasks(run.results.tasks):
            if result.metric:
                _enter(columns, place, run, result)
            else:
                unanswered.append((place, run, result))
    for place, run, result in unanswered:  # of a preset, and not run: beside those who ran it
        column = next((column for column in columns if (column.suite, column.task) == (run.run["suite"], result.task)), None)
        if column is None:
            column = TaskColumn(suite=run.run["suite"], task=result.task, metric="")
            columns.append(column)
        column.results[place] = result
    return sorted(columns, key=lambda column: TASK_SUITES.index(column.suite))


def _enter(columns: list[TaskColumn], place: int, run: TaskRun, result: TaskResult) -> None:
    settings, suite = how_asked(run, result), run.run["suite"]
    last = None
    for column in columns:
        if (column.suite, column.task) != (suite, result.task):
            continue
        last = column
        if column.metric == result.metric and not any(differences(other, settings) for other in column.ways):
            column.ways.append(settings)
            column.results[place] = result
            return
    new = TaskColumn(suite=suite, task=result.task, metric=result.metric, ways=[settings], results={place: result})
    columns.insert(len(columns) if last is None else columns.index(last) + 1, new)


def apart(models: Models) -> list[str]:
    """Why a task has several columns: one sentence per task."""
    sentences = []
    for column in models.columns:
        siblings = models.siblings(column)
        if len(siblings) > 1 and column is siblings[0]:
            reasons = dict.fromkeys(reason for other in siblings[1:] for reason in _why(column, other))
            sentences.append(f"{column.task} is in {len(siblings)} columns, which were not asked the same: {'; '.join(reasons)}.")
    return sentences


def _why(one: TaskColumn, other: TaskColumn) -> list[str]:
    if one.metric != other.metric:
        return [f"metric ({one.metric} and {other.metric})"]
    return next((reasons for a in one.ways for b in other.ways if (reasons := differences(a, b))), [])


# ---------------------------------------------------------------- rows


def _fits(row: ModelRow, run: TaskRun, runs: Sequence[TaskRun], columns: Sequence[TaskColumn]) -> bool:
    """Whether a run is of the row's model and has no figure that another run of the row has already."""
    others: list[AnyRun] = [runs[place] for place in row.runs] + ([row.entry.run] if row.entry else [])
    taken = any(place in column.results for column in columns for place in row.runs)
    return not taken and all(_same_model(other.run, run.run) for other in others)


def _same_model(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Runs of ours know their weights; another tool's are matched by the model's name."""
    one, other = a["model"], b["model"]
    given = [header.get("arguments", {}).get("name") for header in (a, b)]
    if all(given) and given[0] != given[1]:
        return False
    if "tool" in a or "tool" in b:
        dtypes = [model.get("dtype") for model in (one, other)]
        known = all(dtypes) and dtypes[0] != dtypes[1]
        return _plain_name(one) == _plain_name(other) and not (one.get("blind") or other.get("blind") or known)
    where = () if one.get("checkpoint_sha256") else ("checkpoint",)  # a server's address
    return all(one.get(name) == other.get(name) for name in ("name", "checkpoint_sha256", "dtype", "blind", *where))


def _plain_name(model: Mapping[str, Any]) -> str:
    return str(model["name"]).removeprefix("hf:").rstrip("/")


def _name(run: TaskRun) -> str:
    """The name that was given, else the model's: a folder is mostly named after the suite."""
    return str(run.run["name"] if run.run.get("arguments", {}).get("name") else run.run["model"]["name"])


def _distinguish(rows: Sequence[ModelRow], runs: Sequence[TaskRun]) -> None:
    """Rows of one name get the tool or folder of their first run, where that is equal too, its file, and at last its path."""
    labels: tuple[Callable[[TaskRun], str], ...] = (
        lambda run: run.run.get("tool") or folder_label(run.path),
        lambda run: f"{run.run['tool']}, {run.path.name}" if "tool" in run.run else str(run.path),
        lambda run: str(run.path),
    )
    for label in labels:
        names = [row.name for row in rows]
        for row in rows:
            if names.count(row.name) > 1 and row.entry is None:
                row.name = f"{_name(runs[row.runs[0]])} ({label(runs[row.runs[0]])})"


def _rank(row: ModelRow, models: Models) -> tuple[Any, ...]:
    """IIT entries in their order, then the others in the order of `row_order.tasks_rank`."""
    if row.entry is not None:
        return (0, row.entry.style)
    results = [models.result(row, column) for column in models.columns]
    accuracies = [
        run_and_result[1].scores.get(column.metric) if run_and_result and run_and_result[1].best == 1 else None
        for run_and_result, column in zip(results, models.columns, strict=True)
    ]
    return (1, *tasks_rank(accuracies, row.name))
