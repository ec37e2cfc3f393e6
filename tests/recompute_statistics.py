"""Intervals and tests by other means than evaluators/statistics: what `recompute_figures.py` compares with.

Components by union-find, variances as quadratic forms over pairs of items, Wilson's bounds as roots, tests and power with scipy's
distributions. Imports nothing of the project.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats

Z = float(stats.norm.ppf(0.975))
PSEUDO = 2.0  # pseudo-clusters, all right and all wrong
Figure = dict[str, Any]


# ---------------------------------------------------------------- dependence


def components(rows: pd.DataFrame) -> np.ndarray:
    """A label per row, equal where rows are joined by groups or clusters, by union-find."""
    parent: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for group, cluster in zip(rows["group"], rows["cluster"], strict=True):
        parent[root(("group", group))] = root(("cluster", cluster))
    return pd.factorize(pd.Series([str(root(("group", group))) for group in rows["group"]]))[0]


class Dependence:
    """Which rows share a target cluster, and which a history cluster."""

    def __init__(self, target: np.ndarray, histories: Sequence[Sequence[str]] | None, weight: np.ndarray | None = None) -> None:
        n = len(target)
        self.weight = np.full(n, 1 / n) if weight is None else weight
        self.target = pd.factorize(pd.Series(target))[0]
        self.n_clusters = len(set(self.target))
        sets = [frozenset(one) for one in (histories if histories is not None else [()] * n)]
        serves = pd.DataFrame(
            [(label, t) for labels, t in zip(sets, self.target, strict=True) for label in labels], columns=["label", "target"]
        )
        self.shared = bool(len(serves)) and int(serves.groupby("label")["target"].nunique().max()) > 1
        if not self.shared:
            return
        code = {label: i for i, label in enumerate(sorted(set(serves["label"])))}
        places = [(row, code[label]) for row, labels in enumerate(sets) for label in labels]
        member = sparse.coo_matrix((np.ones(len(places)), np.array(places).T), shape=(n, len(code))).tocsr()
        bare = np.array([not labels for labels in sets])
        pairs = ((member @ member.T) + sparse.diags(bare.astype(float))).tocoo()
        self.rows, self.columns = pairs.row, pairs.col
        self.both = self.target[self.rows] == self.target[self.columns]
        self.n_histories = len(code) + int(bare.sum())
        self.n_both = len(set(zip(self.target.tolist(), sets, strict=True)))

    def variance(self, u: np.ndarray) -> float | None:
        """Of the sum of the influence values `u`: by target, or two-way; None for a single cluster."""
        if self.n_clusters < 2:
            return None
        by_target = corrected(sum(float(part.sum()) ** 2 for _, part in pd.Series(u).groupby(self.target)), self.n_clusters)
        if not self.shared:
            return by_target
        products = u[self.rows] * u[self.columns]
        by_history = corrected(float(products.sum()), self.n_histories)
        return max(by_target, by_history, by_target + by_history - corrected(float(products[self.both].sum()), self.n_both))

    def sizes(self) -> tuple[float, float, float]:
        """Effective numbers of items: all independent; targets answering as one; histories answering as one."""
        w = self.weight
        as_one = 1 / sum(float(part.sum()) ** 2 for _, part in pd.Series(w).groupby(self.target))
        history = 1 / float((w[self.rows] * w[self.columns]).sum()) if self.shared else math.inf
        return 1 / float((w**2).sum()), as_one, history

    def effective(self, spread: float, u: np.ndarray, wrong: float) -> float:
        """Independent items with the same standard error, two pseudo-clusters of each kind added, and t instead of z."""
        independent, as_one, history = self.sizes()
        variance = self.variance(u)
        if variance is None:
            return as_one
        size = independent / as_one
        pseudo = PSEUDO * size * wrong / independent
        estimate = min((spread + pseudo) / (variance * independent + size * pseudo) * independent, independent)
        df = min(as_one, history) - 1
        t = stats.t.ppf(0.975, df) if df > 0 else math.inf
        return max(estimate * (Z / t) ** 2, min(as_one, estimate))

    @property
    def df(self) -> float:
        _, as_one, history = self.sizes()
        return min(as_one, history) - 1


def corrected(variance: float, n: int) -> float:
    """Times n / (n - 1)."""
    return variance * n / (n - 1) if n > 1 else variance


# ---------------------------------------------------------------- means


def wilson(p: float, n: float) -> tuple[float, float]:
    """The shares θ with (p - θ)² = z² θ (1 - θ) / n: the roots of a quadratic."""
    low, high = sorted(np.roots([1 + Z**2 / n, -(2 * p + Z**2 / n), p**2]).real)
    return max(0.0, float(low)), min(1.0, float(high))


def mean(x: Any, target: Any, histories: Any = None, strata: Any = None, weights: Any = None) -> Figure | None:
    """Mean over strata of the mean in each, with Wilson's interval on the effective number of items."""
    x = np.asarray(x, dtype=float)
    if not len(x):
        return None
    parts = pd.Series(x).groupby(np.zeros(len(x), dtype=int) if strata is None else np.asarray(strata))
    share = pd.Series(1.0, index=parts.mean().index) if weights is None else pd.Series(weights, index=parts.mean().index)
    share = share / share.sum()
    value = float((parts.mean() * share).sum())
    if (x == 1).all():
        value = 1.0
    place = np.zeros(len(x), dtype=int) if strata is None else np.asarray(strata)
    weight = (share / parts.size()).loc[place].to_numpy()
    dependence = Dependence(np.asarray(target), histories, weight)
    u = weight * (x - parts.mean().loc[place].to_numpy())
    plain = len(share) == 1 and not dependence.shared and dependence.n_clusters == len(x)
    n = len(x) if plain else dependence.effective(value * (1 - value), u, value**2 + (1 - value) ** 2)
    low, high = wilson(value, n)
    variance = dependence.variance(u)
    se = None if variance is None else math.sqrt(max(0.0, variance))
    return {"value": value, "low": low, "high": high, "se": se, "n": len(x), "clusters": dependence.n_clusters}


