"""The two kinds of figure that pages share: curves over visual share, and dots with intervals, one line of text per dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.cells import percent
from reports.cells import points as in_points
from reports.figures import Pen, Plot, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8  # inches; what a page shows on a phone at about its own size
_LETTER = 0.072  # width of a letter in a label, inches; system fonts differ, so it is generous
_LINE = 0.155  # height of a line of text, inches
_SHARES = {0.0: "0", 1 / 4: "¼", 1 / 3: "⅓", 1 / 2: "½", 2 / 3: "⅔", 3 / 4: "¾", 1.0: "1"}


@dataclass(frozen=True)
class Point:
    """Accuracy at one visual share; fractions in 0…1."""

    share: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One model's line. `style` numbers its colour, dash and marker, the same in every figure and in every table."""

    style: int
    points: tuple[Point, ...]  # by rising share
    name: str = ""  # written at its end


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One line of a figure of dots: a value with its 95% interval, as fractions."""

    label: str  # written before it
    value: float
    low: float | None
    high: float | None
    style: int  # colour and marker
    n: int = 0


def curves_plot(curves: Sequence[Curve], chance: Sequence[tuple[float, float]], *, key: str, description: str) -> Plot:
    """Accuracy over visual share with interval bands, one line per model, its name at the end.

    Args:
        curves: the lines; one without a point draws nothing.
        chance: (visual share, mean 1/k) by rising share; drawn as a thin dotted line.
        key, description: of the plot.
    """
    shown = [curve for curve in curves if curve.points]
    rows: list[tuple[str | float | None, ...]] = [(curve.name, p.share, p.value, p.low, p.high) for curve in shown for p in curve.points]
    rows += [("chance", share, value, None, None) for share, value in chance]
    letters = [len(shortened(curve.name)) for curve in shown if curve.name]
    label = max([*letters, len("chance")]) * _LETTER if letters else 0.0
    height = max(3.3, 0.9 + _LINE * (len(shown) + 1))

    def draw(figure: Figure, pen: Pen) -> None:
        left, right = 0.46 / WIDTH, (label + 0.2) / WIDTH
        axes = figure.add_axes((left, 0.5 / height, 1 - left - right, 1 - 0.62 / height), facecolor="none")
        lowest = min([p.low for curve in shown for p in curve.points] + [value for _, value in chance], default=0.0)
        bottom = max(0.0, math.floor(10 * (lowest - 0.02)) / 10)
        _frame(axes, sorted({point.share for curve in shown for point in curve.points}), bottom, pen)
        if len(chance) > 1:
            axes.plot(*zip(*chance, strict=True), color=pen.muted, linewidth=1.0, linestyle=(0, (1, 3)), zorder=1)
        elif chance:
            axes.plot(*chance[0], color=pen.muted, marker="_", markersize=16, zorder=1)
        for rank, curve in enumerate(shown):
            dodge = (rank - (len(shown) - 1) / 2) * min(0.008, 0.05 / len(shown))
            _draw_curve(axes, curve, dodge, min(0.14, 0.7 / len(shown)), pen)  # many bands would hide the lines
        if label:
            per_inch = (1.02 - bottom) / (height - 0.62)
            _label_ends(axes, shown, chance, _LINE * per_inch, (bottom, 1.02), pen)

    size = (WIDTH, height)
    columns = ("model", "visual share", "accuracy", "low", "high")
    return Plot(key=key, description=description, size=size, draw=draw, columns=columns, rows=tuple(rows))


def _frame(axes: Axes, shares: Sequence[float], bottom: float, pen: Pen) -> None:
    axes.set(xlim=(-0.05, 1.05), ylim=(bottom - 0.02, 1.02), xlabel="visual share of the dialogue (V turns / turns)")
    axes.set_xticks(list(shares), [_SHARES.get(share, f"{share:.2f}") for share in shares])
    step = 2 if bottom < 0.45 else 1
    ticks = [tick / 10 for tick in range(10, round(10 * bottom) - 1, -step)][::-1]
    axes.set_yticks(ticks, [f"{100 * tick:.0f}{'%' if tick == 1 else ''}" for tick in ticks])
    axes.grid(axis="y", color=pen.rule, linewidth=0.8)
    bare(axes, pen)


def bare(axes: Axes, pen: Pen) -> None:
    """Only the lower border, and ticks in the colours of the page."""
    axes.set_axisbelow(True)
    axes.tick_params(colors=pen.ink, length=0, pad=5)
    axes.tick_params(axis="x", length=3, color=pen.muted)
    axes.xaxis.label.set_color(pen.ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(pen.muted)


def _draw_curve(axes: Axes, curve: Curve, dodge: float, band: float, pen: Pen) -> None:
    """`dodge` moves the line sideways by less than its marker, so that equal values do not hide each other; `band` is its opacity."""
    x = [point.share + dodge for point in curve.points]
    low, high = [p.low for p in curve.points], [p.high for p in curve.points]
    colour = pen.colour(curve.style)
    if len(x) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=band, linewidth=0, zorder=2)
    axes.vlines(x, low, high, color=colour, linewidth=1.0, zorder=3)
    axes.plot(x, [p.value for p in curve.points], zorder=4, **pen.line(curve.style))
    axes.plot(x, [p.value for p in curve.points], zorder=5, **pen.marker(curve.style))


def _label_ends(
    axes: Axes, curves: Sequence[Curve], chance: Sequence[tuple[float, float]], gap: float, limits: tuple[float, float], pen: Pen
) -> None:
    """Names at the right, apart by `gap`; a thin line leads from each curve's last point to its name."""
    ends = [(curve.points[-1].share, curve.points[-1].value, curve.name, pen.colour(curve.style)) for curve in curves]
    ends += [(*chance[-1], "chance", pen.muted)] if chance else []
    places = spread([value for _, value, *_ in ends], gap, *limits)
    for (share, value, name, colour), place in zip(ends, places, strict=True):
        start = share + 0.03
        if share < 0.9:  # a text LLM ends at the left
            axes.plot([start, 1.02], [value, value], color=colour, linewidth=0.6, linestyle=(0, (1, 2)), clip_on=False, zorder=1)
            start = 1.02
        axes.plot([start, 1.085], [value, place], color=colour, linewidth=0.6, clip_on=False, zorder=1)
        text = name if name == "chance" and colour == pen.muted else pen.words(name)
        axes.text(1.1, place, text, color=colour, va="center_baseline", ha="left", clip_on=False)


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near `values`, in their order, at least `gap` apart, within low … high where they fit."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    places: list[float] = []
    for i in order:
        places.append(max(values[i], places[-1] + gap, low) if places else max(values[i], low))
    ceiling = high
    for rank in range(len(places) - 1, -1, -1):
        places[rank] = min(places[rank], ceiling)
        ceiling = places[rank] - gap
    found = [0.0] * len(values)
    for i, place in zip(order, places, strict=True):
        found[i] = place
    return found


