"""Whether probabilities mean what they say: reliability by bin, expected calibration error, Brier score (docs/spec/iit.md#calibration).

The expected calibration error (ECE) is a sum of absolute values, so an estimate is too large by noise alone, most where a model is well
calibrated, and a bootstrap of it is too. Its interval here inverts a test instead: for each candidate error, gaps of that size are given
the noise that the clusters show, and the candidate is kept where the observed sum is no unusual one. How the gaps are spread over the
bins is not known: they are once as observed, which noise has made uneven, and once all equal; the interval holds both. The value is the
mean of the two candidates for which the observed sum is the median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluators.statistics.dependence import Dependence
from evaluators.statistics.histories import Floats, HistoryCodes, Ints
from evaluators.statistics.means import mean
from iit_bench.types import Figure

BINS = 10
LEAST = 20  # items of a bin, where there are enough
_DRAWS = 2000
_SEED = 20_240_611  # of the draws: the same numbers give the same interval
_STEPS = 20  # of bisection


@dataclass(frozen=True)
class Bin:
    """Items of about the same confidence."""

    confidence: float  # mean, 0 … 1
    accuracy: Figure


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How probabilities compare with what was right."""

    bins: tuple[Bin, ...]  # by rising confidence, each with about the same number of items
    accuracy: Figure
    confidence: float  # mean probability of the chosen one
    overconfidence: Figure  # mean confidence minus accuracy: positive is too sure
    ece: Figure  # mean over the bins of |accuracy - confidence|, corrected for noise
    ece_plain: float  # the same without the correction
    brier: Figure  # mean of Σ (probability - 1 for the right one, 0 for others)², 0 … 2


def softmax(scores: Floats, start: Ints) -> Floats:
    """Probabilities of the choices of n items, [m]; those of item i are `scores[start[i] : start[i + 1]]`, one or more, in nats."""
    sizes = np.diff(start)
    top = np.repeat(np.maximum.reduceat(scores, start[:-1]), sizes)
    weight = np.exp(scores - top)
    return np.asarray(weight / np.repeat(np.add.reduceat(weight, start[:-1]), sizes))


def brier_scores(probability: Floats, start: Ints, answer: Ints) -> Floats:
    """Per item the sum over its choices of (probability - 1 for the right one, 0 for others)², [n], 0 … 2."""
    wanted = np.zeros_like(probability)
    wanted[start[:-1] + answer] = 1.0
    return np.asarray(np.add.reduceat((probability - wanted) ** 2, start[:-1]))


def calibration(
    confidence: Floats, right: NDArray[np.bool_], brier: Floats, cluster: Ints, histories: HistoryCodes | None = None
) -> Calibration:
    """Of n items, one or more.

    Args:
        confidence: probability of the chosen choice, 0 … 1, [n].
        right: whether it is the right one, [n].
        brier: as `brier_scores` gives it, [n].
        cluster, histories: what items depend on, [n], as of `Dependence.of`.
    """
    dependence = Dependence.of(cluster, histories=histories)
    bins = _bins(confidence)
    gap = right - confidence
    members = [np.flatnonzero(bins == b) for b in range(int(bins.max()) + 1)]
    shown = tuple(
        Bin(
            float(confidence[rows].mean()), mean(right[rows], dependence.cluster[rows], None if histories is None else histories.take(rows))
        )
        for rows in members
    )
    ece, plain = _ece(gap, right, bins, dependence)
    return Calibration(
        bins=shown,
        accuracy=mean(right, dependence),
        confidence=float(confidence.mean()),
        overconfidence=_within(_mean_by_t(-gap, dependence), -1.0, 1.0),
        ece=ece,
        ece_plain=plain,
        brier=_within(_mean_by_t(brier, dependence), 0.0, 2.0),
    )


