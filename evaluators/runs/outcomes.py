"""Counts of outcomes over the items of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from iit_bench.types import OUTCOMES, Outcome, TaskItem


def count_outcomes(items: Iterable[TaskItem]) -> dict[str, int]:
    """Outcome -> items, each item of a task counted once, by the first of its metrics."""
    first: dict[tuple[str, str], Outcome] = {}
    for item in items:
        first.setdefault((item.task, item.item), item.outcome)
    counts = Counter(first.values())
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def outcomes_by_metric(items: Iterable[TaskItem]) -> dict[str, dict[str, int]]:
    """Metric -> outcome -> items, of metrics whose items all have scores in 0 … 1; those of a perplexity are neither right nor wrong."""
    of_metric: dict[str, list[TaskItem]] = {}
    for item in items:
        of_metric.setdefault(item.metric, []).append(item)
    return {metric: count_outcomes(rows) for metric, rows in of_metric.items() if all(0 <= row.score <= 1 for row in rows)}
