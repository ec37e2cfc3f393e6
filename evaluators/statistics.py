"""Intervals and tests for accuracies over items that share images, passages or facts (docs/spec/iit.md#figures).

Every function works on dense arrays: `values` are 0/1 per item, `clusters` are integer codes per item (see `codes`, `components`).
Items of one cluster may depend on each other; clusters do not. All intervals are 95%, two-sided.

How the choices below were made (coverage is simulated in tests/evaluators/test_statistics_coverage.py):

* The standard error is the cluster-robust one of Miller (2024, arXiv 2411.00640) times the small-sample factor G/(G-1),
  G = clusters. It equals the cluster-robust covariance of an intercept-only regression.
* An accuracy's interval is Wilson's with an effective number of items, n_eff = p(1-p)/SE², reduced by (z/t)² because SE is estimated
  from few clusters: t has K-1 degrees of freedom, K = n²/Σ size² (Kish), which is G where clusters are of one size and less where a
  few large ones decide. n_eff is kept between K, its value for clusters that answer as one, and the number of items. At 0 and 1 the
  the data hold no information on dependence, so K is taken: the interval is never of zero width and never leaves [0, 1].
* A paired difference takes the adjusted Wald interval of Bonett & Price (2012), which adds one pair to either side, on the same
  effective number of items. So two runs that agree on every item do not get an interval of zero width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import bdtr, ndtr, ndtri, stdtr, stdtrit

from iit_bench.types import Figure, PairedResult

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z = float(ndtri(0.975))
DETECTABLE = 1.96 + 0.84  # two-sided 5% and 80% power, in standard errors (docs/spec/iit.md#detectable-difference)
BOOTSTRAP_SEED = 20240603
BOOTSTRAP_SAMPLES = 4000


# ---------------------------------------------------------------- clusters


def codes(labels: Iterable[Hashable]) -> Ints:
    """Integer codes 0, 1, … of `labels` in order of first appearance, shape [n]."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.int64)


def components(groups: Sequence[Hashable], clusters: Sequence[Hashable]) -> Ints:
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
    return codes(labels[group].tolist())


# ---------------------------------------------------------------- accuracies


def mean(values: Any, clusters: Any) -> Figure:
    """Mean of 0/1 `values` [n] with its interval; Wilson's where no cluster repeats, else Wilson's on the effective number of items."""
    return weighted_mean(values, clusters, np.zeros(len(values), dtype=np.int64))


def weighted_mean(values: Any, clusters: Any, tiers: Any, weights: Sequence[float] | None = None) -> Figure:
    """Mean over tiers of the mean of 0/1 `values` in each tier, with its interval.

    Args:
        values: 0/1 per item, [n].
        clusters: cluster code per item, [n]; an item's dependants in other tiers share its code.
        tiers: tier code 0 … T-1 per item, [n], none empty.
        weights: one per tier, positive; equal if None. They are divided by their sum.

    The SE is that of the sum of the items' influence values, weight/n_tier · (value - tier mean), clustered (Miller 2024).
    """
    x, cluster, tier = np.asarray(values, dtype=np.float64), _dense(clusters), np.asarray(tiers, dtype=np.int64)
    if not len(x):
        return Figure(None, note="no finished item")
    per_tier = np.bincount(tier)
    share = np.ones(len(per_tier)) if weights is None else np.asarray(weights, dtype=np.float64)
    means = np.bincount(tier, x) / per_tier
    value = 1.0 if bool(np.all(x == 1)) else float(np.average(means, weights=share))  # exactly 1, whatever the weights' rounding
    n, n_clusters = len(x), int(cluster.max()) + 1
    weight = (share / share.sum() / per_tier)[tier]
    influence = weight * (x - means[tier])
    se = _robust_se(np.bincount(cluster, influence))
    if n_clusters == n and len(per_tier) == 1:
        low, high = wilson(value, n)
        return Figure(value, low=low, high=high, n=n, clusters=n_clusters, se=se, method="wilson")
    as_one = 1 / float(np.sum(np.bincount(cluster, weight) ** 2))
    independent = 1 / float(np.sum(weight**2))
    low, high = wilson(value, _effective_items(value * (1 - value), se, as_one, independent))
    return Figure(value, low=low, high=high, n=n, clusters=n_clusters, se=se, method="clustered wilson")


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


def _effective_items(variance: float, se: float | None, as_one: float, independent: float) -> float:
    """Items that would give the same SE if independent, between `as_one` (clusters answer as one) and `independent`.

    `variance` is that of one item, e.g. p(1-p).
    """
    if se is None or variance <= 0:
        return as_one
    if se == 0:
        return independent
    estimate = variance / se**2
    adjusted = estimate * (Z / float(stdtrit(as_one - 1, 0.975))) ** 2
    # t must not push the estimate past the worst case; an estimate that is worse by itself (large clusters differ from small ones) is kept.
    return min(max(adjusted, min(as_one, estimate)), independent)


