"""Figures of one arm, and differences between arms, over seeds and items at once.

A mixed model with crossed random effects (`evaluators/statistics/seeds.py`): every seed of a method answers the same items, so an
interval is about the recipe and about questions of this kind, not about one run. Two arms are compared item by item, each over its own
seeds, of which one may have more than the other.

Two or three seeds say little on how much the seeds of one method differ. So the variance between seeds is estimated from all methods at one
rate of the LLM together (`between_seeds`), as one component of the model. The seeds of two methods are taken as independent, which is
cautious where they share their first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit

from evaluators.lab.answers import Block, Grid, Key, Measure, block
from evaluators.statistics import Floats, Ints, Z, holm, wilson
from evaluators.statistics.dependence import Dependence
from evaluators.statistics.power import ALPHA, detectable_by_t
from evaluators.statistics.seeds import contrast_over_seeds
from iit_bench.types import Figure

ONLY_ITEMS = "over items only: no method has two seeds at this rate"
PARTLY = "over items only at a rate at which no method has two seeds"
CLOSE = 0.01  # two rates whose VQA differs by less are not interpolated: the slope between them would be noise


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A figure over seeds and items."""

    figure: Figure  # as a fraction; of a difference -1 … 1
    seeds: int  # of the arm that has fewest
    per_seed: tuple[float, ...] = ()  # of a single arm
    df: float = 0.0
    p: float | None = None  # two-sided, that it is 0; None for an accuracy, and where nothing varies
    p_holm: float | None = None  # adjusted over the family that it is reported with
    detectable: float | None = None  # smallest effect that the test finds with 80% power, at the level of Holm's first step


def missing(why: str) -> Effect:
    """No figure, and why."""
    return Effect(figure=Figure(None, note=why), seeds=0)


# ---------------------------------------------------------------- variance between seeds


@dataclass(frozen=True, kw_only=True)
class Between:
    """How much the seeds of a method differ at one rate, from all methods together."""

    variance: float  # of a seed's own effect, without what items add by chance; 0 or more
    spread: float  # variance of the seeds' means that it was estimated from
    df: int  # seeds less one, summed over the methods; 0: no method has two seeds


@lru_cache(maxsize=512)
def between_seeds(grid: Grid, measure: Measure, rate: float) -> Between:
    """The variance between seeds of a measure at one rate."""
    spread = both = df = 0.0
    for method in sorted({name for name, at in grid.arms if at == rate}):
        found = block(grid, replace(measure, against_base=False), [(method, rate)])
        if found is not None and len(found.values[0]) > 1:
            parts = contrast_over_seeds(found.values[0], found.dependence, found.tiers).parts
            seeds = len(found.values[0])
            spread += (seeds - 1) * seeds * parts.by_seed
            both += (seeds - 1) * seeds * parts.by_both
            df += seeds - 1
    return Between(variance=max(0.0, (spread - both) / df) if df else 0.0, spread=spread / df if df else 0.0, df=int(df))


@dataclass(frozen=True)
class Share:
    """What one arm adds to the variance of a contrast by its seeds: `factor`² times the variance between seeds at its rate."""

    measure: Measure
    rate: float
    factor: float
    seeds: int  # of the arm


def _by_seeds(grid: Grid, shares: Sequence[Share]) -> tuple[float, list[tuple[float, int]]]:
    """The variance by seeds, and (part, degrees of freedom) of each estimate in it."""
    weights: dict[tuple[Measure, float], float] = {}
    for one in shares:
        place = (one.measure, one.rate)
        weights[place] = weights.get(place, 0.0) + one.factor**2 / one.seeds
    found = [(weight, between_seeds(grid, measure, rate)) for (measure, rate), weight in weights.items()]
    known = [(weight * one.spread, one.df) for weight, one in found if one.df]
    return sum(weight * one.variance for weight, one in found), known


# ---------------------------------------------------------------- figures


def accuracy(grid: Grid, measure: Measure, key: Key) -> Effect:
    """Mean over the measure's tiers of an arm's accuracy; Wilson's interval on as many items as would give its variance."""
    found = block(grid, replace(measure, against_base=False), [key])
    if found is None:
        return missing("no cell, or no such tier")
    (right,) = found.values
    made = contrast(grid, right, found.dependence, found.tiers, [Share(measure, key[1], 1.0, len(right))])
    value, se = made.figure.value or 0.0, made.figure.se or 0.0
    spread, least = value * (1 - value), float(right.size)
    items = min(spread / se**2, least) if se > 0 and spread > 0 else found.dependence.n_clusters
    t = float(stdtrit(made.df, 0.975)) if made.df > 0 else np.inf
    low, high = wilson(value, items * (Z / t) ** 2) if np.isfinite(t) else (0.0, 1.0)
    figure = replace(made.figure, low=low, high=high, se=se, method="seeds and clusters, Wilson", note=_note(grid, measure, key[1]))
    return Effect(figure=figure, seeds=len(right), per_seed=made.per_seed, df=made.df)


