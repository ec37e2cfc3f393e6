"""The figure of the experiment: one series of points per method over two axes, with intervals, and the methods' names at the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iit_bench.types import Figure as Number
from reports.figures import Pen, Plot, shortened
from reports.plots import WIDTH, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 3.4  # inches
_LETTER = 0.072  # width of a letter in a label, inches


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
        for place, one in enumerate(series):
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
            height, at = 1 - 0.06 * (place + 0.5), axes.transAxes
            axes.plot([1.03, 1.09], [height] * 2, transform=at, clip_on=False, **pen.line(one.style))
            axes.plot([1.06], [height], transform=at, clip_on=False, **pen.marker(one.style, 5.0))
            axes.text(1.11, height, pen.words(one.name), transform=at, color=colour, va="center_baseline", ha="left", clip_on=False)
        bare(axes, pen)
        axes.yaxis.label.set_color(pen.ink)

    columns = ("method", "point", x_axis, f"{x_axis}, low", f"{x_axis}, high", y_axis, f"{y_axis}, low", f"{y_axis}, high")
    return Plot(key=key, description=description, size=(WIDTH, _HEIGHT), draw=draw, columns=columns, rows=rows)
