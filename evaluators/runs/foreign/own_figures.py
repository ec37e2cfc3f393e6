"""A task's figures from another tool's values and the scores of its items, for tools whose files have both (lmms-eval, lighteval)."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators import statistics
from evaluators.runs.outcomes import count_outcomes, outcomes_by_metric
from evaluators.text.figures import Measured, from_items, from_stderr
from iit_bench.types import Figure, Outcome, TaskItem, TaskResult

Values = Mapping[str, tuple[float, float | None]]  # metric -> the tool's value and standard error


def task_result(
    task: str, values: Values, items: Sequence[TaskItem], *, tool: str, count: int, higher: Mapping[str, Any] | None = None, **asked: Any
) -> TaskResult:
    """The result of a task.

    Args:
        values: the tool's own, the main metric first.
        items: of any metrics; without items, or where their mean is not the tool's value, an interval comes from the standard error.
        count: documents that were asked.
        higher: metric -> whether more is better, where the tool says.
        asked: other fields of the result.
    """
    scores = {}
    for metric, (value, stderr) in values.items():
        rows = [item for item in items if item.metric == metric]
        scores[metric] = figure(rows, Measured(metric=metric, value=value, stderr=stderr, count=count, tool=tool))
    main = next(iter(values), "")
    shown = [item for item in items if item.metric == main]
    shown_value = scores[main].value if main else None
    fraction = shown_value is not None and 0 <= shown_value <= 1 and all(0 <= item.score <= 1 for item in shown)
    best = 1.0 if fraction and (higher or {}).get(main) is not False else None
    chance = asked.pop("chance", {}) if best else {}
    return TaskResult(
        task=task,
        metric=main,
        scores=scores or {"": Figure(None, note=f"not available: {tool} gave no number")},
        outcomes=count_outcomes(shown),
        metric_outcomes=outcomes_by_metric(items),
        best=best,
        chance=chance,
        **asked,
    )


def figure(rows: Sequence[TaskItem], measured: Measured) -> Figure:
    """The tool's value with the interval of its items, where it is their mean or a hundred times that; else of its standard error."""
    if rows and len(rows) == measured.count:
        own = sum(row.score for row in rows) / len(rows)
        if not math.isclose(own, measured.value, abs_tol=1e-9) and math.isclose(100 * own, measured.value, abs_tol=1e-6):
            fraction = Measured(metric=measured.metric, value=own, stderr=None, count=measured.count, tool=measured.tool)
            return statistics.linear(from_items(rows, fraction, 0), 100, 0)
        return from_items(rows, measured, 0)
    return from_stderr(measured)


def number(value: Any) -> float | None:
    """A score as a number: true and false are 1 and 0; None for what is none."""
    return float(value) if isinstance(value, (bool, int, float)) and abs(value) <= sys.float_info.max else None


def documents(value: Any) -> int:
    """A count of documents. lm-eval 0.4.5 writes a limit as 10.0.

    Raises:
        ValueError: it is no count, or a negative one.
    """
    count = number(value)
    if isinstance(value, bool) or count is None or count < 0 or not count.is_integer():
        raise ValueError(f"{str(value)[:60]!r} is no count of documents")
    return int(count)


def outcome(score: float) -> Outcome:
    """These tools do not tell unparsed replies from wrong ones."""
    return "correct" if score == 1 else "wrong"