def dots_plot(dots: Sequence[Dot], *, key: str, description: str, axis: str, points: bool = True) -> Plot:
    """Values with their intervals, from top to bottom in the order given, each with its label at the left and its number at the right.

    Args:
        axis: what the values are.
        points: differences, in signed percentage points around a line at 0; else percentages.
    """
    label = max((len(shortened(dot.label)) for dot in dots), default=1) * _LETTER + 0.1
    height = 0.62 + 0.26 * len(dots)
    rows = tuple((dot.label, dot.value, dot.low, dot.high, dot.n) for dot in dots)

    def draw(figure: Figure, pen: Pen) -> None:
        left, right = label / WIDTH, 0.52 / WIDTH
        axes = figure.add_axes((left, 0.5 / height, 1 - left - right, 1 - 0.56 / height), facecolor="none")
        ends = [100 * end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]
        low, high = min([*ends, 0.0]), max([*ends, 0.0])
        pad = 0.04 * (high - low) or 1.0
        axes.set(xlim=(low - pad, high + pad), ylim=(len(dots) - 0.5, -0.5), xlabel=axis)
        axes.set_yticks(range(len(dots)), [pen.words(dot.label) for dot in dots])
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x", color=pen.rule, linewidth=0.8)
        bare(axes, pen)
        if points:
            axes.axvline(0, color=pen.muted, linewidth=1.0, zorder=1)
        for place, dot in enumerate(dots):
            if dot.low is not None and dot.high is not None:
                axes.hlines(place, 100 * dot.low, 100 * dot.high, color=pen.colour(dot.style), linewidth=1.4, zorder=3)
            axes.plot([100 * dot.value], [place], zorder=4, **pen.marker(dot.style, 7.0))
            number = in_points(dot.value) if points else percent(dot.value)
            axes.text(1.02, place, number, transform=axes.get_yaxis_transform(), color=pen.ink, va="center_baseline", ha="left")

    columns = ("what", "value", "low", "high", "n")
    return Plot(key=key, description=description, size=(WIDTH, height), draw=draw, columns=columns, rows=rows)