def change(grid: Grid, measure: Measure, key: Key) -> Effect:
    """Mean over the measure's tiers of (arm - base LLM), over the same targets: below 0 is lost."""
    found = block(grid, replace(measure, against_base=True), [key])
    if found is None:
        return missing("no cell, or no tier that the base LLM answered")
    (right,) = found.values
    return contrast(grid, right - found.base, found.dependence, found.tiers, [Share(measure, key[1], 1.0, len(right))], largest=1.0)


def mean_difference(grid: Grid, measure: Measure, pairs: Sequence[tuple[Key, Key]]) -> Effect:
    """Mean over pairs of arms (over, against) of over - against, each over its seeds, over the targets that all of them have."""
    keys = [key for pair in pairs for key in pair]
    found = block(grid, replace(measure, against_base=False), keys) if keys else None
    if found is None:
        return missing("no rate that both have")
    means = [values.mean(axis=0) for values in found.values]
    difference = np.mean([over - against for over, against in zip(means[::2], means[1::2], strict=True)], axis=0)
    shares = [Share(measure, rate, 1 / len(pairs), len(values)) for (_, rate), values in zip(keys, found.values, strict=True)]
    return contrast(grid, difference[None], found.dependence, found.tiers, shares, largest=1.0)


def contrast(
    grid: Grid, values: Floats, dependence: Dependence, parts: Ints, shares: Sequence[Share], *, largest: float = np.inf
) -> Effect:
    """Mean over parts of the mean of `values` [S, n] in each, with interval and test.

    Args:
        grid: whose seeds give the variance between seeds.
        values: per seed and item, of several arms one row of means. A part's factor, such as the slope of an interpolation, is in them.
        dependence: of the items; its weights are not used.
        parts: code of each item's part, [n].
        shares: of the arms in the contrast.
        largest: bound of what is possible on either side.
    """
    seeds, sizes = min(one.seeds for one in shares), np.bincount(parts)
    weight = 1 / (len(sizes) * sizes)[parts]
    weighed = Dependence.of(dependence, weight)
    item = values.mean(axis=0)
    means = np.bincount(parts, item) / sizes
    per_seed = tuple(float(np.sum(weight * one)) for one in values) if len(shares) == 1 else ()
    value, n = float(means.mean()), values.shape[1]
    by_item = weighed.variance(weight * (item - means[parts])) or 0.0
    by_seeds, estimates = _by_seeds(grid, shares)
    figure = Figure(value, n=n, clusters=weighed.n_clusters)
    if not values.any():
        return Effect(figure=replace(figure, se=0.0, note="no interval: no answer differs under any seed"), seeds=seeds, per_seed=per_seed)
    variance = by_item + by_seeds
    below = by_item**2 / weighed.degrees if weighed.degrees > 0 else np.inf
    below += sum(part**2 / df for part, df in estimates)
    df = (by_item + sum(part for part, _ in estimates)) ** 2 / below if below > 0 else 0.0
    se = float(np.sqrt(variance))
    if se < 1e-12 or df <= 0:
        note = "no interval: nothing varies, or one cluster"
        return Effect(figure=replace(figure, se=se, note=note), seeds=seeds, per_seed=per_seed, df=df)
    half = float(stdtrit(df, 0.975)) * se
    unknown = any(not between_seeds(grid, one.measure, one.rate).df for one in shares if one.factor)
    note = ONLY_ITEMS if not estimates else PARTLY if unknown else ""
    figure = replace(
        figure, low=max(-largest, value - half), high=min(largest, value + half), se=se, method="seeds and clusters, t", note=note
    )
    return Effect(figure=figure, seeds=seeds, per_seed=per_seed, df=df, p=2 * float(stdtr(df, -abs(value) / se)))


def with_holm(family: Sequence[Effect]) -> tuple[Effect, ...]:
    """The effects with p adjusted over all of them, and the smallest effect that each test could have found."""
    adjusted = holm([one.p for one in family])
    tests = max(1, sum(p is not None for p in adjusted))
    return tuple(replace(one, p_holm=p, detectable=_detectable(one, tests)) for one, p in zip(family, adjusted, strict=True))