def moved(figure: Figure | None, slope: float, intercept: float) -> Figure | None:
    """slope · figure + intercept."""
    if figure is None:
        return None
    se = None if figure["se"] is None else slope * figure["se"]
    return figure | {name: slope * figure[name] + intercept for name in ("value", "low", "high")} | {"se": se}


# ---------------------------------------------------------------- paired differences


def paired(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any] | None:
    """Accuracy of `a` minus accuracy of `b`, whose rows are pairs: figure, test and what it detects in a family of one."""
    if not len(a):
        return None
    d = (a["right"].to_numpy() - b["right"].to_numpy()).astype(float)
    n, value = len(d), float(d.mean())
    dependence = Dependence(components(a), both_histories(a, b))
    singletons = not dependence.shared and dependence.n_clusters == n
    u = (d - value) / n
    variance = dependence.variance(u)
    spread = float((d**2).mean()) - value**2
    items = float(n) if singletons else dependence.effective(spread, u, ((1 - value) ** 2 + (1 + value) ** 2) / 2)
    up, down = int((d == 1).sum()), int((d == -1).sum())
    more, less = (up / n * items + 1) / (items + 2), (down / n * items + 1) / (items + 2)
    half = Z * math.sqrt((more + less - (more - less) ** 2) / (items + 2))
    se = None if variance is None else math.sqrt(max(0.0, variance))
    figure = {"value": value, "se": se, "n": n, "clusters": dependence.n_clusters}
    figure |= {"low": max(-1.0, more - less - half), "high": min(1.0, more - less + half)}
    test, p = significance(d, dependence, se, singletons)
    df = dependence.df if dependence.shared else None
    return {"difference": figure, "test": test, "p": p, "only_a": up, "only_b": down, "effective": items, "df": df}