def _robust_se(sums: Any) -> float | None:
    """Standard error from the clusters' sums of influence values [G], with the factor G/(G-1); None for one cluster."""
    n_clusters = len(sums)
    if n_clusters < 2:
        return None
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.sum(sums**2)))


def _dense(clusters: Any) -> Ints:
    """Codes 0 … G-1 without gaps, so that a subset counts only the clusters it holds."""
    return np.unique(np.asarray(clusters, dtype=np.int64), return_inverse=True)[1]


# ---------------------------------------------------------------- paired differences


def paired(a: Any, b: Any, clusters: Any, *, over: str, against: str) -> PairedResult:
    """Difference of two accuracies over the same items, with interval, test and smallest detectable difference.

    Args:
        a, b: 0/1 per item, [n], in the same order.
        clusters: cluster code per item, [n].
        over, against: labels of the result.

    `p_holm` equals `p`, as for a family of one; `with_holm` sets it for a larger family. `detectable` is None where SE is zero or unknown.
    """
    right_a, right_b, cluster = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64), _dense(clusters)
    n = len(right_a)
    if not n:
        return PairedResult(over=over, against=against, difference=Figure(None, note="no item finished on both sides"))
    n_clusters = int(cluster.max()) + 1
    singletons = n_clusters == n
    d = (right_a - right_b).astype(np.float64)
    value = float(d.mean())
    sums = np.bincount(cluster, d)
    se = _robust_se((sums - value * np.bincount(cluster)) / n)
    only_a, only_b = int(np.sum(d == 1)), int(np.sum(d == -1))
    low, high = _paired_interval(d, cluster, se)
    note = "" if only_a + only_b else "no pair differs"
    method = "adjusted Wald" if singletons else "clustered adjusted Wald"
    figure = Figure(value, low=low, high=high, n=n, clusters=n_clusters, se=se, method=method, note=note)
    p = mcnemar_exact(only_a, only_b) if singletons else sign_flip(np.rint(sums).astype(np.int64))
    return PairedResult(
        over=over,
        against=against,
        difference=figure,
        test="mcnemar exact" if singletons else "cluster sign-flip",
        p=p,
        p_holm=p,
        detectable=DETECTABLE * se if se else None,
        only_a=only_a,
        only_b=only_b,
    )


def paired_means(a: Any, b: Any, clusters: Any, *, over: str, against: str) -> PairedResult:
    """`paired` for scores that are not 0/1 (partial credit, F1, a document's log-likelihood): the difference of two means, in their unit.

    Interval and test are Student's on the clusters' sums (Miller 2024), with G - 1 degrees of freedom; neither exists where all pairs
    differ by the same amount. `only_a` and `only_b` count the items on which that side scored higher.
    """
    cluster = _dense(clusters)
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(d)
    if not n:
        return PairedResult(over=over, against=against, difference=Figure(None, note="no item finished on both sides"))
    value, n_clusters = float(d.mean()), int(cluster.max()) + 1
    se = _robust_se((np.bincount(cluster, d) - value * np.bincount(cluster)) / n)
    only_a, only_b = int(np.sum(d > 0)), int(np.sum(d < 0))
    if not se:
        figure = Figure(value, n=n, clusters=n_clusters, se=se, note="no interval: the pairs do not vary")
        return PairedResult(over=over, against=against, difference=figure, only_a=only_a, only_b=only_b)
    half = float(stdtrit(n_clusters - 1, 0.975)) * se
    method = "clustered t" if n_clusters < n else "t"
    figure = Figure(value, low=value - half, high=value + half, n=n, clusters=n_clusters, se=se, method=method)
    p = 2 * float(stdtr(n_clusters - 1, -abs(value) / se))
    return PairedResult(
        over=over,
        against=against,
        difference=figure,
        test="paired t",
        p=p,
        p_holm=p,
        detectable=DETECTABLE * se,
        only_a=only_a,
        only_b=only_b,
    )


def _paired_interval(d: Floats, cluster: Ints, se: float | None) -> tuple[float, float]:
    """Bonett & Price (2012) for the mean of `d` in {-1, 0, 1}, on the effective number of pairs where clusters repeat."""
    n, sizes = len(d), np.bincount(cluster)
    if len(sizes) == n:
        items = float(n)
    else:
        variance = float(np.mean(d**2) - np.mean(d) ** 2)
        items = _effective_items(variance, se, n**2 / float(np.sum(sizes**2)), n)
    more = (float(np.mean(d == 1)) * items + 1) / (items + 2)
    less = (float(np.mean(d == -1)) * items + 1) / (items + 2)
    half = Z * float(np.sqrt((more + less - (more - less) ** 2) / (items + 2)))
    return max(-1.0, more - less - half), min(1.0, more - less + half)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: p of the discordant pairs under a fair coin; 1 where no pair differs."""
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(sums: Any) -> float:
    """Two-sided p of the clusters' integer differences `sums` [G] when each may as well have had the other sign; 1 if all are zero.

    Exact for any number of clusters: the distribution of the sum over all 2^G sign patterns is built one cluster at a time on the
    integers, so no random draws are needed. With sums of ±1 it is the exact McNemar test.
    """
    sizes = np.abs(np.asarray(sums, dtype=np.int64))
    sizes = sizes[sizes > 0]
    observed = abs(int(np.sum(sums)))
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # chance[reach + s] = probability that the sum is s
    chance[reach] = 1.0
    for size in sizes.tolist():
        flipped = np.zeros_like(chance)
        flipped[size:] += 0.5 * chance[: len(chance) - size]
        flipped[: len(chance) - size] += 0.5 * chance[size:]
        chance = flipped
    extreme = np.abs(np.arange(-reach, reach + 1)) >= observed
    return min(1.0, float(chance[extreme].sum()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the values that exist; None stays None and does not count."""
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(present):
        highest = max(highest, min(1.0, (len(present) - rank) * p))
        adjusted[i] = highest
    return adjusted


