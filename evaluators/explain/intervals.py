"""Intervals of the parts of a gap (docs/spec/explain.md#intervals)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from evaluators.statistics import Dependence, Floats, Z
from iit_bench.types import Figure


def interval(value: float, tasks: Sequence[Floats], dependence: Dependence) -> Figure:
    """A mean of the means of tasks with its 95% interval.

    Args:
        value: the mean.
        tasks: contributions per item, of each task; of several steps, one after the other.
        dependence: of all items in that order, each with what it weighs in the mean; weights sum to the number of steps.

    Of contributions that are all -1, 0 or 1 and of one step it is the adjusted Wald interval of `statistics.paired`, tasks as strata; else
    Student's on the clusters' sums.
    """
    d = np.concatenate(tasks)
    n, clusters = len(d), dependence.n_clusters
    influence = np.concatenate([values - values.mean() for values in tasks]) * dependence.weight
    variance = dependence.variance(influence)
    if not np.any(d):
        return Figure(value, n=n, clusters=clusters, note="no interval: no item has a part in it")
    se = None if variance is None else float(np.sqrt(variance))
    if np.isin(d, (-1.0, 0.0, 1.0)).all() and abs(float(dependence.weight.sum()) - 1) < 1e-9:
        low, high = _adjusted(d, value, influence, tasks, dependence)
        return Figure(value, low=low, high=high, n=n, clusters=clusters, se=se, method="clustered adjusted Wald")
    return student(value, influence, dependence)


def student(value: float, influence: Floats, dependence: Dependence) -> Figure:
    """A sum of means with Student's interval on the clusters' sums.

    Args:
        influence: what each item adds to the value's deviation from what it estimates, [n]; its sum over the items of each mean is 0.
        dependence: of the items, each with what it weighs; the sum does not matter.
    """
    dependence = Dependence.of(dependence, weight=dependence.weight / dependence.weight.sum())
    n, clusters, df = len(influence), dependence.n_clusters, dependence.degrees
    variance = dependence.variance(influence)
    se = None if variance is None else float(np.sqrt(variance))
    if not se or df <= 0:
        return Figure(value, n=n, clusters=clusters, se=se, note="no interval: the items do not vary")
    half = float(stdtrit(df, 0.975)) * se
    return Figure(value, low=value - half, high=value + half, n=n, clusters=clusters, se=se, method="clustered t")


def _adjusted(d: Floats, value: float, influence: Floats, tasks: Sequence[Floats], dependence: Dependence) -> tuple[float, float]:
    """Bonett & Price (2012), with one pair added to either side, on the effective number of items."""
    weight = dependence.weight
    items = dependence.independent
    if not dependence.singletons:
        between = float(np.mean([values.mean() ** 2 for values in tasks]))
        items = dependence.effective(float(weight @ d**2) - between, influence, ((1 - value) ** 2 + (1 + value) ** 2) / 2)
    more, less = ((float(weight @ (d == sign)) * items + 1) / (items + 2) for sign in (1, -1))
    half = Z * float(np.sqrt((more + less - (more - less) ** 2) / (items + 2)))
    return max(-1.0, more - less - half), min(1.0, more - less + half)