def both_histories(a: pd.DataFrame, b: pd.DataFrame) -> list[tuple[str, ...]]:
    """The history clusters of both sides of each pair."""
    return [(*one, *other) for one, other in zip(a["history_clusters"], b["history_clusters"], strict=True)]


def significance(d: np.ndarray, dependence: Dependence, se: float | None, singletons: bool) -> tuple[str, float]:
    """Name and p of the test.

    Exact McNemar as a binomial test, a sign-flip by convolving the clusters' coins, t on a two-way variance, whose p is at least the other.
    """
    up, down = int((d == 1).sum()), int((d == -1).sum())
    if singletons:
        return "mcnemar exact", float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
    sums = [abs(round(float(part.sum()))) for _, part in pd.Series(d).groupby(dependence.target)]
    coins = np.ones(1)
    for size in filter(None, sums):
        coins = np.convolve(coins, np.r_[0.5, np.zeros(2 * size - 1), 0.5])
    reach = sum(sums)
    flip = min(1.0, float(coins[np.abs(np.arange(-reach, reach + 1)) >= abs(round(float(d.sum())))].sum()))
    if not dependence.shared:
        return "cluster sign-flip", flip
    by_t = float(2 * stats.t.sf(abs(float(d.mean())) / se, dependence.df)) if se and dependence.df > 0 else 1.0
    return "two-way t", max(by_t, flip)


def family(results: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Holm's step-down p and the detectable differences at α / tests, over the results that exist."""
    present = [one for one in results if one is not None]
    highest = 0.0
    for rank, one in enumerate(sorted(present, key=lambda one: one["p"])):
        highest = max(highest, min(1.0, one["p"] * (len(present) - rank)))
        one["p_holm"] = highest
    for one in present:
        one |= detecting(one, 0.05 / len(present))
    return list(results)


def detecting(one: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """The smallest difference that the test finds with 80% power, and the floor of discordant pairs where fewer differ."""
    discordant = (one["only_a"] + one["only_b"]) / one["difference"]["n"]
    pairs = round(one["effective"])
    found = smallest(lambda d: mcnemar_power(d, max(discordant, d), pairs, alpha))
    if one["test"] == "two-way t" and found is not None:
        by_t = smallest(lambda d: t_power(d, math.sqrt((max(discordant, d) - d**2) / one["effective"]), one["df"], alpha))
        found = None if by_t is None else max(found, by_t)
    floor = next(k for k in range(1, 200) if 2 * 0.5**k <= alpha)
    return {"detectable": found, "detectable_floor": floor if one["only_a"] + one["only_b"] < floor else None}


def mcnemar_power(difference: float, discordant: float, n: int, alpha: float) -> float:
    """Probability that exact McNemar finds the difference in its direction, over every number of discordant pairs."""
    counts, critical = np.arange(n + 1), critical_counts(n, alpha)
    finds = np.where(critical >= 0, stats.binom.cdf(critical, counts, (1 - difference / discordant) / 2), 0.0)
    return float((stats.binom.pmf(counts, n, discordant) * finds).sum())


@lru_cache(maxsize=64)
def critical_counts(n: int, alpha: float) -> np.ndarray:
    """For 0 … n discordant pairs, the largest count of the rarer direction that is significant; -1 for none."""
    counts = np.arange(n + 1)
    critical = stats.binom.ppf(alpha / 2, counts, 0.5)
    return np.where(2 * stats.binom.cdf(critical, counts, 0.5) <= alpha, critical, critical - 1)


def t_power(difference: float, se: float, df: float, alpha: float) -> float:
    """Of a two-sided t test."""
    if df <= 0:
        return 0.0
    return 1.0 if se == 0 else float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, difference / se))


def smallest(power: Callable[[float], float]) -> float | None:
    """The difference at which the power is 80%, by bisection."""
    low, high = 0.0, 1.0
    if not power(high) >= 0.8:
        return None
    while high - low > 1e-5 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= 0.8 else (middle, high)
    return high
