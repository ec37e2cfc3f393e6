"""Rates of what two sides know behind what they answer right, corrected for lucky guesses (docs/spec/iit.md#ledger).

The interval generalises Wilson's. An item's estimate v has the mean 1 where the item is of the transition and 0 where it is not, and v² the
means q and r, of which the model of guessing gives q. Under a rate π, v² has the mean πq + (1 - π)r, so v has the variance
V(π) = πq + (1 - π)r - π², and the interval is all π with (mean - π)² ≤ z² V(π) / n, n the effective number of items. r is what the
estimates' own mean square leaves for it. Without guesses q = 1 and r = 0: Wilson's interval. It is never of zero width.

Coverage is simulated in tests/evaluators/simulated_ledgers.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluators.statistics.dependence import Dependence, Floats, Histories
from evaluators.statistics.exact import Z
from iit_bench.types import TRANSITIONS, Figure

# The share of the pseudo-clusters of `Dependence.effective` that estimates get: guesses differ within a cluster, so that its items are less
# alike than right and wrong answers are. With all of them, intervals covered up to 98%.
_PSEUDO = 0.125


def known(right: Any, answered: Any, chance: Any) -> Floats:
    """Per item an unbiased estimate of whether it is known (1) or not (0), where who does not know it guesses, [n].

    Args:
        right: whether the answer is right, [n].
        answered: whether there is an answer that can be right, [n]; none is no guess.
        chance: probability of a right guess, 1/k with k ≥ 2, [n].

    Returns:
        1 where right, -1/(k - 1) where wrong, 0 without an answer.
    """
    level = np.asarray(chance, dtype=np.float64)
    return np.where(right, 1.0, np.where(answered, -level / (1 - level), 0.0))


def by_transition(base: Floats, run: Floats) -> dict[str, Floats]:
    """Transition -> per item an unbiased estimate of whether it is the item's, from `known` of both sides, [n]; the four sum to 1."""
    products = (base * (1 - run), base * run, (1 - base) * run, (1 - base) * (1 - run))
    return dict(zip(TRANSITIONS, products, strict=True))


def corrected_rates(base: Floats, run: Floats, chance: Any, clusters: Any, histories: Histories | None = None) -> dict[str, Figure]:
    """Transition -> share of the items of which it is true, corrected for lucky guesses; it may leave 0 … 1, and is then noted.

    Args:
        base, run: `known` of both sides, [n].
        chance: probability of a right guess per item, [n].
        clusters: cluster code per item, [n], or their `Dependence`.
        histories: the history clusters of each item, [n]; None where there are none.
    """
    if not len(base):
        return {name: Figure(None, note="no item finished on both sides") for name in TRANSITIONS}
    dependence = Dependence.of(clusters, histories=histories)
    ends = _extremes(chance)
    squares = _mean_squares(base, run, chance)
    return {name: _mean(of_name, dependence, squares[name], ends[name]) for name, of_name in by_transition(base, run).items()}


def _extremes(chance: Any) -> dict[str, Floats]:
    """Transition -> the mean over the items of their least and of their largest possible estimate, [2]."""
    right = np.ones(len(chance))
    wrong = known(right == 0, True, chance)
    corners = [by_transition(a, b) for a in (right, wrong) for b in (right, wrong)]
    means = {name: [float(corner[name].mean()) for corner in corners] for name in TRANSITIONS}
    return {name: np.array([min(of_name), max(of_name)]) for name, of_name in means.items()}


def _mean_squares(base: Floats, run: Floats, chance: Any) -> dict[str, tuple[float, float, float]]:
    """Transition -> mean square of the estimates where it is true, and the least and the largest where another one is."""
    level = np.asarray(chance, dtype=np.float64)
    luck = level / (1 - level)  # 1/(k - 1), the mean square of `known` of who guesses; that of 1 - `known` is 1 more, k/(k - 1)
    luck_of_base, luck_of_run = luck * _guessing(base), luck * _guessing(run)  # who says nothing has 0 and 1
    both = luck_of_base * luck_of_run
    return {
        "lost": (float((1 + luck_of_run).mean()), 0.0, float((luck_of_base * (1 + luck_of_run)).mean())),
        "kept": (1.0, float(both.mean()), float(np.maximum(luck_of_base, luck_of_run).mean())),
        "gained": (float((1 + luck_of_base).mean()), 0.0, float((luck_of_run * (1 + luck_of_base)).mean())),
        "never": (float(((1 + luck_of_base) * (1 + luck_of_run)).mean()), 0.0, 0.0),
    }


def _guessing(side: Floats) -> float:
    """The share of the unknown items for which there is a guess, 0 … 1."""
    unknown = 1 - float(side.mean())
    return 1 - min(1.0, float(np.mean(side == 0)) / unknown) if unknown > 0 else 1.0


def _mean(estimates: Floats, dependence: Dependence, squares: tuple[float, float, float], ends: Floats) -> Figure:
    """The mean of `estimates`, [n], with its interval."""
    n = len(estimates)
    value = round(float(estimates.mean()), 12) + 0.0  # rounding must not make a rate of 0 negative
    square = float(np.mean(estimates**2))
    influence = (estimates - value) / n
    items = float(n)
    if not dependence.singletons:
        items = dependence.effective(square - value**2, influence, _PSEUDO * float(np.sum((ends - value) ** 2)))
    own, least, most = squares
    other = least if value == 1 else min(max((square - value * own) / (1 - value), least), most)
    slope = own - other
    level = other + max(0.0, square - (other + slope * value))  # so that the value is inside its own interval
    # (1 + z²/n) π² - (2 value + z² slope/n) π + value² - z² level/n ≤ 0
    share = Z**2 / items
    centre = (value + share * slope / 2) / (1 + share)
    half = float(np.sqrt(max(0.0, centre**2 - (value**2 - share * level) / (1 + share))))
    variance = dependence.variance(influence)
    kind = "" if dependence.singletons else "clustered " if dependence.shared is None else "two-way clustered "
    outside = f"{'below 0' if value < 0 else 'above 1'}: guesses explain more than was seen"
    return Figure(
        value,
        low=min(value, centre - half),
        high=max(value, centre + half),
        n=n,
        clusters=dependence.n_clusters,
        se=None if variance is None else float(np.sqrt(variance)),
        method=f"{kind}wilson, corrected for lucky guesses",
        note="" if 0 <= value <= 1 else outside,
    )
