"""Two kinds of figure for numbers that are no accuracies: curves over a model's layers, and one dot per model over two axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iit_bench.types import Figure as Number
from reports.figures import Pen, Plot, shortened
from reports.plots import WIDTH, bare, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 3.0  # inches
_LETTER, _LINE = 0.072, 0.16  # width of a letter and height of a line of text, inches


@dataclass(frozen=True)
class LayerCurve:
    """One line over the layers. `style` numbers its colour, dash and marker."""

    name: str  # written at its end
    style: int
    values: tuple[Number, ...]  # one per layer


@dataclass(frozen=True, kw_only=True)
class Place:
    """One model in a figure of two axes, each value with its 95% interval where it has one."""

    name: str  # written beside it
    style: int
    x: Number
    y: Number


def layers_plot(
    curves: Sequence[LayerCurve], layers: Sequence[int], *, key: str, description: str, axis: str, from_zero: bool = True
) -> Plot:
    """Values per layer with pointwise interval bands, one line per curve, its name at the end.

    Args:
        layers: indices from 0, as many as each curve has values.
        key, description: of the plot.
        axis: what the values are.
        from_zero: whether their axis begins at 0.
    """
    label = max(len(shortened(curve.name)) for curve in curves) * _LETTER
    columns = ("curve", "layer", "mean", "low", "high", "n")
    each = ((curve.name, layer, one) for curve in curves for layer, one in zip(layers, curve.values, strict=True))
    rows = tuple((name, layer, one.value, one.low, one.high, one.n) for name, layer, one in each)

    def draw(figure: Figure, pen: Pen) -> None:
        left, right = 0.62 / WIDTH, (label + 0.3) / WIDTH
        axes = figure.add_axes((left, 0.5 / HEIGHT, 1 - left - right, 1 - 0.62 / HEIGHT), facecolor="none")
        ends = [end for curve in curves for one in curve.values for end in (one.value, one.low, one.high) if end is not None]
        low, high = (min([0.0, *ends]), max([*ends, 1e-9])) if from_zero else (min(ends) - 0.02, max(ends) + 0.02)
        pad, width = 0.03 * (high - low), max(1, layers[-1] - layers[0])
        axes.set(xlim=(layers[0] - 0.03 * width, layers[-1] + 0.03 * width), ylim=(low - pad, high + pad), xlabel="layer", ylabel=axis)
        axes.locator_params(axis="x", integer=True, nbins=9)
        axes.grid(axis="y", color=pen.rule, linewidth=0.8)
        bare(axes, pen)
        axes.yaxis.label.set_color(pen.ink)
        for curve in curves:
            values = [one.value or 0.0 for one in curve.values]
            lows = [value if one.low is None else one.low for value, one in zip(values, curve.values, strict=True)]
            highs = [value if one.high is None else one.high for value, one in zip(values, curve.values, strict=True)]
            axes.fill_between(layers, lows, highs, color=pen.colour(curve.style), alpha=0.14, linewidth=0, zorder=2)
            axes.plot(layers, values, zorder=4, **pen.line(curve.style))
            axes.plot(layers, values, zorder=5, **pen.marker(curve.style, 5.0 if len(layers) <= 40 else 3.0))
        last = [curve.values[-1].value or 0.0 for curve in curves]
        gap = _LINE * (high - low + 2 * pad) / (HEIGHT - 0.62)
        for curve, value, place in zip(curves, last, spread(last, gap, low, high), strict=True):
            end, colour = layers[-1] + 0.04 * width, pen.colour(curve.style)
            axes.plot([end, end + 0.05 * width], [value, place], color=colour, linewidth=0.6, clip_on=False, zorder=1)
            axes.text(end + 0.07 * width, place, pen.words(curve.name), color=colour, va="center_baseline", ha="left", clip_on=False)

    return Plot(key=key, description=description, size=(WIDTH, HEIGHT), draw=draw, columns=columns, rows=rows)


def places_plot(places: Sequence[Place], *, key: str, description: str, x_axis: str, y_axis: str) -> Plot:
    """One dot per model with the intervals of both values, its name beside it; the line at 0 is drawn.

    Args:
        key, description: of the plot.
        x_axis, y_axis: what the values are.
    """
    columns = ("model", x_axis, f"{x_axis}, low", f"{x_axis}, high", y_axis, f"{y_axis}, low", f"{y_axis}, high")
    rows = tuple((one.name, one.x.value, one.x.low, one.x.high, one.y.value, one.y.low, one.y.high) for one in places)

    def draw(figure: Figure, pen: Pen) -> None:
        axes = figure.add_axes((0.62 / WIDTH, 0.5 / HEIGHT, 1 - 0.8 / WIDTH, 1 - 0.62 / HEIGHT), facecolor="none")
        axes.set(xlabel=x_axis, ylabel=y_axis)
        axes.axhline(0, color=pen.muted, linewidth=1.0, zorder=1)
        axes.grid(color=pen.rule, linewidth=0.8)
        axes.margins(0.12)
        for one in places:
            x, y, colour = one.x.value or 0.0, one.y.value or 0.0, pen.colour(one.style)
            if one.x.low is not None and one.x.high is not None:
                axes.hlines(y, one.x.low, one.x.high, color=colour, linewidth=1.0, zorder=2)
            if one.y.low is not None and one.y.high is not None:
                axes.vlines(x, one.y.low, one.y.high, color=colour, linewidth=1.0, zorder=2)
            axes.plot([x], [y], zorder=4, **pen.marker(one.style, 7.0))
        middle = sum(axes.get_xlim()) / 2
        for one in places:
            x, left = one.x.value or 0.0, (one.x.value or 0.0) > middle
            where, side = ((-6, 4), "right") if left else ((6, 4), "left")
            axes.annotate(
                pen.words(one.name),
                (x, one.y.value or 0.0),
                where,
                textcoords="offset points",
                ha=side,
                color=pen.colour(one.style),
                zorder=5,
            )
        bare(axes, pen)
        axes.yaxis.label.set_color(pen.ink)

    return Plot(key=key, description=description, size=(WIDTH, HEIGHT), draw=draw, columns=columns, rows=rows)