def with_holm(family: Sequence[PairedResult]) -> tuple[PairedResult, ...]:
    """The results with `p_holm` adjusted over all of them."""
    return tuple(replace(result, p_holm=p) for result, p in zip(family, holm([r.p for r in family]), strict=True))


# ---------------------------------------------------------------- retention


def retention(a: Any, base: Any, chance: Any, clusters: Any, seed: int = BOOTSTRAP_SEED) -> Figure:
    """(acc - chance) / (base - chance) over the same items, interval by paired cluster bootstrap (fixed seed).

    Args:
        a, base: 0/1 per item, [n], in the same order.
        chance: 1/k per item, [n].
        clusters: cluster code per item, [n].
        seed: of the resampling.

    The value is None, with a note "undefined: …", unless the lower bound of base - chance is above 0.
    """
    right, right_base, level = (np.asarray(v, dtype=np.float64) for v in (a, base, chance))
    if not len(right):
        return Figure(None, note="undefined: no item finished on both sides")
    cluster = _dense(clusters)
    n, n_clusters = len(right), int(cluster.max()) + 1
    base_low = mean(right_base, cluster).low
    if base_low is None or base_low - float(level.mean()) <= 0:
        return Figure(None, n=n, clusters=n_clusters, note="undefined: the base's 95% interval includes chance")
    above = float((right_base - level).sum())
    value = float((right - level).sum()) / above
    ratios_low, ratios_high, se = _bootstrap_ratios(np.bincount(cluster, right - level), np.bincount(cluster, right_base - level), seed)
    if ratios_low == ratios_high:
        # Every replicate is equal (no pair differs, or all do): take the difference's interval, which is never of zero width.
        low, high = _paired_interval(right - right_base, cluster, None)
        return Figure(
            value,
            low=1 + low * n / above,
            high=1 + high * n / above,
            n=n,
            clusters=n_clusters,
            method="difference interval",
            note="replicates do not vary",
        )
    if not np.isfinite([ratios_low, ratios_high]).all():
        note = "no interval: the base is too close to chance"
        return Figure(value, n=n, clusters=n_clusters, method="cluster bootstrap", note=note)
    return Figure(value, low=ratios_low, high=ratios_high, n=n, clusters=n_clusters, se=se, method="cluster bootstrap")


def _bootstrap_ratios(above: Any, base_above: Any, seed: int) -> tuple[float, float, float]:
    """Low and high percentiles and the standard deviation of the ratio of sums over resampled clusters; inputs [G].

    The percentiles are 2.5% and 97.5% expanded for few clusters (Hesterberg 2015, arXiv 1411.5279): Φ(±t·√(G/(G-1))), t with G-1 degrees
    of freedom.
    """
    rng = np.random.default_rng(seed)
    n_clusters = len(above)
    if n_clusters < 2:
        return 0.0, 0.0, 0.0  # every replicate is the sample itself
    tail = float(ndtr(-np.sqrt(n_clusters / (n_clusters - 1)) * stdtrit(n_clusters - 1, 0.975)))
    both = np.stack([above, base_above], axis=1)  # [G, 2]
    block = max(1, 2_000_000 // n_clusters)  # draws at once, so that memory stays at tens of MB
    sums = np.concatenate(
        [
            rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=min(block, BOOTSTRAP_SAMPLES - start)) @ both
            for start in range(0, BOOTSTRAP_SAMPLES, block)
        ]
    )  # [samples, 2]
    defined = sums[:, 1] > 0
    ratios = sums[defined, 0] / sums[defined, 1]
    # A replicate in which the base is at chance could stand for any ratio: it widens both ends.
    lost = np.full(int(np.sum(~defined)), np.inf)
    low = float(np.quantile(np.concatenate([ratios, -lost]), tail, method="inverted_cdf"))
    high = float(np.quantile(np.concatenate([ratios, lost]), 1 - tail, method="inverted_cdf"))
    return low, high, float(np.std(ratios, ddof=1))
