"""The figures of the experiment: points per method over two axes, and lines per method over rates or tiers, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iit_bench.types import Figure as Number
from reports.figures import Pen, Plot, shortened
from reports.plots import WIDTH, bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 3.4  # inches
_LETTER = 0.072  # width of a letter in a label, inches
MOST_LEVEL = 7  # names of places that fit beside each other


@dataclass(frozen=True, kw_only=True)
class Series:
    """One method's points, in order; `style` numbers its colour, dash and marker."""

    name: str
    style: int
    points: tuple[tuple[str, Number, Number], ...]  # (what it is, x, y), in the units of the axes
    joined: bool = True  # by a line, from the first to the last


def series_over_two_axes(series: Sequence[Series], *, key: str, description: str, x_axis: str, y_axis: str) -> Plot:
    """Points with the intervals of both values; a marker grows from a series' first point to its last. The line at 0 is drawn."""
    label = max(len(shortened(one.name)) for one in series) * _LETTER + 0.45
    rows = tuple((one.name, word, x.value, x.low, x.high, y.value, y.low, y.high) for one in series for word, x, y in one.points)

    def draw(figure: Figure, pen: Pen) -> None:
        axes = figure.add_axes((0.62 / WIDTH, 0.5 / _HEIGHT, 1 - (0.8 + label) / WIDTH, 1 - 0.62 / _HEIGHT), facecolor="none")
        axes.set(xlabel=x_axis, ylabel=y_axis)
        axes.axhline(0, color=pen.muted, linewidth=1.0, zorder=1)
        axes.grid(color=pen.rule, linewidth=0.8)
        axes.margins(0.06)
        for one in series:
            colour = pen.colour(one.style)
            for rank, (_, x, y) in enumerate(one.points):
                if x.low is not None and x.high is not None:
                    axes.hlines(y.value or 0.0, x.low, x.high, color=colour, linewidth=0.8, zorder=2)
                if y.low is not None and y.high is not None:
                    axes.vlines(x.value or 0.0, y.low, y.high, color=colour, linewidth=0.8, zorder=2)
                size = 4.0 + 4.0 * rank / max(1, len(one.points) - 1) if one.joined else 5.0
                axes.plot([x.value or 0.0], [y.value or 0.0], zorder=5, **pen.marker(one.style, size))
            if one.joined and len(one.points) > 1:
                axes.plot(
                    [x.value or 0.0 for _, x, _ in one.points], [y.value or 0.0 for *_, y in one.points], zorder=4, **pen.line(one.style)
                )
        _names_at_the_right(axes, series, pen)
        bare(axes, pen)
        axes.yaxis.label.set_color(pen.ink)

    columns = ("method", "point", x_axis, f"{x_axis}, low", f"{x_axis}, high", y_axis, f"{y_axis}, low", f"{y_axis}, high")
    return Plot(key=key, description=description, size=(WIDTH, _HEIGHT), draw=draw, columns=columns, rows=rows)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method's values by category."""

    name: str
    style: int
    values: tuple[tuple[str, Number], ...]  # (category, value with its interval), in the units of the axis


def lines_over_categories(
    rows: Sequence[Row], groups: Sequence[Sequence[str]], *, key: str, description: str, x_axis: str, y_axis: str, zero: bool
) -> Plot:
    """A line per method over named places from left to right, with intervals, slightly beside each other so that none hides another.

    Args:
        rows: the methods; a category that one lacks is passed over.
        groups: the categories in order; lines are broken between groups.
        key: of the figure.
        description: for those who cannot see it.
        x_axis: label.
        y_axis: label.
        zero: whether the line at 0 is drawn.
    """
    right = max(len(shortened(one.name)) for one in rows) * _LETTER + 0.45
    names = [name for group in groups for name in group]
    places = [place + 0.6 * number for number, group in enumerate(groups) for place in range(len(names)) if names[place] in group]
    place_of = dict(zip(names, places, strict=True))
    upright = len(names) > MOST_LEVEL
    bottom = 0.74 if upright else 0.5  # inches
    numbers = tuple((one.name, name, value.value, value.low, value.high) for one in rows for name, value in one.values)

    def draw(figure: Figure, pen: Pen) -> None:
        frame = (0.62 / WIDTH, bottom / _HEIGHT, 1 - (0.8 + right) / WIDTH, 1 - (bottom + 0.12) / _HEIGHT)
        axes = figure.add_axes(frame, facecolor="none")
        axes.set(xlabel=x_axis, ylabel=y_axis, xlim=(places[0] - 0.6, places[-1] + 0.6))
        axes.set_xticks(places, names, rotation=90 if upright else 0)
        if zero:
            axes.axhline(0, color=pen.muted, linewidth=1.0, zorder=1)
        axes.grid(axis="y", color=pen.rule, linewidth=0.8)
        for rank, one in enumerate(rows):
            beside = 0.5 * ((rank + 0.5) / len(rows) - 0.5)
            for group in groups:
                own = [(place_of[name] + beside, value) for name, value in one.values if name in group]
                for at, value in own:
                    if value.low is not None and value.high is not None:
                        axes.vlines(at, value.low, value.high, color=pen.colour(one.style), linewidth=0.8, zorder=2)
                x, y = [at for at, _ in own], [value.value or 0.0 for _, value in own]
                axes.plot(x, y, zorder=4, **(pen.line(one.style) | {"linewidth": 1.1}))
                axes.plot(x, y, zorder=5, **pen.marker(one.style, 4.5))
        _names_at_the_right(axes, rows, pen)
        bare(axes, pen)
        axes.yaxis.label.set_color(pen.ink)

    columns = ("method", x_axis, y_axis, f"{y_axis}, low", f"{y_axis}, high")
    return Plot(key=key, description=description, size=(WIDTH, _HEIGHT), draw=draw, columns=columns, rows=numbers)


def _names_at_the_right(axes: Axes, rows: Sequence[Series | Row], pen: Pen) -> None:
    """The methods' names, each behind a sample of its line."""
    at = axes.transAxes
    for place, one in enumerate(rows):
        height = 1 - 0.06 * (place + 0.5)
        axes.plot([1.03, 1.09], [height] * 2, transform=at, clip_on=False, **pen.line(one.style))
        axes.plot([1.06], [height], transform=at, clip_on=False, **pen.marker(one.style, 5.0))
        axes.text(
            1.11, height, pen.words(one.name), transform=at, color=pen.colour(one.style), va="center_baseline", ha="left", clip_on=False
        )
