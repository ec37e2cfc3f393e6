"""Rates of what two sides know behind what they answer right, corrected for lucky guesses (docs/spec/iit.md#ledger).

An item's estimate has the mean 1 where the item is of the transition and 0 where it is not. The model of guessing gives its mean square and
mean cube in either case; the interval that follows from them is that of `rates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from evaluators.statistics.dependence import Dependence, Floats, Histories
from evaluators.statistics.rates import Moments, mean_estimate
from iit_bench.types import TRANSITIONS, Figure

_KNOWN = {"lost": (True, False), "kept": (True, True), "gained": (False, True), "never": (False, False)}  # by base, by run


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
    moments = _moments(base, run, chance)
    return {name: _figure(mean_estimate(of_name, dependence, moments[name])) for name, of_name in by_transition(base, run).items()}


def guess_alike(corrected: Mapping[str, Figure]) -> bool:
    """Return whether an interval of lost or gained of `corrected_rates` is wholly below 0.

    Sides that guess each by itself give one in 40 cases at most, where nothing is lost or nothing is gained.
    """
    return any(bound is not None and bound < 0 for bound in (corrected[name].high for name in ("lost", "gained")))


def _figure(figure: Figure) -> Figure:
    value = figure.value or 0.0
    outside = f"{'below 0' if value < 0 else 'above 1'}: guesses explain more than was seen"
    return replace(figure, method=f"{figure.method}, corrected for lucky guesses", note="" if 0 <= value <= 1 else outside)


def _moments(base: Floats, run: Floats, chance: Any) -> dict[str, Moments]:
    """Transition -> moments of an item's estimate where it is true, and where each other one is: the sides guess by themselves."""
    level, items = np.unique(np.asarray(chance, dtype=np.float64), return_counts=True)
    share = items / items.sum()
    of_base, of_run = (_factors(level, _guessing(side)) for side in (base, run))

    def of(name: str, true: str) -> Floats:
        (base_wanted, run_wanted), (base_knows, run_knows) = _KNOWN[name], _KNOWN[true]
        return np.asarray((of_base[base_wanted, base_knows] * of_run[run_wanted, run_knows]) @ share)

    return {name: Moments(of(name, name), np.array([of(name, true) for true in TRANSITIONS if true != name])) for name in TRANSITIONS}


def _factors(level: Floats, guessing: float) -> dict[tuple[bool, bool], Floats]:
    """(wanted, knows) -> mean square and mean cube of one side's factor of an estimate, by chance level, [2, levels].

    The factor is `known` where knowing is wanted, else 1 - `known`. A side that does not know guesses with probability `guessing`.
    """
    luck = level / (1 - level)  # 1/(k - 1)
    powers = np.array([[2.0], [3.0]])
    return {
        (True, True): np.ones((2, len(level))),
        (False, True): np.zeros((2, len(level))),
        # 1 where the guess is right, -luck where it is wrong, 0 without a guess
        (True, False): guessing * (level + (1 - level) * (-luck) ** powers),
        (False, False): guessing * (1 - level) * (1 + luck) ** powers + 1 - guessing,
    }


def _guessing(side: Floats) -> float:
    """The share of the unknown items for which there is a guess, 0 … 1."""
    unknown = 1 - float(side.mean())
    return 1 - min(1.0, float(np.mean(side == 0)) / unknown) if unknown > 0 else 1.0
