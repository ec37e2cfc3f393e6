"""Attention shift beside what was lost (the paper's figure 3), and attention layer by layer, over the cells that were observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from evaluators.lab.answers import AFTER, TEXT, Grid, Key, Measure
from evaluators.statistics import Z
from evaluators.statistics.numbers import correlation, pearson, rank_correlation
from iit_bench.lab.cells import CellResult
from iit_bench.types import Figure

FEWEST_WITHIN = 3  # what Fisher's z takes off n
BEFORE, BEHIND = "before", "after"  # names of a cell's curves: over text before the image, and over text after it


@dataclass(frozen=True, kw_only=True)
class ShiftPoint:
    """One cell in the figure of attention shift and forgetting."""

    result: CellResult
    shift: float
    text: float  # base minus cell over text alone, as a fraction: above 0 is lost
    after: float | None  # the same after an image; None without such a tier


@dataclass(frozen=True, kw_only=True)
class Follows:
    """How the points lost on one measure go with the attention shift, over cells."""

    measure: Measure
    pearson: Figure
    spearman: Figure
    within: Figure  # Pearson's, of deviations from each method's mean


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where one method's models look at one rate: mean weight per token in each layer, over the cells of its seeds."""

    key: Key
    seeds: int
    layers: tuple[int, ...]
    before: tuple[float, ...]  # of a token of the text before the image, one per layer
    after: tuple[float, ...]  # of one after it
    ratio: tuple[Figure, ...]  # after / before, one per layer; the interval is over seeds, none of one seed


@dataclass(frozen=True, kw_only=True)
class ShiftFigures:
    """Attention shift beside what was lost, and attention by layer."""

    points: tuple[ShiftPoint, ...]
    follows: tuple[Follows, ...]  # of text alone, then of text after an image if a cell has it
    layers: tuple[Layers, ...]  # in the order of grid.methods, then by rate


def shift(grid: Grid) -> ShiftFigures:
    """Over all cells that were observed; methods are main ones, controls and ablations."""
    points = []
    for one in grid.results:
        key = (one.cell.method, one.cell.rate)
        if one.state != "done" or one.attention is None or one.attention.shift is None or key not in grid.arms:
            continue
        right = grid.arms[key].right[grid.arms[key].seeds.index(one.cell.seed)]
        text, after = (_lost(grid, right, measure) for measure in (TEXT, AFTER))
        if text is not None:
            points.append(ShiftPoint(result=one, shift=one.attention.shift, text=text, after=after))
    behind = [point for point in points if point.after is not None]
    follows = [_follows(TEXT, points, [point.text for point in points])]
    follows += [_follows(AFTER, behind, [point.after or 0.0 for point in behind])] if behind else []
    return ShiftFigures(points=tuple(points), follows=tuple(follows), layers=_layers(grid))


def _follows(measure: Measure, points: Sequence[ShiftPoint], lost: Sequence[float]) -> Follows:
    x, methods = [point.shift for point in points], [point.result.cell.method for point in points]
    within = _within(x, lost, methods)
    return Follows(measure=measure, pearson=correlation(x, lost), spearman=rank_correlation(x, lost), within=within)


def _layers(grid: Grid) -> tuple[Layers, ...]:
    made = []
    for key in ((one.cell.method, rate) for one in grid.methods for rate in grid.rates(one.cell.method)):
        done = [one for one in grid.results if (one.cell.method, one.cell.rate, one.state) == (*key, "done")]
        seen = [one.attention for one in done if one.attention and {BEFORE, BEHIND} <= set(one.attention.curves)]
        if not seen or len({one.layers for one in seen}) > 1:
            continue
        before, after = (np.array([one.curves[name] for one in seen]) for name in (BEFORE, BEHIND))  # [S, layers]
        ratio = tuple(_over_seeds(column) for column in (after / before).T) if (before > 0).all() else ()
        made.append(
            Layers(
                key=key,
                seeds=len(seen),
                layers=seen[0].layers,
                before=tuple(before.mean(axis=0).tolist()),
                after=tuple(after.mean(axis=0).tolist()),
                ratio=ratio,
            )
        )
    return tuple(made)


def _over_seeds(values: np.ndarray) -> Figure:
    """Mean over seeds with the interval of Student's t."""
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Figure(mean, n=n, note="no interval: one seed")
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / n**0.5)
    return Figure(mean, low=mean - half, high=mean + half, n=n, method="t over seeds")


def _lost(grid: Grid, right: np.ndarray, measure: Measure) -> float | None:
    """Mean over tiers of base minus one cell; None where no tier has both."""
    parts = []
    for tier in grid.tiers:
        rows = (grid.tier == tier) & ~np.isnan(grid.base) & ~np.isnan(right)
        if measure.takes(tier) and rows.any():
            parts.append(float(np.mean(grid.base[rows] - right[rows])))
    return float(np.mean(parts)) if parts else None


def _within(x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> Figure:
    """Pearson's correlation of the deviations from each group's mean, with Fisher's interval on n less a mean per further group."""
    names = sorted(set(groups))
    free = len(x) - (len(names) - 1) - FEWEST_WITHIN
    if free < 1:
        return Figure(None, n=len(x), note="too few cells per method")
    centred = []
    for values in (np.array(x), np.array(y)):
        for name in names:
            of = np.array([group == name for group in groups])
            values[of] -= values[of].mean()
        centred.append(values)
    found = pearson(*centred)
    if found is None or abs(found) >= 1 - 1e-12:
        return Figure(found, n=len(x), note="no interval: within methods nothing varies, or all is on one line")
    z, half = float(np.arctanh(found)), Z / free**0.5
    return Figure(found, low=float(np.tanh(z - half)), high=float(np.tanh(z + half)), n=len(x), method="Fisher z, within methods")
