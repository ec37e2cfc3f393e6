"""How many pairs a test needs to find a difference (docs/spec/iit.md#sample-size): the power of `power.py`, inverted for n."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import nctdtr, ndtri, stdtrit

from evaluators.statistics.power import mcnemar_power

MOST = 10_000_000  # pairs; more are not searched for


def design_effect(cluster_size: float, icc: float) -> float:
    """Items per independent item, 1 + (m - 1) · ρ (Kish 1965), for clusters of m = `cluster_size` items that correlate by ρ = `icc`."""
    return 1 + (cluster_size - 1) * icc


def pairs_for_mcnemar(difference: float, discordant: float, alpha: float, power: float) -> int | None:
    """The smallest number of independent pairs from which on exact McNemar finds `difference` with `power`; None for more than `MOST`.

    Args:
        difference: of the two accuracies, above 0 and at most `discordant`.
        discordant: probability that a pair differs.
        alpha: significance level, two-sided.
        power: probability to be reached, 0 … 1.

    An exact test's power is not monotone in n: it drops where one more pair changes the critical count. So the number returned is one
    from which on, as far as a few critical counts go, no number is too small again.
    """
    near = _normal(difference, discordant, alpha, power)
    if near > MOST:
        return None
    return _from_which_on(lambda n: mcnemar_power(difference, discordant, n, alpha) >= power, near, reach=_reach(near, discordant))


def pairs_for_t(difference: float, discordant: float, degrees: Callable[[int], float], alpha: float, power: float) -> int | None:
    """The same for a two-sided t test of the mean of n effective pairs, whose estimated SE has `degrees(n)` degrees of freedom."""
    variance = discordant - difference**2

    def enough(n: int) -> bool:
        df = degrees(n)
        if df <= 0:
            return False
        if variance <= 0:
            return True
        return bool(1 - nctdtr(df, difference / math.sqrt(variance / n), float(stdtrit(df, 1 - alpha / 2))) >= power)

    near = _normal(difference, discordant, alpha, power)
    return None if near > MOST else _from_which_on(enough, near, reach=0)


def _normal(difference: float, discordant: float, alpha: float, power: float) -> int:
    """Pairs by the normal approximation (Miettinen 1968): where the search begins."""
    z = float(ndtri(1 - alpha / 2)) * math.sqrt(discordant) + float(ndtri(power)) * math.sqrt(max(discordant - difference**2, 0.0))
    return max(1, math.ceil((z / difference) ** 2))


def _reach(near: int, discordant: float) -> int:
    """Pairs beyond n in which power may still drop below what it is at n: those of a few critical counts, more where few pairs differ."""
    return min(2000, math.ceil(4 / discordant) + math.isqrt(near))


def _from_which_on(enough: Callable[[int], bool], near: int, reach: int) -> int:
    """The smallest n for which n and the next `reach` numbers are enough."""
    low, high = 0, near
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    found = high
    for n in range(high + 1, high + reach + 1):
        if not enough(n):
            found = n + 1
    return found
