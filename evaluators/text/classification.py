"""Intervals for F1 and the Matthews correlation of (gold, prediction) pairs, in closed form.

lm-eval's bootstrap gives a score of 0 an interval of zero width, and takes minutes.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import stdtrit

from evaluators.statistics import Dependence, codes, mean
from iit_bench.types import Figure

_PSEUDO = 4.0  # documents spread evenly over all (gold, prediction), for a correlation; Agresti and Coull add as many to a proportion
Pairs = Sequence[tuple[Hashable, Hashable]]  # (gold, prediction) of each document


def f1(pairs: Pairs, value: float, clusters: Sequence[int]) -> Figure | None:
    """lm-eval's `value` with a 95% interval; None where it is not the F1 of label 1.

    F1 = 2 J / (1 + J), where J is the share of right replies among the documents whose gold answer or reply is 1: the bounds of that
    proportion, moved to F1.
    """
    either = [gold == prediction for gold, prediction in pairs if 1 in (gold, prediction)]
    share = sum(either) / len(either) if either else 0.0
    if not math.isclose(2 * share / (1 + share), value, abs_tol=1e-9):
        return None
    n, n_clusters = len(pairs), len(set(clusters))
    if not either:
        return Figure(value, n=n, clusters=n_clusters, note="no interval: label 1 is neither a gold answer nor a reply")
    cluster = [code for code, pair in zip(clusters, pairs, strict=True) if 1 in pair]
    of_share = mean(either, cluster)
    assert of_share.low is not None and of_share.high is not None
    low, high = (2 * bound / (1 + bound) for bound in (of_share.low, of_share.high))
    se = None if of_share.se is None else of_share.se * 2 / (1 + share) ** 2
    return Figure(value, low=low, high=high, n=n, clusters=n_clusters, se=se, method=f"{of_share.method}, of documents with label 1")


def matthews(pairs: Pairs, value: float, clusters: Sequence[int]) -> Figure | None:
    """lm-eval's `value` with a 95% interval; None where it is not the Matthews correlation of these pairs.

    Any number of classes: the correlation is sum_k cov(x_k, y_k) / √(sum_k var(x_k) · sum_k var(y_k)) over the classes' indicators.
    Fisher's z ± Student's t times the delta method's standard error, cluster-robust, with 4 documents added, spread over all pairs of
    classes: constant replies, whose correlation is 0 by convention, get an interval too.
    """
    labels = codes([label for pair in pairs for label in pair]).reshape(-1, 2)
    n, n_classes = len(labels), int(labels.max()) + 1 if len(labels) else 0
    if n < 2 or n_classes < 2 or not math.isclose(_correlation(labels, np.ones(n))[0], value, abs_tol=1e-9):
        return None
    cells = np.indices((n_classes, n_classes)).reshape(2, -1).T
    weight = np.r_[np.ones(n), np.full(len(cells), _PSEUDO / len(cells))]
    r, influence = _correlation(np.vstack([labels, cells]), weight)
    cluster = np.r_[codes(clusters), len(set(clusters)) + np.arange(len(cells))]
    dependence = Dependence.of(cluster, weight / weight.sum())
    variance = dependence.variance(influence * weight / weight.sum())
    df = len(set(clusters)) - 1
    if variance is None or df < 1:
        return None
    z, half = math.atanh(r), float(stdtrit(df, 0.975)) * math.sqrt(variance) / (1 - r**2)
    return Figure(
        value,
        low=min(value, math.tanh(z - half)),
        high=max(value, math.tanh(z + half)),
        n=n,
        clusters=len(set(clusters)),
        method="Fisher's z, delta method over documents",
    )


def _correlation(labels: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The correlation of two columns of class codes [n, 2] with weights [n], and its influence values [n]; 0 if a column is constant."""
    share = weight / weight.sum()
    x, y = (column[:, None] == np.arange(int(labels.max()) + 1) for column in labels.T)
    x, y = x - share @ x, y - share @ y  # [n, classes]
    both, var_x, var_y = np.sum(x * y, axis=1), np.sum(x**2, axis=1), np.sum(y**2, axis=1)
    scale_x, scale_y = share @ var_x, share @ var_y
    if scale_x * scale_y <= 1e-15:
        return 0.0, np.zeros(len(labels))
    r = float(share @ both / np.sqrt(scale_x * scale_y))
    return r, both / np.sqrt(scale_x * scale_y) - r / 2 * (var_x / scale_x + var_y / scale_y)
