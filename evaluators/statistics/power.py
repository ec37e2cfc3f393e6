"""The smallest difference that a test finds with 80% power (docs/spec/iit.md#detectable-difference).

The power is that of the very test, at the significance level of Holm's first step, for pairs of which as many differ as were observed, or
as many as the difference itself needs if that is more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln, nctdtr, stdtrit, xlog1py, xlogy
from scipy.stats import binom

from evaluators.statistics.dependence import Ints

POWER = 0.8
ALPHA = 0.05
_PRECISION = 1e-4  # relative
_CERTAIN = 8  # times the threshold: no difference that large is missed, with one degree of freedom or more


def floor(alpha: float) -> int:
    """The least number of discordant pairs with which exact McNemar can reach p ≤ alpha: all of them one way."""
    return int(np.ceil(1 - np.log2(alpha)))


def mcnemar_power(difference: float, discordant: float, n: int, alpha: float) -> float:
    """Probability that exact McNemar finds `difference` in its direction.

    Args:
        difference: of the two accuracies, 0 … `discordant`.
        discordant: probability that a pair differs.
        n: independent pairs.
        alpha: significance level, two-sided.
    """
    mean, reach = n * discordant, 8 * np.sqrt(n * discordant * (1 - discordant)) + 8
    counts = np.arange(max(0, int(mean - reach)), min(n, int(mean + reach)) + 1)
    weight = np.exp(
        gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1) + xlogy(counts, discordant) + xlog1py(n - counts, -discordant)
    )
    most = critical(1 << int(n).bit_length(), alpha)[counts]
    against = (1 - difference / discordant) / 2
    return float(np.sum(weight * np.where(most >= 0, bdtr(np.maximum(most, 0), counts, against), 0.0)))


@lru_cache(maxsize=64)
def critical(size: int, alpha: float) -> Ints:
    """For 0 … size discordant pairs, the largest count of the rarer direction with which exact McNemar gives p ≤ alpha; -1 for none."""
    counts = np.arange(size + 1)
    most = binom.ppf(alpha / 2, counts, 0.5)
    return np.asarray(np.where(2 * bdtr(most, counts, 0.5) <= alpha, most, most - 1), dtype=np.int64)


def detectable_by_mcnemar(discordant: float, n: float, alpha: float) -> float | None:
    """The smallest difference, 0 … 1, that exact McNemar on `n` pairs finds; None where it finds none.

    Args:
        discordant: observed share of pairs that differ.
        n: independent pairs; an effective number is rounded.
        alpha: significance level, two-sided.
    """
    pairs = round(n)
    return _smallest(lambda d: mcnemar_power(d, max(discordant, d), pairs, alpha))


def detectable_by_t(se: Callable[[float], float], df: float, alpha: float, largest: float = 1.0) -> float | None:
    """The smallest difference that a two-sided t test finds; None where it finds none.

    Args:
        se: standard error, given the true difference; both in the unit of the scores.
        df: degrees of freedom.
        alpha: significance level, two-sided.
        largest: the largest difference that is tried.
    """
    if df <= 0:
        return None
    threshold = float(stdtrit(df, 1 - alpha / 2))

    def power(difference: float) -> float:
        error = se(difference)
        if error == 0 or difference / error > _CERTAIN * (threshold + 1):  # scipy's nctdtr gives nan for some of these
            return 1.0
        return float(1 - nctdtr(df, difference / error, threshold))

    return _smallest(power, largest)


def _smallest(power: Callable[[float], float], high: float = 1.0) -> float | None:
    """The smallest difference up to `high` with enough power, which grows with the difference; None for none."""
    low = 0.0
    if not power(high) >= POWER:
        return None
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
