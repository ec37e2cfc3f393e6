"""The figures of a run of suite text or vqa, made again from its items and from the files of its tool in its folder.

A mean follows from items.parquet. F1, correlations, perplexities and what lm-eval's own standard error gave follow from lm-eval's results
and samples; MME's points, HallusionBench's sets, POPE, AMBER and F1 from VLMEvalKit's table of what it scored. Those files are on record
in run.json, and compared with it. The figures of data sets whose scores by item VLMEvalKit does not write are compared with the numbers
that it gave, which `FACTS` keeps.
"""

from __future__ import annotations

import dataclasses
import glob
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evaluators.runs.foreign.lm_eval_files import Samples, evaluated_in
from evaluators.runs.foreign.run import DAMAGED
from evaluators.runs.foreign.table_files import read_rows
from evaluators.text.results import Circumstances, suite_results
from evaluators.vqa.scores import FACTS, NO_IMAGE, figures_of_table, means, mme_points, own_figures
from iit_bench.errors import UserError, described
from iit_bench.storage.runs import TaskRun
from iit_bench.types import Figure, TaskItem, TaskResult

ITEMS = "items.parquet"
COUNTED_OFTEN = "POPE"  # VLMEvalKit counts a question once in each of its categories, which items do not name
PARTS = ("main", "no-image")  # of a data set, as evaluators/vqa/protocol.py names them
_NOTHING: Mapping[str, Any] = {"metrics": {}, "n": 0}
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
    own, scores = _of_facts(run, stored), means(items)
    if COUNTED_OFTEN in stored.task:
        scores.pop("acc", None)
    best = 1.0 if any(item.metric == stored.metric for item in items) else None if stored.metric in own.main else stored.best
    found = by_table(run, stored, items)
    if "total" in found.scores:
        best = found.best
    files = [ITEMS, *([found.table] if found.scores else []), *([FACTS] if own.known else [])]
    figures = {**own.main, **scores, **found.scores, **own.no_image}
    return Made(dataclasses.replace(stored, scores=figures, best=best, **own.known), " and ".join(files))


@dataclass(frozen=True)
class _Facts:
    """What the file of facts says of a data set."""

    main: Mapping[str, Figure]  # figures of the part "main", if it has no scores by item
    no_image: Mapping[str, Figure]
    known: Mapping[str, Any]  # fields of the task's result


def _of_facts(run: TaskRun, stored: TaskResult) -> _Facts:
    """Figures without scores by item, and the sizes of a data set; nothing in a run of before they were written.

    Raises:
        UserError: the file is on record, and missing or changed.
    """
    files = kept_files(run, f"vlmeval/{glob.escape(stored.task)}/{FACTS}")
    if not files:
        return _Facts({}, {}, {})
    facts = json.loads(files[0].read_text(encoding="utf-8"))
    main, no_image = (own_figures(one["metrics"], one["n"]) for one in (facts["figures"].get(part, _NOTHING) for part in PARTS))
    return _Facts(main, no_image, {"n_documents": facts["documents"], "n_without_image": facts["without image"]})


@dataclass(frozen=True)
class ByTable:
    """Figures of a yes/no data set that take VLMEvalKit's table of it."""

    scores: Mapping[str, Figure]
    best: float | None = None  # points that MME's total can reach
    table: str = ""  # its name


def by_table(run: TaskRun, stored: TaskResult, items: Sequence[TaskItem]) -> ByTable:
    """MME's points, HallusionBench's sets, F1 and the like; none where the table is not there, or is one of other items in a folder of
    before there were seals.

    Raises:
        UserError: the table is on record, and missing, changed or of other items.
    """
    files = []
    if COUNTED_OFTEN in stored.task or _BY_TABLE & set(stored.scores):
        files = kept_files(run, f"vlmeval/{glob.escape(stored.task)}/main/*_auxmatch.tsv")
    rows = read_rows(files[0]) if len(files) == 1 else []
    of_row = {item.item: item for item in items if item.metric != NO_IMAGE}
    if other := {row["index"] for row in rows} ^ set(of_row) if rows else set():
        if run.sealed:
            raise UserError(
                f"{str(files[0])!r} and {ITEMS} of its run are not of the same items ({min(other)!r} is in one of them only), "
                f"so its figures cannot be checked; repeat its command: {run.run.get('command', '')}"
            )
        return ByTable({})
    if not rows:
        return ByTable({})
    ordered = [of_row[row["index"]] for row in rows]
    best = mme_points(rows, ordered)[1] if "total" in stored.scores else None
    return ByTable(figures_of_table(stored.task, stored.scores, rows, ordered), best, files[0].name)
