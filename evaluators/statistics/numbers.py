"""Means of numbers that are no fractions of right answers, and correlations over models, with their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from evaluators.statistics.dependence import Dependence, Histories
from evaluators.statistics.exact import Z
from iit_bench.numerals import counted
from iit_bench.types import Figure

FEWEST = 4  # models of a correlation: with 3, the standard error of Fisher's z is infinite


def number_mean(values: Any, clusters: Any, histories: Histories | None = None) -> Figure:
    """Mean of numbers in any unit, with Student's interval on the clustered SE (Miller 2024), two-way where histories are shared.

    Args:
        values: [n].
        clusters: cluster code per item, [n], or a `Dependence`.
        histories: the history clusters of each item, [n]; None where there are none.

    The degrees of freedom are the smaller effective number of clusters less one. There is no interval for one cluster, nor where no value
    differs.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if not n:
        return Figure(None, note="no dialogue has it")
    dependence = Dependence.of(clusters, histories=histories)
    value, found = float(x.mean()), dependence.n_clusters
    variance = dependence.variance((x - value) / n)
    se = None if variance is None else float(np.sqrt(variance))
    degrees = dependence.degrees
    if not se or degrees <= 0:
        return Figure(value, n=n, clusters=found, se=se, note="no interval: too few clusters, or the values do not vary")
    half = float(stdtrit(degrees, 0.975)) * se
    method = "t" if dependence.singletons else "clustered t" if dependence.shared is None else "two-way clustered t"
    return Figure(value, low=value - half, high=value + half, n=n, clusters=found, se=se, method=method)


def pearson(x: Any, y: Any) -> float | None:
    """Pearson's correlation of two curves, [n] each; None where one of them is constant up to rounding, or n is below 2."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 2:
        return None
    smallest = 1e-12 * max(float(np.abs(a).max()), 1e-300), 1e-12 * max(float(np.abs(b).max()), 1e-300)
    a, b = a - a.mean(), b - b.mean()
    if float(np.abs(a).max()) <= smallest[0] or float(np.abs(b).max()) <= smallest[1]:
        return None
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def correlation(x: Any, y: Any) -> Figure:
    """Pearson's correlation over models, [n] each, with Fisher's interval."""
    return _with_interval(pearson(x, y), len(x), 1.0, "Fisher z")


def rank_correlation(x: Any, y: Any) -> Figure:
    """Spearman's correlation over models, [n] each, with the interval of Bonett and Wright (2000); ties have their mean rank."""
    found = pearson(rankdata(x), rankdata(y))
    return _with_interval(found, len(x), 1.0 if found is None else 1 + found**2 / 2, "Bonett-Wright")


def _with_interval(found: float | None, n: int, inflation: float, method: str) -> Figure:
    """A correlation with an interval by Fisher's z, whose variance is `inflation` / (n - 3)."""
    if n < FEWEST:
        return Figure(None, n=n, note=f"{counted(n, 'model')}, and a correlation is shown from {FEWEST} on")
    if found is None:
        return Figure(None, n=n, note="the models do not differ in one of the two")
    if abs(found) >= 1 - 1e-12:
        return Figure(found, n=n, note="no interval: all models are on one line, or in one order")
    z, half = float(np.arctanh(found)), Z * float(np.sqrt(inflation / (n - 3)))
    return Figure(found, low=float(np.tanh(z - half)), high=float(np.tanh(z + half)), n=n, clusters=n, method=method)
