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
