"""The figure of a series: lines over steps or places in an order, each with its interval and its name at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.figures import Pen, Plot, shortened
from reports.plots import bare, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.2, 3.0  # inches
_LETTER = 0.072  # width of a letter in a label, inches
_LINE = 0.155  # height of a line of text, inches


@dataclass(frozen=True)
class At:
    """A value with its 95% interval at one place of the series, as fractions."""

    place: float  # the step, or 1, 2, …
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """One figure over the series."""

    name: str
    style: int
    points: tuple[At, ...]  # by rising place


def series_plot(
    lines: Sequence[Line], *, key: str, description: str, axis: str, differences: bool = False, level: tuple[str, float] | None = None
) -> Plot:
    """Lines over the places of a series.

    Args:
        lines: at least one; one without a point draws nothing.
        key, description: of the plot.
        axis: what the places are.
        differences: signed percentage points around a line at 0; else percentages.
        level: name and value of what the series is compared with, a dotted line.
    """
    shown = [line for line in lines if line.points]
    names = [line.name for line in shown] + ([level[0]] if level else [])
    label = max((len(shortened(name)) for name in names), default=1) * _LETTER + 0.25
    rows: list[tuple[str | float | None, ...]] = [(line.name, p.place, p.value, p.low, p.high) for line in shown for p in line.points]
    rows += [(level[0], None, level[1], None, None)] if level else []

    def draw(figure: Figure, pen: Pen) -> None:
        left = 0.5 / _WIDTH
        axes = figure.add_axes((left, 0.5 / _HEIGHT, 1 - left - label / _WIDTH, 1 - 0.6 / _HEIGHT), facecolor="none")
        low, high, margin = _frame(axes, shown, [100 * level[1]] if level else [], differences)
        axes.set_xlabel(axis)
        axes.grid(axis="y", color=pen.rule, linewidth=0.8)
        bare(axes, pen)
        if differences:
            axes.axhline(0, color=pen.muted, linewidth=1.0, zorder=1)
        if level:
            axes.axhline(100 * level[1], color=pen.muted, linewidth=1.0, linestyle=(0, (1, 3)), zorder=1)
        for line in shown:
            _draw_line(axes, line, pen)
        finals = [(100 * line.points[-1].value, line.name, pen.colour(line.style)) for line in shown]
        finals += [(100 * level[1], level[0], pen.muted)] if level else []
        places = spread([one[0] for one in finals], _LINE * (high - low) / (_HEIGHT - 0.6), low, high)
        end = axes.get_xlim()[1]
        for (value, name, colour), place in zip(finals, places, strict=True):
            axes.plot([end, end + margin], [value, place], color=colour, linewidth=0.6, clip_on=False)
            axes.text(end + 1.3 * margin, place, pen.words(name), color=colour, va="center_baseline", ha="left", clip_on=False)
        axes.set_xlim(right=end)

    columns = ("what", axis, "value", "low", "high")
    return Plot(key=key, description=description, size=(_WIDTH, _HEIGHT), draw=draw, columns=columns, rows=tuple(rows))


def _frame(axes: Axes, lines: Sequence[Line], more: Sequence[float], differences: bool) -> tuple[float, float, float]:
    """Limits and ticks; returns the lowest and highest value shown, in %, and what is free beside the first and last place."""
    points = [p for line in lines for p in line.points]
    ends = [100 * end for p in points for end in (p.value, p.low, p.high) if end is not None] + list(more) + [0.0] * differences
    pad = 0.05 * (max(ends) - min(ends)) or 1.0
    first, last = min(p.place for p in points), max(p.place for p in points)
    margin = 0.03 * (last - first) or 0.5
    axes.set(xlim=(first - margin, last + margin), ylim=(min(ends) - pad, max(ends) + pad))
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.locator_params(axis="y", nbins=6)
    return min(ends) - pad, max(ends) + pad, margin


def _draw_line(axes: Axes, line: Line, pen: Pen) -> None:
    x, y = [p.place for p in line.points], [100 * p.value for p in line.points]
    bounds = [(p.place, 100 * p.low, 100 * p.high) for p in line.points if p.low is not None and p.high is not None]
    if bounds:
        places, low, high = (list(column) for column in zip(*bounds, strict=True))
        axes.fill_between(places, low, high, color=pen.colour(line.style), alpha=0.14, linewidth=0, zorder=2)
        axes.vlines(places, low, high, color=pen.colour(line.style), linewidth=1.0, zorder=3)
    axes.plot(x, y, zorder=4, **pen.line(line.style))
    axes.plot(x, y, zorder=5, **pen.marker(line.style))