def _bins(confidence: Floats) -> Ints:
    """The bin of each item, [n]: about equally many in each; equal confidences share one."""
    n = len(confidence)
    number = max(1, min(BINS, n // LEAST))
    edges = np.quantile(confidence, np.arange(1, number) / number)
    return np.asarray(np.unique(np.searchsorted(edges, confidence, side="left"), return_inverse=True)[1], dtype=np.int64)


def _mean_by_t(values: Floats, dependence: Dependence) -> Figure:
    """A mean of numbers that are not 0/1, with Student's interval on the clusters (Miller 2024)."""
    value, n = float(values.mean()), len(values)
    variance = dependence.variance((values - value) / n)
    if not variance or dependence.degrees <= 0:
        return Figure(value, n=n, clusters=dependence.n_clusters, note="no interval: one cluster, or items that do not vary")
    se = float(np.sqrt(variance))
    half = float(stdtrit(dependence.degrees, 0.975)) * se
    return Figure(value, low=value - half, high=value + half, n=n, clusters=dependence.n_clusters, se=se, method="clustered t")


def _within(figure: Figure, least: float, most: float) -> Figure:
    """The figure with an interval that does not leave what is possible."""
    if figure.low is None or figure.high is None:
        return figure
    return replace(figure, low=max(least, figure.low), high=min(most, figure.high))


def _ece(gap: Floats, right: NDArray[np.bool_], bins: Ints, dependence: Dependence) -> tuple[Figure, float]:
    """The error with its interval, and without the correction."""
    n, number = len(gap), int(bins.max()) + 1
    parts = np.bincount(bins, gap) / n  # of the error, signed, [B]
    plain = float(np.abs(parts).sum())
    if dependence.n_clusters < 2 or dependence.degrees <= 0:
        return Figure(plain, n=n, clusters=dependence.n_clusters, note="no interval: one cluster"), plain
    noise = _noise(_covariance(gap, right, bins, dependence), dependence.degrees, number)
    shapes = [parts / plain if plain > 0 else np.full(number, 1 / number), np.sign(parts) * np.bincount(bins) / n]
    found = [_inverted(plain, shape, noise) for shape in shapes]
    value = float(np.mean([one[1] for one in found]))
    low, high = min(one[0] for one in found), max(plain, *(one[2] for one in found))
    return Figure(value, low=low, high=high, n=n, clusters=dependence.n_clusters, method="inverted test, clustered"), plain


def _inverted(plain: float, shape: Floats, noise: Floats) -> tuple[float, float, float]:
    """The errors of a shape for which the observed sum is the upper limit, the median and the lower limit of what noise makes of them."""

    def quantile(error: float, at: float) -> float:
        return float(np.quantile(np.abs(error * shape + noise).sum(axis=1), at))

    low, value = (_where(lambda error, at=at: quantile(error, at) >= plain) for at in (0.975, 0.5))  # type: ignore[misc]
    return low, value, _where(lambda error: quantile(error, 0.025) > plain)


def _covariance(gap: Floats, right: NDArray[np.bool_], bins: Ints, dependence: Dependence) -> Floats:
    """Of the bins' parts of the error, [B, B], by cluster; larger by what shared histories add to the variance of their sum."""
    n, number, clusters = len(gap), int(bins.max()) + 1, dependence.n_clusters
    size = np.bincount(bins)
    influence = (gap - (np.bincount(bins, gap) / size)[bins]) / n
    sums = np.bincount(dependence.cluster * number + bins, influence, minlength=clusters * number).reshape(clusters, number)
    covariance = sums.T @ sums * clusters / (clusters - 1)
    by_cluster, both = float(np.sum(covariance)), dependence.variance(influence)
    if both is not None and by_cluster > 0:
        covariance *= max(1.0, both / by_cluster)
    level = (np.bincount(bins, right) + 1) / (size + 2)  # a bin without a wrong answer is not known exactly
    least = level * (1 - level) * size / n**2
    at = np.arange(number)
    covariance[at, at] = np.maximum(covariance[at, at], least)
    return np.asarray(covariance)


def _noise(covariance: Floats, degrees: float, number: int) -> Floats:
    """Draws of multivariate t with this covariance as its scale, [draws, B]."""
    rng = np.random.default_rng(_SEED)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = rng.standard_normal((_DRAWS, number)) @ root.T
    return np.asarray(normal / np.sqrt(rng.chisquare(degrees, (_DRAWS, 1)) / degrees))


def _where(reached: Callable[[float], bool]) -> float:
    """The least error, 0 … 1, at which something that comes with larger ones is reached."""
    low, high = 0.0, 1.0
    if reached(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
