"""Intervals of what rests on items that only one side has: the gap over all items, and the part of items missing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluators.explain.intervals import student
from evaluators.explain.sides import AskedTask
from evaluators.explain.split import TaskSplit
from evaluators.statistics import Dependence, components
from iit_bench.types import Figure


@dataclass(frozen=True, kw_only=True)
class _Item:
    """An item of either side, or of both."""

    name: tuple[str, str]  # task, item
    clusters: tuple[Hashable, Hashable]  # by A and by B; of a side that lacks the item, the other's
    histories: tuple[str, ...]
    weight: float
    influence: float  # on A's mean minus B's, each over all its items
    of_missing: float  # on the part of items missing


def over_all_items(steps: Sequence[Sequence[TaskSplit]], value: float, *, of_missing: bool) -> Figure:
    """The gap, or the part of items missing, with its interval (docs/spec/explain.md#intervals).

    Args:
        steps: per pair of neighbours, per task.
        value: the figure, a sum over the steps of means over tasks.
        of_missing: of the part; else of the gap.
    """
    rows = [item for step in steps for one in step for item in _items(one, tasks=len(step))]
    of_a, of_b = zip(*(row.clusters for row in rows), strict=True)
    clusters = components(components([row.name for row in rows], of_a), of_b)
    histories = [row.histories for row in rows]
    weight = np.array([row.weight for row in rows])
    dependence = Dependence.of(clusters, weight=weight, histories=histories if any(histories) else None)
    influence = np.array([row.of_missing if of_missing else row.influence for row in rows])
    return replace(student(value, influence, dependence), n=len({row.name for row in rows}))


def _items(one: TaskSplit, *, tasks: int) -> Iterator[_Item]:
    """The items of a task; it is one of so many, with equal weights."""
    a, b, common = one.a.answers, one.b.answers, set(one.items)
    mean_a, mean_b = one.a.score, one.b.score
    common_a, common_b = (sum(side.answers[item].score for item in common) / max(1, len(common)) for side in (one.a, one.b))
    for name in dict.fromkeys((*a, *b)):
        in_a, in_b = name in a, name in b
        by_a = (a[name].score - mean_a) / len(a) if in_a else 0.0
        by_b = (b[name].score - mean_b) / len(b) if in_b else 0.0
        shared = ((a[name].score - common_a) - (b[name].score - common_b)) / len(common) if name in common else 0.0
        answer = a[name] if in_a else b[name]
        yield _Item(
            name=(one.a.name, name),
            clusters=(_cluster(one.a, one.b, name), _cluster(one.b, one.a, name)),
            histories=answer.histories,
            weight=(in_a / len(a) + in_b / len(b)) / (2 * tasks),
            influence=(by_a - by_b) / tasks,
            of_missing=(by_a - by_b - shared) / tasks,
        )


def _cluster(mine: AskedTask, other: AskedTask, name: str) -> str:
    return (mine.answers.get(name) or other.answers[name]).cluster
