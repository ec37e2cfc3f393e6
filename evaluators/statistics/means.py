"""Accuracies and means over tiers, with intervals that are never of zero width and never leave [0, 1].

An accuracy's interval is Wilson's: on the items where all are independent, else on the effective number of items
(`dependence.Dependence.effective`). Coverage is simulated in tests/evaluators/test_statistics_coverage.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evaluators.statistics.dependence import Dependence, Histories
from evaluators.statistics.exact import Z
from iit_bench.types import Figure


def mean(values: Any, clusters: Any, histories: Histories | None = None) -> Figure:
    """Mean of `values` [n], 0/1 or 0 … 1, with its interval; arguments as of `weighted_mean`."""
    return weighted_mean(values, clusters, np.zeros(len(values), dtype=np.int64), histories=histories)


def weighted_mean(
    values: Any, clusters: Any, tiers: Any, weights: Sequence[float] | None = None, *, histories: Histories | None = None
) -> Figure:
    """Mean over tiers of the mean of `values` in each tier, with its interval.

    Args:
        values: 0/1 per item, or 0 … 1 for partial credits, [n].
        clusters: cluster code per item, [n]; an item's dependants in other tiers share its code.
        tiers: tier code 0 … T-1 per item, [n], none empty.
        weights: one per tier, positive; equal if None. They are divided by their sum.
        histories: the history clusters of each item, [n]; None where there are none.

    The SE is that of the sum of the items' influence values, weight/n_tier · (value - tier mean), clustered (Miller 2024), two-way where
    histories are shared.
    """
    x, tier = np.asarray(values, dtype=np.float64), np.asarray(tiers, dtype=np.int64)
    if not len(x):
        return Figure(None, note="no finished item")
    per_tier = np.bincount(tier)
    share = np.ones(len(per_tier)) if weights is None else np.asarray(weights, dtype=np.float64)
    means = np.bincount(tier, x) / per_tier
    value = 1.0 if bool(np.all(x == 1)) else float(np.average(means, weights=share))  # exactly 1, whatever the weights' rounding
    weight = (share / share.sum() / per_tier)[tier]
    dependence = Dependence.of(clusters, weight, histories)
    influence = weight * (x - means[tier])
    variance = dependence.variance(influence)
    se = None if variance is None else float(np.sqrt(variance))
    plain = dependence.singletons and len(per_tier) == 1
    items = len(x) if plain else dependence.effective(value * (1 - value), influence, value**2 + (1 - value) ** 2)
    low, high = wilson(value, items)
    method = "wilson" if plain else "clustered wilson" if dependence.shared is None else "two-way clustered wilson"
    return Figure(value, low=low, high=high, n=len(x), clusters=dependence.n_clusters, se=se, method=method)


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion `value` of `n` items; `n` may be an effective number."""
    centre = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    # The bound is exact at 0 and 1; rounding must not leave the value outside its interval.
    low = 0.0 if value == 0 else max(0.0, float(centre - half))
    high = 1.0 if value == 1 else min(1.0, float(centre + half))
    return low, high


def chance_corrected(accuracy: Figure, chance: float | None) -> Figure:
    """(acc - chance) / (1 - chance), bounds and SE moved likewise: chance is a property of the items asked, not an estimate."""
    if chance is None or chance >= 1:
        return Figure(None, n=accuracy.n, clusters=accuracy.clusters, note=accuracy.note or "no chance level")
    return linear(accuracy, 1 / (1 - chance), -chance / (1 - chance))


def linear(figure: Figure, slope: float, intercept: float) -> Figure:
    """slope · figure + intercept with its interval; `slope` is positive."""

    def moved(bound: float | None) -> float | None:
        return None if bound is None else slope * bound + intercept

    se = None if figure.se is None else slope * figure.se
    return replace(figure, value=moved(figure.value), low=moved(figure.low), high=moved(figure.high), se=se)
