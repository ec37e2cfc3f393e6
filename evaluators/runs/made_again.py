"""The figures of a run of suite text or vqa, made again from its items and from the files of its tool in its folder.

A mean follows from items.parquet. F1, correlations, perplexities and what lm-eval's own standard error gave follow from lm-eval's results
and samples; MME's points, HallusionBench's sets, POPE, AMBER and F1 from VLMEvalKit's table of what it scored. Those files are on record
in run.json, and compared with it. What cannot be made again: the figures of data sets whose scores by item VLMEvalKit does not write.
"""

from __future__ import annotations

import dataclasses
import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from evaluators.runs.foreign.lm_eval_files import Samples, evaluated_in
from evaluators.runs.foreign.run import DAMAGED
from evaluators.runs.foreign.table_files import read_rows
from evaluators.text.results import Circumstances, suite_results
from evaluators.vqa.scores import NO_IMAGE, figures_of_table, means, mme_points
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import TaskRun
from iit_bench.types import Figure, TaskItem, TaskResult

ITEMS = "items.parquet"
COUNTED_OFTEN = "POPE"  # VLMEvalKit counts a question once in each of its categories, which items do not name
_BY_TABLE = frozenset({"total", "perception", "reasoning", "fAcc", "qAcc", "mean", "F1", "Avg ACC"})


@dataclass(frozen=True)
class Made:
    """A task's result with the figures that could be made again, and only these."""

    result: TaskResult
    of: str  # the files that they follow from, in words


def made_again(run: TaskRun, every: bool = False) -> dict[str, Made]:
    """The results of the tasks, as far as they can be made again.

    Args:
        run: of suite text or vqa.
        every: also chance levels and hashes of documents, for which every sample of lm-eval is read.

    Raises:
        UserError: a file of the tool is on record, and missing, changed or damaged.
    """
    try:
        return _of_text(run, every) if run.results.suite == "text" else _of_vqa(run)
    except DAMAGED as error:
        raise UserError(
            f"the tool's files in run {str(run.path)!r} are damaged ({described(error)}); repeat its command: {run.run.get('command', '')}"
        ) from error


def kept_files(run: TaskRun, pattern: str) -> list[Path]:
    """Files of the tool that match a pattern, in which `*` stands for folders, too: those on record, else those that are there."""
    there = (path.relative_to(run.path).as_posix() for path in sorted((run.path / pattern.partition("/")[0]).rglob("*")))
    names = run.run.get("files") or there
    return [run.whole(run.path / name) for name in names if fnmatchcase(name, pattern)]


# ---------------------------------------------------------------- suite text


def _of_text(run: TaskRun, every: bool) -> dict[str, Made]:
    files = kept_files(run, "lm_eval/*results_*.json")
    if len(files) != 1:
        return {}
    evaluated = evaluated_in(files[0])
    evaluated["samples"] = Samples(files[0], evaluated["n-samples"], run.whole)
    failed = Counter(error["task"] for error in run.errors)
    results = suite_results(evaluated, run.items, Circumstances(failed=failed, sampled=every))
    of = f"{ITEMS} and {files[0].name}"
    return {task.task: Made(task, of) for task in results.tasks}


# ---------------------------------------------------------------- suite vqa


def _of_vqa(run: TaskRun) -> dict[str, Made]:
    items: dict[str, list[TaskItem]] = {}
    for item in run.items:
        items.setdefault(item.task, []).append(item)
    return {task.task: _made(run, task, items.get(task.task, [])) for task in run.results.tasks}


def _made(run: TaskRun, stored: TaskResult, items: list[TaskItem]) -> Made:
    scores = means(items)
    if COUNTED_OFTEN in stored.task:
        scores.pop("acc", None)
    best = 1.0 if any(item.metric == stored.metric for item in items) else stored.best
    found = by_table(run, stored, items)
    if "total" in found.scores:
        best = found.best
    table = f" and {found.table}" if found.scores else ""
    return Made(dataclasses.replace(stored, scores={**scores, **found.scores}, best=best), ITEMS + table)


@dataclass(frozen=True)
class ByTable:
    """Figures of a yes/no data set that take VLMEvalKit's table of it."""

    scores: Mapping[str, Figure]
    best: float | None = None  # points that MME's total can reach
    table: str = ""  # its name


def by_table(run: TaskRun, stored: TaskResult, items: Sequence[TaskItem]) -> ByTable:
    """MME's points, HallusionBench's sets, F1 and the like; none where the table is not there, or is one of other items.

    Raises:
        UserError: the table is on record, and missing or changed.
    """
    files = []
    if COUNTED_OFTEN in stored.task or _BY_TABLE & set(stored.scores):
        files = kept_files(run, f"vlmeval/{glob.escape(stored.task)}/main/*_auxmatch.tsv")
    rows = read_rows(files[0]) if len(files) == 1 else []
    of_row = {item.item: item for item in items if item.metric != NO_IMAGE}
    if not rows or {row["index"] for row in rows} != set(of_row):
        return ByTable({})
    ordered = [of_row[row["index"]] for row in rows]
    best = mme_points(rows, ordered)[1] if "total" in stored.scores else None
    return ByTable(figures_of_table(stored.task, stored.scores, rows, ordered), best, files[0].name)