def _detectable(one: Effect, tests: int) -> float | None:
    se = one.figure.se
    return None if not se or one.p is None else detectable_by_t(lambda _: se, one.df, ALPHA / tests, largest=max(1.0, 1000 * se))


def _note(grid: Grid, measure: Measure, rate: float) -> str:
    return "" if between_seeds(grid, measure, rate).df else ONLY_ITEMS


# ---------------------------------------------------------------- at equal VQA


@dataclass(frozen=True, kw_only=True)
class AtEqualVqa:
    """What one method keeps of a measure more than another at the same VQA accuracy."""

    effect: Effect  # over - against, of the measure
    vqa: float  # the accuracy at which the two are compared: that of `against` at `rate`
    rate: float  # of `against`
    between: tuple[float, float]  # rates of `over` between which it is interpolated; equal where a cell of it is taken as it is


def at_equal_vqa(grid: Grid, vqa: Measure, measure: Measure, over: str, against: Key) -> AtEqualVqa | None:
    """Difference in `measure` between a method and an arm of another, at the VQA accuracy of the arm.

    On the first method's curve over rates, linear between neighbours, the place with the highest value of the measure is taken where VQA
    is that of the arm or more. The interval is that of the linear combination of cells which this place is, with the slope of the curve
    for the noise of both VQA accuracies; what a seed adds to text and to VQA is taken as independent. None where the method never
    reaches that VQA.
    """
    most = max((len(grid.arms[over, rate].seeds) for rate in grid.rates(over)), default=0)
    rates = grid.rates(over, min(2, most))  # a rate with one seed would decide by it where the curve runs
    keys = [*((over, rate) for rate in rates), against]
    seen, asked = block(grid, replace(vqa, against_base=False), keys), block(grid, replace(measure, against_base=False), keys)
    if seen is None or asked is None or not rates:
        return None
    level = _mean(seen, -1)
    x, y = [_mean(seen, place) for place in range(len(rates))], [_mean(asked, place) for place in range(len(rates))]
    places = [(y[k], k, k, 0.0) for k in range(len(rates)) if x[k] >= level]
    for k in range(len(rates) - 1):
        if min(x[k], x[k + 1]) <= level <= max(x[k], x[k + 1]) and abs(x[k + 1] - x[k]) >= CLOSE:
            weight = (level - x[k]) / (x[k + 1] - x[k])
            places.append(((1 - weight) * y[k] + weight * y[k + 1], k, k + 1, weight))
    if not places:
        return None
    _, left, right, weight = max(places)
    slope = (y[right] - y[left]) / (x[right] - x[left]) if right != left else 0.0
    seeds = [len(values) for values in asked.values]
    sides = ((rates[left], 1 - weight, seeds[left]), (rates[right], weight, seeds[right]), (against[1], -1.0, seeds[-1]))
    arms = [side for side in sides if side[1]]
    shares = [Share(measure, rate, factor, n) for rate, factor, n in arms]
    shares += [Share(vqa, rate, slope * factor, n) for rate, factor, n in arms] if slope else []

    def mixed(found: Block) -> Floats:
        means = [values.mean(axis=0) for values in found.values]
        return ((1 - weight) * means[left] + weight * means[right] - means[-1])[None]

    n_parts = [int(one.tiers.max()) + 1 for one in (asked, seen)]
    parts = np.concatenate([asked.tiers, seen.tiers + n_parts[0]])
    # The contrast is a mean over all parts; each measure is a mean over its own.
    factors = [sum(n_parts) / n for n in n_parts]
    values = np.concatenate([factors[0] * mixed(asked), -slope * factors[1] * mixed(seen)], axis=1)
    effect = contrast(grid, values, Dependence.of(np.concatenate([asked.cluster, seen.cluster])), parts, shares)
    effect = replace(effect, figure=replace(effect.figure, value=_kept(asked, left, right, weight)))
    return AtEqualVqa(effect=effect, vqa=level, rate=against[1], between=(rates[left], rates[right]))


def _kept(asked: Block, left: int, right: int, weight: float) -> float:
    return (1 - weight) * _mean(asked, left) + weight * _mean(asked, right) - _mean(asked, -1)


def _mean(found: Block, place: int) -> float:
    """Mean over seeds and tiers of one arm."""
    each = found.values[place].mean(axis=0)
    return float(np.mean(np.bincount(found.tiers, each) / np.bincount(found.tiers)))
