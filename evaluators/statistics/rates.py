"""Shares of items, small ones included, with an interval that allows for skewness (docs/spec/iit.md#ledger).

Each item has an unbiased estimate x of whether something is true of it: 1 or 0 where that is seen, other numbers where luck is taken out
(`guessing`). Under a true share π the estimates have the mean π, and mean squares and cubes that mix, π to 1 - π, those of an item of which
it is true and those of the others (`Moments`). The interval is Wilson's, generalised: all π whose distance from the mean estimate is at
most z standard errors under π. What is added is the first term of Cornish and Fisher's expansion: quantiles of a mean lie
(z² - 1)/6 · K(π)/V(π)/n beside those of a normal one (K third central moment, V variance of one item), which is what a normal interval
misses at small shares. Each bound is solved twice: without that term, then with it as it is there.

Of items in clusters, n is an effective number (`effective_items`). The rule was chosen on the scenes of
tests/evaluators/simulated_ledgers.py, and checked on others by tests/evaluators/coverage_of_ledgers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from evaluators.statistics.dependence import Dependence, Floats, Histories
from evaluators.statistics.exact import Z
from iit_bench.types import Figure

FEW = 20  # items on the rarer side of a share, below which the steps of counts move the coverage of its interval
_SKEWNESS = (Z**2 - 1) / 6
_ALIKE = 0.5  # how alike items of a cluster are taken to be before any is seen: 0 independent … 1 as one
_TINY = 1e-12  # below it, a variance is rounding


@dataclass(frozen=True)
class Moments:
    """Mean square and mean cube of an item's estimate.

    Args:
        own: of an item of which it is true, [2].
        others: of the items of which it is not, [m, 2], one row for each kind of them.
    """

    own: Floats
    others: Floats


@dataclass(frozen=True)
class _Law:
    """Moments of one item's estimate as functions of the true share π."""

    own: tuple[float, ...]
    other: tuple[float, ...]
    missing: float  # mean square that no mixture explains

    @classmethod
    def of(cls, estimates: Floats, value: float, moments: Moments) -> _Law:
        """With those of the other items as the estimates' own moments leave them, within what their kinds allow."""
        seen = [float(np.mean(estimates**power)) for power in (2, 3)]
        least, most = moments.others.min(axis=0), moments.others.max(axis=0)
        left = least if value == 1 else (np.array(seen) - value * moments.own) / (1 - value)
        own, other = (tuple(map(float, pair)) for pair in (moments.own, np.clip(left, least, most)))
        return cls(own, other, max(0.0, seen[0] - value * own[0] - (1 - value) * other[0]))

    def square(self, rate: float) -> float:
        return rate * self.own[0] + (1 - rate) * self.other[0] + self.missing

    def variance(self, rate: float) -> float:
        return self.square(rate) - rate**2

    def skew(self, rate: float) -> float:
        """Third central moment over variance, inside 0 … 1; where the variance is 0, its limit at a share of 0."""
        rate = min(max(rate, 0.0), 1.0)
        if self.variance(rate) < _TINY:
            return self.own[1] / self.own[0]
        third = rate * self.own[1] + (1 - rate) * self.other[1] - 3 * rate * self.square(rate) + 2 * rate**3
        return third / self.variance(rate)

    def bound(self, value: float, items: float, side: int) -> float:
        """The outermost π with (value - π)² ≤ z² V(π) / items, to the left (-1) or to the right (1)."""
        share = Z**2 / items
        centre = (value + share * (self.own[0] - self.other[0]) / 2) / (1 + share)
        rest = (value**2 - share * (self.other[0] + self.missing)) / (1 + share)
        return centre + side * float(np.sqrt(max(0.0, centre**2 - rest)))


def few_items(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Which of these shares rest on few items: fewer than `FEW` are counted there, or fewer than `FEW` anywhere else.

    Args:
        counts: items by what they are; they sum to all items.
    """
    n = sum(counts.values())
    return tuple(name for name, count in counts.items() if n and min(count, n - count) < FEW)


def rate(values: Any, clusters: Any, histories: Histories | None = None) -> Figure:
    """Share of the items whose `values`, [n], are true (or 1), with its interval.

    Args:
        values: 0/1 per item, [n].
        clusters: cluster code per item, [n], or their `Dependence`.
        histories: the history clusters of each item, [n]; None where there are none.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return Figure(None, note="no finished item")
    return mean_estimate(x, Dependence.of(clusters, histories=histories), Moments(np.ones(2), np.zeros((1, 2))))


def mean_estimate(estimates: Floats, dependence: Dependence, moments: Moments) -> Figure:
    """The mean of `estimates`, [n], n ≥ 1, which are unbiased for whether something is true of an item, with its interval."""
    value = round(float(estimates.mean()), 12) + 0.0  # rounding must not make a share of 0 negative
    law = _Law.of(estimates, value, moments)
    influence = (estimates - value) / len(estimates)
    items = effective_items(influence, dependence, law, value)
    low, high = (law.bound(value - _SKEWNESS * law.skew(law.bound(value, items, side)) / items, items, side) for side in (-1, 1))
    variance = dependence.variance(influence)
    kind = "" if dependence.singletons else "clustered " if dependence.shared is None else "two-way clustered "
    return Figure(
        value,
        low=min(value, low),
        high=max(value, high),
        n=len(estimates),
        clusters=dependence.n_clusters,
        se=None if variance is None else float(np.sqrt(variance)),
        method=f"{kind}wilson with skewness",
    )


def effective_items(influence: Floats, dependence: Dependence, law: _Law, value: float) -> float:
    """Items that would give the same standard error if independent: their number over the design effect.

    The design effect is the variance by clusters over that of independent items, and at least 1. What the clusters say on it counts as so
    many degrees of freedom: 2 / (kurtosis of their sums - 1) times their number, which is about twice the clusters where a rare transition
    is seen, and at most their number less one. One degree is added that says that items of a cluster are half as alike as states can make
    them; where no cluster differs, it is all there is. The part of the effect above 1 is estimated, hence t instead of z, with
    (D/(D - 1))² times the degrees of the clusters.
    """
    n = len(influence)
    if dependence.singletons:
        return float(n)
    variance = dependence.variance(influence)
    if variance is None:
        return dependence.as_one
    alike = dependence.independent / min(dependence.as_one, dependence.as_one_history)  # design effect of clusters that are as one
    usual = (n * min(max(value, 0.0), 1.0) + 1) / (n + 2)
    before = 1 + _ALIKE * (alike - 1) * min(1.0, usual * (1 - usual) / max(law.variance(usual), _TINY))
    sums = np.bincount(dependence.cluster, influence)
    squares, of_items = float(np.sum(sums**2)), float(np.sum(influence**2))
    effect, degrees = 1.0, 0.0
    if squares > _TINY / n**2:
        effect = variance / of_items
        differing = float(np.sum(sums**4)) / squares**2 - 1 / dependence.n_clusters
        degrees = min(2 / max(differing, _TINY), dependence.degrees)
    effect = max(1.0, (degrees * effect + before) / (degrees + 1))
    certain = dependence.degrees * (effect / max(effect - 1, _TINY)) ** 2
    t = float(stdtrit(certain, 0.975)) if 0 < certain < 1e9 else Z
    return max(n / effect * (Z / t) ** 2, min(n / alike, n / effect))  # few clusters: t does not go past items that are as one
