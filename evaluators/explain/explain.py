"""`iit-bench explain`: the gap between two results of one model, split by cause (docs/spec/explain.md#the-parts)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.explain import table
from evaluators.explain.explanation import Part, Split
from evaluators.explain.iit_side import iit_side
from evaluators.explain.intervals import interval
from evaluators.explain.missing import over_all_items
from evaluators.explain.sides import ASKED, Answer, AskedTask, Side
from evaluators.explain.split import PARTS, TaskSplit, split
from evaluators.explain.task_side import task_side
from evaluators.explain.text_side import text_side
from evaluators.runs.reading import is_iit, is_of_tasks, read_runs
from evaluators.statistics import Dependence, components
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun
from iit_bench.types import Figure


class Explanation(Split):
    """The gap between the first and the last of two or more results; the parts sum to it."""

    def as_text(self) -> str:
        """For a terminal."""
        return table.as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return table.as_dict(self)


def explain(
    results: Sequence[Path],
    *,
    metric: str | None = None,
    metric_b: str | None = None,
    same: Collection[str] = (),
    tasks: Collection[str] | None = None,
) -> Explanation:
    """Split the gap between the first and the last result by cause.

    Args:
        results: two results of one model, or more, each of which differs from the one before in one thing.
        metric: of the score; None for the one that tables show of each task.
        metric_b: of the last result; None for `metric`.
        same: causes (docs/spec/explain.md#words) that are known to be equal though the files do not record them.
        tasks: tasks or tiers that count; None for all that every result has.

    Raises:
        UserError: a result cannot be read, has no items, or the results share no task.
    """
    if len(results) < 2:
        raise UserError("explain needs two results, A and B; name both")
    if unknown := sorted(set(same) - set(ASKED)):
        raise UserError(f"--same {unknown[0]!r} is no cause; give one of {', '.join(ASKED)}")
    metrics = [metric] * (len(results) - 1) + [metric_b or metric]
    sides = [_side(path, name) for path, name in zip(results, metrics, strict=True)]
    columns, left_out = _matched(sides, tasks)
    steps = tuple(tuple(split(a, b, same) for a, b in zip(one, other, strict=True)) for one, other in pairwise(columns))
    _check(steps, sides)
    return Explanation(
        sides=tuple(sides),
        tasks=tuple(task.name for task in columns[0]),
        gap=_gap(steps),
        scores=(_mean_score(columns[0]), _mean_score(columns[-1])),
        parts=tuple(_part(name, steps) for name in PARTS),
        steps=steps,
        left_out=left_out,
    )


def _side(path: Path, metric: str | None) -> Side:
    runs = read_runs(path)
    if len(runs) > 1:
        named = ", ".join(repr(str(run.path)) for run in runs[:3])
        raise UserError(f"{str(path)!r} holds {len(runs)} results ({named}{', …' if len(runs) > 3 else ''}); name one of them")
    return replace(_of_fractions(side_of(runs[0], metric)), unsealed=runs[0].unsealed)


def _of_fractions(side: Side) -> Side:
    """Without the tasks whose items have scores outside of 0 … 1, which have no common unit."""
    odd = [name for name, task in side.tasks.items() if any(not 0 <= answer.score <= 1 for answer in task.answers.values())]
    tasks = {name: task for name, task in side.tasks.items() if name not in odd}
    return replace(side, tasks=tasks, left_out={**side.left_out, **dict.fromkeys(odd, "its scores by item are not in 0 … 1")})


def side_of(run: AnyRun, metric: str | None = None) -> Side:
    """A run as a side.

    Raises:
        UserError: it has no scores by item, or not of the metric.
    """
    if is_iit(run):
        return iit_side(run, metric)
    assert is_of_tasks(run)
    of_lm_eval = run.run["suite"] == "text" and str(run.run.get("tool") or "lm-eval").startswith("lm-eval")
    return text_side(run, metric) if of_lm_eval else task_side(run, metric)


# ---------------------------------------------------------------- tasks


def _matched(sides: Sequence[Side], wanted: Collection[str] | None) -> tuple[list[list[AskedTask]], dict[str, str]]:
    """Per side its tasks that all sides have, in the order of the first; the others with the reason."""
    left_out: dict[str, str] = {}
    rows = []
    for name, task in sides[0].tasks.items():
        row = [task]
        for side in sides[1:]:
            row += [found] if (found := _same_task(task, side)) else []
        if len(row) == len(sides):
            rows.append(row)
        else:
            left_out[name] = "not every result has it"
    if wanted is not None:
        named = {task.name for row in rows for task in row}
        if unknown := sorted(set(wanted) - named):
            shared = ", ".join(row[0].name for row in rows) or "none"
            raise UserError(f"not every result has a task {unknown[0]!r}; all have {shared}")
        rows = [row for row in rows if {task.name for task in row} & set(wanted)]
    for place, side in enumerate(sides[1:], start=1):
        used = {row[place].name for row in rows}
        left_out |= {name: f"only {side.name!r} has it, or it was not chosen" for name in side.tasks if name not in used}
    for side in sides:
        left_out |= {name: f"{side.name}: {why}" for name, why in side.left_out.items()}
    if not rows:
        raise UserError(_nothing_shared(sides))
    return [list(column) for column in zip(*[_keyed(row) for row in rows], strict=True)], left_out


def _nothing_shared(sides: Sequence[Side]) -> str:
    named = "; ".join(f"{side.name!r} has {', '.join(side.tasks) or 'none with scores by item'}" for side in sides)
    why = "".join(f"; {name} of {side.name!r}: {reason}" for side in sides for name, reason in sorted(side.left_out.items()))
    return f"the results share no task ({named}{why}); give results of the same tasks"


def _same_task(task: AskedTask, side: Side) -> AskedTask | None:
    """The task of a side that asks the same: of the same name, or of the same dialogues, if possible scored alike."""
    if task.name in side.tasks:
        return side.tasks[task.name]
    alike = [one for one in side.tasks.values() if task.tier and one.tier and set(one.dialogues.values()) & set(task.dialogues.values())]
    return next((one for one in alike if one.scoring == task.scoring), alike[0] if alike else None)


def _keyed(row: Sequence[AskedTask]) -> list[AskedTask]:
    """The tasks of a row with the same keys: ids of dialogues where names of the tasks differ."""
    if len({task.name for task in row}) == 1:
        return list(row)
    return [replace(task, answers={task.dialogues[item]: _plain(answer) for item, answer in task.answers.items()}) for task in row]


def _plain(answer: Answer) -> Answer:
    """Without the hash of the document, which only results of one tool share."""
    return replace(answer, asked="")


def _check(steps: Sequence[Sequence[TaskSplit]], sides: Sequence[Side]) -> None:
    for step in steps:
        for one in step:
            if not one.items:
                raise UserError(
                    f"{one.a.name!r}: no item of {sides[0].name!r} and {sides[-1].name!r} is the same; give results of the same documents"
                )


# ---------------------------------------------------------------- figures


def _pairs(one: TaskSplit) -> list[tuple[Any, Any]]:
    return [(one.a.answers[item], one.b.answers[item]) for item in one.items]


def _mean_score(tasks: Sequence[AskedTask]) -> float:
    return sum(task.score for task in tasks) / len(tasks)


def _mean_gap(step: Sequence[TaskSplit]) -> float:
    return sum(one.gap for one in step) / len(step)


def _gap(steps: Sequence[Sequence[TaskSplit]]) -> Figure:
    value = sum(_mean_gap(step) for step in steps)
    if all(one.only_a == one.only_b == 0 for step in steps for one in step):
        return _figure(steps, lambda one: [a.score - b.score for a, b in _pairs(one)], value)
    return over_all_items(steps, value, of_missing=False)


def figure_of(name: str, steps: Sequence[Sequence[TaskSplit]]) -> Figure:
    """A part of the gap over all steps and tasks, with its interval (docs/spec/explain.md#intervals)."""
    value = sum(sum(one.part(name) for one in step) / len(step) for step in steps)
    if name == "items":
        n = sum(one.only_a + one.only_b for step in steps for one in step)
        return (
            replace(over_all_items(steps, value, of_missing=True), n=n) if n else Figure(value, n=0, note="no interval: no item is missing")
        )
    return _figure(steps, lambda one: one.parts[name], value)


def _part(name: str, steps: Sequence[Sequence[TaskSplit]]) -> Part:
    every = [value for step in steps for one in step for value in one.parts.get(name, ())]
    raised, lowered = (sum(sign * value > 1e-9 for value in every) for sign in (1, -1))
    return Part(name=name, size=figure_of(name, steps), raised=raised, lowered=lowered)


def _figure(steps: Sequence[Sequence[TaskSplit]], contributions: Any, value: float) -> Figure:
    """A sum over the steps of means over tasks, with its interval."""
    tasks, weights, of_items, of_a, of_b, histories = [], [], [], [], [], []
    for step in steps:
        for one in step:
            tasks.append(np.asarray(contributions(one), dtype=np.float64))
            weights.append(np.full(len(one.items), 1 / (len(one.items) * len(step))))
            of_items += [(one.a.name, item) for item in one.items]  # the same item in every step
            of_a += [one.a.answers[item].cluster for item in one.items]
            of_b += [one.b.answers[item].cluster for item in one.items]
            histories += [one.a.answers[item].histories for item in one.items]
    clusters = components(components(of_items, of_a), of_b)
    dependence = Dependence.of(clusters, weight=np.concatenate(weights), histories=histories if any(histories) else None)
    return replace(interval(value, tasks, dependence), n=len(set(of_items)))
