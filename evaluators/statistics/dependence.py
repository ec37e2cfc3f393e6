"""Which items depend on each other, and what that does to a variance (docs/spec/iit.md#variance-by-history).

* One-way: the standard error is the cluster-robust one of Miller (2024, arXiv 2411.00640) times the small-sample factor G/(G-1),
  G = clusters. It equals the cluster-robust covariance of an intercept-only regression.
* Two-way, where one history cluster serves items of several target clusters: variance by target cluster, plus by history cluster, minus
  by both (Cameron, Gelbach & Miller 2011), at least the larger one-way variance. An item with several history clusters shares its history
  with every item that has one of them.
* Few clusters that differ say little on how strongly items depend on each other, least of all near 0 and 1, where the variance by
  clusters rests on a handful of wrong items. So two pseudo-clusters of the usual size are added, one that answers all right and one that
  answers all wrong, `PSEUDO` times each. With all items right, the effective number of items is then that of clusters that answer as
  one. `PSEUDO` is the least number (z²/2, rounded up to Agresti and Coull's two) with which one more wrong item never raises a lower
  bound: the more certain dependence never outweighs the lower value.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit

from evaluators.statistics.exact import Z
from evaluators.statistics.histories import Floats, HistoryCodes, Ints, SharedHistories, codes, ranks

Histories = HistoryCodes | Sequence[Iterable[Hashable]]  # per item, the clusters of its history turns; empty without a history

PSEUDO = 2.0  # pseudo-clusters of each kind


def components(groups: Iterable[Hashable], clusters: Iterable[Hashable]) -> Ints:
    """Codes of the connected components of items that share a group or a cluster, shape [n].

    A pooled figure holds one target under several histories (its group) and several targets over one image (their cluster): only
    items in different components are independent.
    """
    group, cluster = codes(groups), codes(clusters)
    if not len(group):
        return group
    n_groups = int(group.max()) + 1
    size = n_groups + int(cluster.max()) + 1
    edges = coo_array((np.ones(len(group), dtype=np.int8), (group, cluster + n_groups)), shape=(size, size))
    _, labels = connected_components(edges, directed=False)
    return codes(labels[group])


@dataclass(frozen=True, eq=False)
class Dependence:
    """Which of n items depend on each other.

    Args:
        cluster: code of the target cluster per item, [n], 0 … G-1 without gaps.
        weight: what an item weighs in the figure, [n], with sum 1.
        shared: the items' history clusters; None where no history cluster serves two target clusters.
    """

    cluster: Ints
    weight: Floats
    shared: SharedHistories | None = None

    @classmethod
    def of(cls, clusters: Any, weight: Floats | None = None, histories: Histories | None = None) -> Dependence:
        """From cluster codes [n], which may have gaps, and the history clusters of each item; weights are equal if None.

        `clusters` may be a `Dependence`: then of the same items, with these weights. What it has worked out is kept, so figures over the
        same items should share one.
        """
        if isinstance(clusters, Dependence):
            return replace(clusters, weight=_equal(len(clusters.cluster)) if weight is None else weight)
        cluster = ranks(np.asarray(clusters, dtype=np.int64))
        known = histories if isinstance(histories, HistoryCodes) or histories is None else HistoryCodes.of(histories)
        shared = None if known is None or not len(cluster) else SharedHistories.of(known, cluster)
        return cls(cluster, _equal(len(cluster)) if weight is None else weight, shared)

    @cached_property
    def n_clusters(self) -> int:
        """Target clusters."""
        return int(self.cluster.max()) + 1

    @property
    def singletons(self) -> bool:
        """Every item is independent of every other."""
        return self.shared is None and self.n_clusters == len(self.cluster)

    @cached_property
    def independent(self) -> float:
        """Kish's effective number of items if all were independent, 1 / Σ w²: their number where they weigh the same."""
        return 1 / float(np.sum(self.weight**2))

    @cached_property
    def as_one(self) -> float:
        """The effective number of target clusters: of items, if those of a cluster always answer alike."""
        return 1 / float(np.sum(np.bincount(self.cluster, self.weight) ** 2))

    @cached_property
    def as_one_history(self) -> float:
        """The effective number of history clusters; infinite without shared histories."""
        return np.inf if self.shared is None else 1 / self.shared.sums(self.weight)[0]

    @property
    def degrees(self) -> float:
        """Degrees of freedom of an estimated SE: the smaller effective number of clusters, less one."""
        return min(self.as_one, self.as_one_history) - 1

    def variance(self, influence: Floats) -> float | None:
        """Variance of the sum of the items' influence values [n], cluster-robust, one-way or two-way; None for one cluster.

        Infinite where squares are beyond floating point, of scores that their readers refuse in a sentence (runs/foreign/run.py).
        """
        if self.n_clusters < 2:
            return None
        with np.errstate(over="ignore"):
            return self._variance(influence)

    def _variance(self, influence: Floats) -> float:
        by_target = _corrected(float(np.sum(np.bincount(self.cluster, influence) ** 2)), self.n_clusters)
        if self.shared is None:
            return by_target
        by_history, by_both = self.shared.sums(influence)
        n_histories, n_both = self.shared.counts
        by_history = _corrected(by_history, n_histories)
        return max(by_target, by_history, by_target + by_history - _corrected(by_both, n_both))

    def effective(self, spread: float, influence: Floats, wrong: float) -> float:
        """Items that would give the same SE if independent, with the pseudo-clusters of this module's head.

        Args:
            spread: variance of one item, e.g. p(1-p).
            influence: the items' influence values, [n], whose sum's variance is estimated.
            wrong: squared distance of the two pseudo-clusters' items from the mean, summed over the two, e.g. p² + (1-p)².

        Returns:
            At most the number of independent items; with influence values of 0, that of clusters that answer as one. It is reduced by
            (z/t)², because the SE is estimated from few clusters.
        """
        variance = self.variance(influence)
        if variance is None:
            return self.as_one
        size = self.independent / self.as_one  # items of a usual cluster
        pseudo = PSEUDO * size * wrong / self.independent
        estimate = min((spread + pseudo) / (variance * self.independent + size * pseudo) * self.independent, self.independent)
        # Few clusters: t instead of z, which must not push the estimate past the worst case; one that is worse by itself (large clusters
        # differ from small ones) is kept.
        t = float(stdtrit(self.degrees, 0.975)) if self.degrees > 0 else np.inf
        return max(estimate * (Z / t) ** 2, min(self.as_one, estimate))


def _equal(n: int) -> Floats:
    return np.full(n, 1 / max(1, n))


def _corrected(variance: float, n_clusters: int) -> float:
    """Times G/(G-1); as it is for one cluster, whose sum of influence values is 0."""
    return variance * n_clusters / (n_clusters - 1) if n_clusters > 1 else variance
