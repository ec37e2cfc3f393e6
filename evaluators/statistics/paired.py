"""Paired differences over the same items, with interval, test and the smallest detectable difference; retention.

The interval of a difference of accuracies is the adjusted Wald interval of Bonett & Price (2012), which adds one pair to either side, on
the effective number of pairs. So two runs that agree on every item do not get an interval of zero width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from evaluators.statistics import power
from evaluators.statistics.dependence import Dependence, Floats, Histories
from evaluators.statistics.exact import Z, holm, mcnemar_exact, sign_flip
from evaluators.statistics.means import mean
from iit_bench.types import Figure, PairedResult, PairedTest


def paired(a: Any, b: Any, clusters: Any, *, over: str, against: str, histories: Histories | None = None) -> PairedResult:
    """Difference of two accuracies over the same items, with interval, test and smallest detectable difference.

    Args:
        a, b: 0/1 per item, [n], in the same order.
        clusters: cluster code per item, [n].
        over, against: labels of the result.
        histories: the history clusters of each item, [n]; None where there are none.

    The test is exact McNemar where no cluster repeats, and a sign-flip over the clusters where one does. Where one history cluster serves
    several target clusters it is a t test on the two-way variance, whose p is never below that of the exact test by target cluster:
    with few discordant pairs, t is too sure.

    The results are those of a family of one; `with_holm` makes them those of a larger family.
    """
    right_a, right_b = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    n = len(right_a)
    if not n:
        return PairedResult(over=over, against=against, difference=Figure(None, note="no item finished on both sides"))
    dependence = Dependence.of(clusters, histories=histories)
    d = (right_a - right_b).astype(np.float64)
    value = float(d.mean())
    variance = dependence.variance((d - value) / n)
    se = None if variance is None else float(np.sqrt(variance))
    only_a, only_b = int(np.sum(d == 1)), int(np.sum(d == -1))
    low, high, items = _interval(d, dependence)
    one_way = dependence.shared is None
    method = "adjusted Wald" if dependence.singletons else f"{'' if one_way else 'two-way '}clustered adjusted Wald"
    note = "" if only_a + only_b else "no pair differs"
    test, p = _test(d, dependence, se)
    result = PairedResult(
        over=over,
        against=against,
        difference=Figure(value, low=low, high=high, n=n, clusters=dependence.n_clusters, se=se, method=method, note=note),
        test=test,
        p=p,
        only_a=only_a,
        only_b=only_b,
        effective=items,
        df=None if one_way else dependence.degrees,
    )
    return with_holm([result])[0]


def paired_means(a: Any, b: Any, clusters: Any, *, over: str, against: str, largest: float = np.inf) -> PairedResult:
    """`paired` for scores that are not 0/1 (partial credit, F1, a document's log-likelihood): the difference of two means, in their unit.

    Interval and test are Student's on the clusters' sums (Miller 2024), with G - 1 degrees of freedom; neither exists where all pairs
    differ by the same amount. `only_a` and `only_b` count the items on which that side scored higher. The interval does not leave what is
    possible: `largest` is the largest difference on either side, e.g. 1 for scores from 0 to 1.
    """
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(d)
    if not n:
        return PairedResult(over=over, against=against, difference=Figure(None, note="no item finished on both sides"))
    dependence = Dependence.of(clusters)
    value, n_clusters = float(d.mean()), dependence.n_clusters
    variance = dependence.variance((d - value) / n)
    se = None if variance is None else float(np.sqrt(variance))
    only_a, only_b = int(np.sum(d > 0)), int(np.sum(d < 0))
    if not se:
        figure = Figure(value, n=n, clusters=n_clusters, se=se, note="no interval: the pairs do not vary")
        return PairedResult(over=over, against=against, difference=figure, only_a=only_a, only_b=only_b)
    df = n_clusters - 1
    half = float(stdtrit(df, 0.975)) * se
    method = "clustered t" if n_clusters < n else "t"
    result = PairedResult(
        over=over,
        against=against,
        difference=Figure(
            value, low=max(-largest, value - half), high=min(largest, value + half), n=n, clusters=n_clusters, se=se, method=method
        ),
        test="paired t",
        p=2 * float(stdtr(df, -abs(value) / se)),
        only_a=only_a,
        only_b=only_b,
        df=float(df),
    )
    return with_holm([result])[0]


def retention(a: Any, base: Any, chance: Any, clusters: Any, histories: Histories | None = None) -> Figure:
    """(acc - chance) / (base - chance) over the same items; interval and SE are those of the paired difference, scaled alike.

    Args:
        a, base: 0/1 per item, [n], in the same order.
        chance: probability of a right guess per item, [n].
        clusters: cluster code per item, [n].
        histories: the history clusters of each item, [n]; None where there are none.

    So retention's interval includes 1 exactly where that of the difference includes 0. The value is None, with a note "undefined: …",
    unless the lower bound of base - chance is above 0.
    """
    right, right_base, level = (np.asarray(v, dtype=np.float64) for v in (a, base, chance))
    n = len(right)
    if not n:
        return Figure(None, note="undefined: no item finished on both sides")
    base_low = mean(right_base, clusters, histories).low
    dependence = Dependence.of(clusters, histories=histories)
    if base_low is None or base_low - float(level.mean()) <= 0:
        return Figure(None, n=n, clusters=dependence.n_clusters, note="undefined: the base's 95% interval includes chance")
    above = float((right_base - level).mean())
    d = right - right_base
    low, high, _ = _interval(d, dependence)
    variance = dependence.variance((d - d.mean()) / n)
    return Figure(
        float((right - level).mean()) / above,
        low=1 + low / above,
        high=1 + high / above,
        n=n,
        clusters=dependence.n_clusters,
        se=None if variance is None else float(np.sqrt(variance)) / above,
        method="scaled difference",
    )


def with_holm(family: Sequence[PairedResult]) -> tuple[PairedResult, ...]:
    """The results with `p_holm` adjusted over all of them, and what they can detect at Holm's first step."""
    adjusted = holm([result.p for result in family])
    tests = sum(p is not None for p in adjusted)
    return tuple(_detecting(replace(result, p_holm=p), tests) for result, p in zip(family, adjusted, strict=True))


def _interval(d: Floats, dependence: Dependence) -> tuple[float, float, float]:
    """Bonett & Price (2012) for the mean of `d` in {-1, 0, 1}: low, high, and the effective number of pairs."""
    value = float(d.mean())
    spread = float(np.mean(d**2)) - value**2
    items = float(len(d))
    if not dependence.singletons:
        items = dependence.effective(spread, (d - value) / len(d), ((1 - value) ** 2 + (1 + value) ** 2) / 2)
    more = (float(np.mean(d == 1)) * items + 1) / (items + 2)
    less = (float(np.mean(d == -1)) * items + 1) / (items + 2)
    half = Z * float(np.sqrt((more + less - (more - less) ** 2) / (items + 2)))
    return max(-1.0, more - less - half), min(1.0, more - less + half), items


def _test(d: Floats, dependence: Dependence, se: float | None) -> tuple[PairedTest, float]:
    """Which test, and its two-sided p."""
    if dependence.singletons:
        return "mcnemar exact", mcnemar_exact(int(np.sum(d == 1)), int(np.sum(d == -1)))
    exact = sign_flip(np.rint(np.bincount(dependence.cluster, d)).astype(np.int64))
    if dependence.shared is None:
        return "cluster sign-flip", exact
    by_t = 2 * float(stdtr(dependence.degrees, -abs(float(d.mean())) / se)) if se and dependence.degrees > 0 else 1.0
    return "two-way t", max(by_t, exact)


def _detecting(result: PairedResult, tests: int) -> PairedResult:
    """The result with the smallest difference that its test finds at the level α / `tests`."""
    if result.p is None:
        return result
    alpha = power.ALPHA / tests
    if result.test == "paired t":
        se = result.difference.se or 0.0
        return replace(result, detectable=power.detectable_by_t(lambda _: se, result.df or 0.0, alpha, largest=1000 * se))
    items, discordant = result.effective or 0.0, (result.only_a + result.only_b) / max(1, result.difference.n)
    found = power.detectable_by_mcnemar(discordant, items, alpha)
    if result.test == "two-way t" and found is not None:
        by_t = power.detectable_by_t(lambda d: float(np.sqrt((max(discordant, d) - d**2) / items)), result.df or 0.0, alpha)
        found = None if by_t is None else max(found, by_t)
    needed = power.floor(alpha)
    return replace(result, detectable=found, detectable_floor=needed if result.only_a + result.only_b < needed else None)
