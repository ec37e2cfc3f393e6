"""The paper's claims as tests over the cells, and verdicts by a rule that was written before there were cells.

The paper (arXiv 2406.03496) claims that Wings, against the same LLM tuned without learners, is better on text-only questions, on visual
questions, and on dialogues of text and images from text-rich to image-rich. Each is a difference between Wings and full tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evaluators.lab.answers import AFTER, IIT, TEXT, VQA, Grid, Key, Measure
from evaluators.lab.effects import Effect, accuracy, at_equal_vqa, mean_difference, missing, with_holm
from evaluators.statistics.power import ALPHA
from iit_bench.lab.cells import rate_word

WINGS, FULL, RELEASED = "wings", "full", "wings-released"  # names of methods in a grid
COMPARED = {"one-rate": FULL, "replay": FULL, "merge": FULL, "dora": "lora", RELEASED: "wings-one-image"}  # see `ablated`
MARGIN = 0.02  # a gain below it is not worth having; as of `eval --margin`
FEWEST_SEEDS = 2
Verdict = Literal["held", "did not hold", "cannot be told"]
RULE = (
    "Held: Wings is higher, and p, adjusted by Holm over the tests of this table, is below 0.05. Did not hold: the 95% interval excludes a "
    "gain of 2 points or more. Cannot be told: neither, or fewer than two seeds. The rule was written before there were cells."
)
_AT_SAME_RATE = "at the same rate of the LLM, mean over rates {}"
_AT_ONE_RATE = "at the same rate of the LLM, {}"


@dataclass(frozen=True, kw_only=True)
class Test:
    """One test of a claim: Wings minus full tuning."""

    claim: str  # the paper's, in words
    measure: Measure
    how: str  # what is held equal
    effect: Effect
    verdict: Verdict
    opposite: bool = False  # it did not hold, and full tuning is higher by a difference that the test finds


def claims(grid: Grid) -> tuple[Test, ...]:
    """The five tests of the three claims, with verdicts; effects without a figure where the cells for it are not there."""
    both = rates_of_both(grid)
    pairs = [((WINGS, rate), (FULL, rate)) for rate in both]
    equal, words = _kept_at_equal_vqa(grid)
    same = (_AT_ONE_RATE if len(both) == 1 else _AT_SAME_RATE).format(", ".join(map(rate_word, both)) or "of both")
    tests = (
        ("Text is kept", TEXT, same, mean_difference(grid, TEXT, pairs)),
        ("Text is kept", TEXT, words, equal),
        ("Text is kept", AFTER, same, mean_difference(grid, AFTER, pairs)),
        ("VQA is gained", VQA, same, mean_difference(grid, VQA, pairs)),
        ("Better from text-rich to image-rich dialogues", IIT, same, mean_difference(grid, IIT, pairs)),
    )
    family = with_holm([effect for *_, effect in tests])
    return tuple(_judged(*test[:3], effect) for test, effect in zip(tests, family, strict=True))


def rates_of_both(grid: Grid) -> list[float]:
    """Rates above 0 at which Wings and full tuning have two seeds each; where there is none, those at which both have one."""
    for fewest in (FEWEST_SEEDS, 1):
        if both := [rate for rate in grid.rates(WINGS, fewest) if rate > 0 and rate in grid.rates(FULL, fewest)]:
            return both
    return []


def verdict(effect: Effect) -> Verdict:
    """By `RULE`, of an effect with its adjusted p."""
    figure = effect.figure
    if figure.value is None or effect.seeds < FEWEST_SEEDS:
        return "cannot be told"
    if figure.value > 0 and effect.p_holm is not None and effect.p_holm < ALPHA:
        return "held"
    return "did not hold" if figure.high is not None and figure.high < MARGIN else "cannot be told"


def _judged(claim: str, measure: Measure, how: str, effect: Effect) -> Test:
    found = verdict(effect)
    below = (effect.figure.value or 0.0) < 0 and effect.p_holm is not None and effect.p_holm < ALPHA
    opposite = found == "did not hold" and below
    return Test(claim=claim, measure=measure, how=how, effect=effect, verdict=found, opposite=opposite)


def _kept_at_equal_vqa(grid: Grid) -> tuple[Effect, str]:
    """Text that Wings keeps more than full tuning at the VQA accuracy that the weaker of the two reaches at its best, and how in words."""
    best = {method: _best(grid, method) for method in (WINGS, FULL)}
    if (wings := best[WINGS]) is None or (full := best[FULL]) is None:
        return missing("one of the two has no cell with a rate above 0"), "at equal VQA"
    lower, other = (WINGS, FULL) if wings[0] < full[0] else (FULL, WINGS)
    anchor: Key = (lower, (wings if lower == WINGS else full)[1])
    found = at_equal_vqa(grid, VQA, TEXT, other, anchor)
    if found is None:
        return missing("the other never reaches this VQA"), "at equal VQA"
    effect = found.effect if other == WINGS else negative(found.effect)
    return effect, f"at equal VQA, {100 * found.vqa:.1f}%"


def negative(effect: Effect) -> Effect:
    """The effect with the two sides exchanged."""
    old = effect.figure
    value, low, high = (None if one is None else -one for one in (old.value, old.high, old.low))
    return replace(effect, figure=replace(old, value=value, low=low, high=high), per_seed=tuple(-one for one in effect.per_seed))


def _best(grid: Grid, method: str) -> tuple[float, float] | None:
    """The highest VQA accuracy of a method over its rates above 0, and that rate."""
    rates = grid.rates(method, FEWEST_SEEDS) or grid.rates(method)
    found = [(accuracy(grid, VQA, (method, rate)).figure.value, rate) for rate in rates if rate > 0]
    known = [(value, rate) for value, rate in found if value is not None]
    return max(known) if known else None


# ---------------------------------------------------------------- pairs of methods


@dataclass(frozen=True, kw_only=True)
class EqualVqa:
    """A method beside full tuning at one rate, at equal VQA."""

    method: str
    rate: float  # of full tuning
    vqa: float | None  # the accuracy of both; None where the method never reaches it
    between: tuple[float, float] | None  # rates of the method
    text: Effect  # method minus full tuning
    after: Effect


def at_equal(grid: Grid, methods: Sequence[str]) -> tuple[EqualVqa, ...]:
    """Every method against every rate of full tuning, at the VQA accuracy of the latter, as one family of tests."""
    places = [(method, rate) for method in methods for rate in grid.rates(FULL)]
    found = [[at_equal_vqa(grid, VQA, measure, method, (FULL, rate)) for measure in (TEXT, AFTER)] for method, rate in places]
    none = missing("never reaches this VQA")
    effects = with_holm([none if one is None else one.effect for pair in found for one in pair])
    return tuple(
        EqualVqa(
            method=method,
            rate=rate,
            vqa=pair[0].vqa if pair[0] else None,
            between=pair[0].between if pair[0] else None,
            text=effects[2 * place],
            after=effects[2 * place + 1],
        )
        for place, ((method, rate), pair) in enumerate(zip(places, found, strict=True))
    )


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two methods at one rate of the LLM."""

    over: str  # method
    against: str
    rate: float
    effects: tuple[Effect, ...]  # of TEXT, AFTER and VQA; p adjusted over all effects of the list that it is in

    @property
    def seeds(self) -> int:
        """Of the one that has fewer."""
        return min((effect.seeds for effect in self.effects if effect.figure.value is not None), default=0)


def ablated(method: str) -> str:
    """The method that an ablation is compared with: Wings, or what it changes itself, by the names of the shipped grids."""
    return COMPARED.get(method, WINGS)


def pairings(grid: Grid, pairs: Sequence[tuple[str, str]]) -> tuple[Pairing, ...]:
    """Every pair of methods at every rate that both have, as one family of tests."""
    places = [(over, against, rate) for over, against in pairs for rate in grid.rates(over) if rate in grid.rates(against)]
    measures = (TEXT, AFTER, VQA)
    effects = with_holm([mean_difference(grid, one, [((a, rate), (b, rate))]) for a, b, rate in places for one in measures])
    each = len(measures)
    return tuple(
        Pairing(over=a, against=b, rate=rate, effects=effects[each * place : each * (place + 1)])
        for place, (a, b, rate) in enumerate(places)
    )
