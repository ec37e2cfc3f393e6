"""Whether a paired loss is there or not, decided while a run goes on, at any moment (docs/spec/iit.md#decided-runs).

A bet on a null hypothesis about a mean multiplies its capital by 1 + λ·x with each cluster, where x is bounded and has a mean of at most
0 under the null. So under the null the capital does not grow in expectation, and by Ville's inequality the chance that it ever reaches
1/α is at most α, whenever one looks and stops (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting",
arXiv 2010.09686). The e-value is the mean capital of all `BETS`, so nobody has to know the size of the loss. Clusters are independent and
come in an order that does not depend on their answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluators.statistics.histories import Floats

ALPHA = 0.05
# Shares of the capital at stake, 0 … 1: a large one finds a large loss within few clusters, a small one a small loss at all.
BETS = tuple(round(0.02 + 0.04 * i, 2) for i in range(25))
_STEPS = 40  # of bisection


def above(loss: Floats, size: Floats, largest: float, threshold: float) -> Floats:
    """e-values against the null hypothesis that the mean difference is at most `threshold`, after each cluster, [..., G].

    Args:
        loss: sum over a cluster's items of base minus model, [..., G], clusters in the order in which they were asked.
        size: items of each cluster, [..., G].
        largest: items of the largest cluster that may come; known before the first answer.
        threshold: mean difference over items, -1 … 1.
    """
    return _e_values((loss - threshold * size) / largest, least=1 + threshold)


def below(loss: Floats, size: Floats, largest: float, threshold: float) -> Floats:
    """e-values against the null hypothesis that the mean difference is at least `threshold`; arguments and result as of `above`."""
    return above(-loss, size, largest, -threshold)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What G clusters show about a loss, in the order in which they were asked; the record of a run that may be stopped.

    Args:
        loss, size, largest: as of `above`, [G].
        margin: a loss below it does not matter, 0 … 1.
        alpha: probability of a false decision, of either kind together at most so much.
    """

    loss: Floats
    size: Floats
    largest: float
    margin: float
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if len(self.size) and (self.largest < self.size.max() or bool(np.any(np.abs(self.loss) > self.size))):
            raise ValueError("a cluster has more items than the largest, or a loss beyond its items")

    @property
    def needed(self) -> float:
        """The e-value that decides: each side has half of alpha, so that decision and interval agree."""
        return 2 / self.alpha

    @cached_property
    def lost(self) -> Floats:
        """e-values that the loss is above 0, after each cluster, [G]."""
        return above(self.loss, self.size, self.largest, 0.0)

    @cached_property
    def not_lost(self) -> Floats:
        """e-values that the loss is below the margin, after each cluster, [G]."""
        return below(self.loss, self.size, self.largest, self.margin)

    @cached_property
    def after(self) -> int | None:
        """Clusters after which one of the two e-values first was as large as needed; None where none was."""
        reached = np.flatnonzero(np.maximum(self.lost, self.not_lost) >= self.needed)
        return int(reached[0]) + 1 if len(reached) else None

    @property
    def is_lost(self) -> bool:
        """Whether it is decided that there is a loss; where both e-values got there with one cluster, the larger one counts."""
        return self.after is not None and bool(self.lost[self.after - 1] >= self.not_lost[self.after - 1])

    def first(self, n: int) -> Evidence:
        """Of the first n clusters."""
        return Evidence(loss=self.loss[:n], size=self.size[:n], largest=self.largest, margin=self.margin, alpha=self.alpha)

    @property
    def value(self) -> float | None:
        """Mean difference over the items, -1 … 1; None without an item."""
        items = float(self.size.sum())
        return float(self.loss.sum()) / items if items else None

    def interval(self) -> tuple[float, float]:
        """The differences that no cluster so far rejected: holds the true one with 1 - alpha whenever one stops (a confidence sequence)."""

        def too_small(threshold: float) -> bool:
            return bool(np.any(above(self.loss, self.size, self.largest, threshold) >= self.needed))

        def too_large(threshold: float) -> bool:
            return bool(np.any(below(self.loss, self.size, self.largest, -threshold) >= self.needed))

        return _edge(too_small), -_edge(too_large)


def _e_values(x: Floats, least: float) -> Floats:
    """Mean capital of the bets after each cluster, [..., G].

    Args:
        x: what is bet on, at least -`least`, with a mean of at most 0 under the null, [..., G].
        least: 0 … 2; with 0, no bet can lose.
    """
    log_capital = np.full(x.shape, -np.inf)
    for bet in BETS:  # one by one: many simulated runs at once would not fit the memory
        share = bet / least if least > 0 else bet
        log_capital = np.logaddexp(log_capital, np.cumsum(np.log1p(share * x), axis=-1))
    return np.asarray(np.exp(np.minimum(log_capital - np.log(len(BETS)), 700.0)))


def _edge(rejected: Callable[[float], bool]) -> float:
    """The largest difference in -1 … 1 below which all are rejected, to the last step of the bisection from below."""
    low, high = -1.0, 1.0
    if not rejected(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low
