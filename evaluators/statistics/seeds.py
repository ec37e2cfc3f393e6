"""One model under several seeds: the mean over seeds and items, both drawn at random (docs/spec/iit.md#seeds).

Crossed random effects, balanced: every seed answers the same items. The variance of the mean is that by seed, plus that by cluster of
items, minus that by both, since each of the first two holds the last (a two-way analysis of variance, and with one item per cluster
exactly that; Cameron, Gelbach & Miller 2011 for clusters). Few seeds say little on how much seeds differ, so the interval is Student's
with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from evaluators.statistics.dependence import Dependence
from evaluators.statistics.exact import Z
from evaluators.statistics.histories import Floats, Ints
from evaluators.statistics.means import wilson
from iit_bench.types import Figure

_ROUNDING = 1e-24  # a variance below it is 0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the variance of a mean over seeds and items is made of. Variance = by_seed + by_item - by_both, at least the larger of the
    first two."""

    per_seed: tuple[float, ...]
    by_seed: float
    by_item: float
    by_both: float
    df_item: float  # degrees of freedom of by_item
    df: float  # of the whole, by Satterthwaite

    @property
    def between(self) -> float:
        """Variance of the seeds' own effect; below 0 where they differ less than items let them."""
        return len(self.per_seed) * (self.by_seed - self.by_both)


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """A figure over several seeds."""

    figure: Figure  # mean over seeds and items; n counts items, each of which every seed answered
    per_seed: tuple[float, ...]  # the figure of each seed, in the order given
    between: float  # standard deviation of the seeds' own effect, without what items add by chance; 0 where none is found
    df: float  # degrees of freedom of the interval
    p: float | None = None  # two-sided, that the mean is 0; None for an accuracy
    parts: Parts  # what the variance of the mean is made of


def accuracy_over_seeds(right: Floats, dependence: Dependence, tiers: Ints) -> OverSeeds:
    """Mean over tiers of the accuracy in each, over seeds.

    Args:
        right: 0/1 per seed and item, [S, n], two seeds or more.
        dependence: of the items; its weights are not used.
        tiers: tier code 0 … T-1 per item, [n], none empty.

    The interval is Wilson's on as many items as would give the variance, so it stays in 0 … 1 and has a width where all are right.
    """
    value, variance, parts, dependence = _variance(right, dependence, tiers)
    seeds = len(right)
    spread, df = value * (1 - value), parts.df
    least = dependence.independent * seeds  # as if no two answers depended on each other
    items = min(spread / variance, least) if variance > 0 and spread > 0 else dependence.as_one
    t = float(stdtrit(df, 0.975)) if df > 0 else np.inf
    low, high = wilson(value, items * (Z / t) ** 2) if np.isfinite(t) else (0.0, 1.0)
    se = float(np.sqrt(variance))
    n, clusters = right.shape[1], dependence.n_clusters
    figure = Figure(value, low=low, high=high, n=n, clusters=clusters, se=se, method="seeds and clusters, Wilson")
    return OverSeeds(figure=figure, per_seed=parts.per_seed, between=_root(parts.between), df=df, parts=parts)


def difference_over_seeds(differences: Floats, dependence: Dependence) -> OverSeeds:
    """Mean difference over seeds and items.

    Args:
        differences: per seed and item, -1 … 1, [S, n], two seeds or more.
        dependence: of the items.
    """
    return contrast_over_seeds(differences, dependence, np.zeros(differences.shape[1], dtype=np.int64), largest=1.0)


def contrast_over_seeds(values: Floats, dependence: Dependence, parts: Ints, *, largest: float = np.inf) -> OverSeeds:
    """Sum over parts of the mean over seeds and items of each, divided by the number of parts; with a test that it is 0.

    Args:
        values: per seed and item, [S, n], two seeds or more. A part's factor, such as the slope of an interpolation, is in its values.
        dependence: of the items, of all parts; its weights are not used.
        parts: code 0 … P-1 of each item's part, [n], none empty: a tier, or the items of another kind that enter the figure.
        largest: bound of what is possible on either side, which the interval does not leave.
    """
    value, variance, made, dependence = _variance(values, dependence, parts)
    n, clusters, df = values.shape[1], dependence.n_clusters, made.df
    se = float(np.sqrt(variance))
    if se == 0 or df <= 0:
        figure = Figure(value, n=n, clusters=clusters, se=se, note="no interval: nothing varies, or one cluster")
        return OverSeeds(figure=figure, per_seed=made.per_seed, between=_root(made.between), df=df, parts=made)
    half = float(stdtrit(df, 0.975)) * se
    low, high = max(-largest, value - half), min(largest, value + half)
    figure = Figure(value, low=low, high=high, n=n, clusters=clusters, se=se, method="seeds and clusters, t")
    return OverSeeds(
        figure=figure, per_seed=made.per_seed, between=_root(made.between), df=df, parts=made, p=2 * float(stdtr(df, -abs(value) / se))
    )


def _variance(y: Floats, dependence: Dependence, tiers: Ints) -> tuple[float, float, Parts, Dependence]:
    """Mean over tiers, its variance, what that is made of, and the items' dependence with their weights."""
    seeds = len(y)
    if seeds < 2:
        raise ValueError("one seed has no variance between seeds")
    sizes = np.bincount(tiers)
    weight = 1 / (len(sizes) * sizes)[tiers]
    dependence = Dependence.of(dependence, weight)
    per_seed = np.array([float(np.mean(np.bincount(tiers, one) / sizes)) for one in y])
    item = y.mean(axis=0)
    centred = item - (np.bincount(tiers, item) / sizes)[tiers]
    by_item = dependence.variance(weight * centred) or 0.0
    by_seed = float(np.var(per_seed, ddof=1)) / seeds
    by_both = _by_both(y - item, weight, dependence, tiers)
    by_seed, by_item = (0.0 if part < _ROUNDING else part for part in (by_seed, by_item))
    variance = max(by_seed, by_item, by_seed + by_item - by_both)
    df = _degrees(by_seed, seeds - 1, by_item, dependence.degrees)
    made = Parts(per_seed=tuple(per_seed.tolist()), by_seed=by_seed, by_item=by_item, by_both=by_both, df_item=dependence.degrees, df=df)
    return float(np.clip(per_seed.mean(), y.min(), y.max())), variance, made, dependence


def _root(variance: float) -> float:
    return float(np.sqrt(max(0.0, variance)))


def _by_both(residual: Floats, weight: Floats, dependence: Dependence, tiers: Ints) -> float:
    """Variance by (seed, cluster): what is left of an answer without its seed's and its item's mean."""
    seeds, clusters = len(residual), dependence.n_clusters
    if clusters < 2:
        return 0.0
    sizes = np.bincount(tiers)
    total = 0.0
    for one in residual:
        own = one - (np.bincount(tiers, one) / sizes)[tiers]
        total += float(np.sum(np.bincount(dependence.cluster, weight * own) ** 2))
    return total / seeds**2 * clusters / (clusters - 1) * seeds / (seeds - 1)


def _degrees(by_seed: float, df_seed: float, by_item: float, df_item: float) -> float:
    """Satterthwaite's, for the sum of the two."""
    if df_item <= 0:
        return 0.0
    below = by_seed**2 / df_seed + by_item**2 / df_item
    return (by_seed + by_item) ** 2 / below if below > 0 else df_item
