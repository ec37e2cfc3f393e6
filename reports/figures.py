"""Figures as inline SVG, the same bytes for the same numbers: matplotlib draws, the page's style sheet colours.

No text of a model or data set enters a figure (names are in the page's legend, escaped there), so no markup can enter it and no
glyph can be missing. Colours are CSS variables, so one figure serves light, dark and print. matplotlib is imported when drawing only.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLOURS = 8  # --series-0 … --series-7 in static/report.css
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (7, 2, 1.2, 2)))

# Stand-ins that matplotlib can draw with; `_recolour` turns them into what the page decides.
_INK, _MUTED, _RULE, _PAPER = "#010101", "#010102", "#010103", "#010104"
_VARIABLES = {_INK: "currentColor", _MUTED: "var(--muted)", _RULE: "var(--rule)", _PAPER: "var(--paper)"}

_RC: Any = {
    "svg.fonttype": "none",  # text stays text: system fonts, selectable, read aloud
    "svg.hashsalt": "iit-bench",  # ids depend only on what is drawn
    "svg.image_inline": True,
    "font.size": 11.0,
    "axes.unicode_minus": True,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Point:
    """Accuracy at one visual share; fractions in 0…1."""

    share: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One model's line. `style` numbers its colour, dash and marker, the same in every figure and in the legend."""

    style: int
    points: tuple[Point, ...]  # by rising share


def curve_figure(curves: Sequence[Curve], chance: Sequence[tuple[float, float]], *, key: str, description: str) -> str:
    """Accuracy over visual share with interval bands, one line per model.

    Args:
        curves: the lines; an empty line draws nothing.
        chance: (visual share, mean 1/k) by rising share; drawn as a thin dotted line.
        key: prefix of the ids inside the SVG; unique on the page.
        description: what a screen reader says instead of the picture.

    Returns:
        An `<svg>` element without scripts, style attributes, links or metadata.
    """
    from matplotlib.figure import Figure

    with _drawing():
        figure = Figure(figsize=(5.0, 3.7), facecolor="none")
        axes = figure.add_axes((0.105, 0.155, 0.875, 0.81), facecolor="none")
        _frame(axes, sorted({point.share for curve in curves for point in curve.points}))
        if len(chance) > 1:
            axes.plot(*zip(*chance, strict=True), color=_MUTED, linewidth=1.0, linestyle=(0, (1, 3)), zorder=1)
        elif chance:
            axes.plot(*chance[0], color=_MUTED, marker="_", markersize=16, zorder=1)
        for rank, curve in enumerate(curves):
            dodge = (rank - (len(curves) - 1) / 2) * min(0.008, 0.05 / len(curves))
            _draw_curve(axes, curve, dodge, band=min(0.14, 0.7 / len(curves)))  # many bands would hide the lines
        return _to_svg(figure, key, description)


def swatches(n: int) -> str:
    """Samples of styles 0 … n - 1, a short line with its marker each: an `<svg>` of symbols `swatch-0`, …, shown by `<use>`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sprite = ET.Element("svg", {"class": "sprite", "aria-hidden": "true"})
    with rc_context(_RC):
        for style in range(n):
            figure = Figure(figsize=(0.5, 0.2), facecolor="none")
            axes = figure.add_axes((0, 0, 1, 1), facecolor="none", xlim=(0, 1), ylim=(0, 1))
            axes.set_axis_off()
            axes.plot([0.04, 0.96], [0.5, 0.5], clip_on=False, **_line(style))
            axes.plot([0.5], [0.5], clip_on=False, **_marker(style))
            symbol = _to_element(figure, f"swatch-{style}")
            symbol.tag = "symbol"
            symbol.set("id", f"swatch-{style}")
            sprite.append(symbol)
    return ET.tostring(sprite, encoding="unicode")


@contextmanager
def _drawing() -> Iterator[None]:
    """matplotlib at its defaults and `_RC`, whatever the user's own matplotlibrc says."""
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context():
        rcdefaults()
        rcParams.update(_RC)
        yield


def _frame(axes: Axes, shares: Sequence[float]) -> None:
    names = {0.0: "0", 1 / 4: "¼", 1 / 3: "⅓", 1 / 2: "½", 2 / 3: "⅔", 3 / 4: "¾", 1.0: "1"}
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.02, 1.02), xlabel="visual share of the dialogue (V turns / turns)")
    axes.set_xticks(list(shares), [names.get(share, f"{share:.2f}") for share in shares])
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0", "20", "40", "60", "80", "100%"])
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0, pad=6)
    axes.tick_params(axis="x", length=4, color=_MUTED)
    axes.xaxis.label.set_color(_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_MUTED)


def _draw_curve(axes: Axes, curve: Curve, dodge: float, band: float) -> None:
    """`dodge` moves the line sideways by less than its marker, so that equal values do not hide each other; `band` is its opacity."""
    if not curve.points:
        return
    x = [point.share + dodge for point in curve.points]
    low, high = [p.low for p in curve.points], [p.high for p in curve.points]
    colour = _series_colour(curve.style)
    if len(x) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=band, linewidth=0, zorder=2)
    axes.vlines(x, low, high, color=colour, linewidth=1.0, zorder=3)
    axes.plot(x, [p.value for p in curve.points], zorder=4, **_line(curve.style))
    axes.plot(x, [p.value for p in curve.points], zorder=5, **_marker(curve.style))


def _line(style: int) -> dict[str, Any]:
    dash = _DASHES[(style + style // N_COLOURS) % len(_DASHES)]
    return {"color": _series_colour(style), "linewidth": 1.8, "linestyle": dash, "dash_capstyle": "butt"}


def _marker(style: int) -> dict[str, Any]:
    marker = _MARKERS[(style + style // N_COLOURS) % len(_MARKERS)]
    colour = _series_colour(style)
    return {"linestyle": "none", "marker": marker, "markersize": 7.0, "color": colour, "markeredgecolor": _PAPER, "markeredgewidth": 0.6}


def _series_colour(style: int) -> str:
    return f"#0102{style % N_COLOURS:02x}"


# ---------------------------------------------------------------- from matplotlib's SVG to the page's


def _to_svg(figure: Figure, key: str, description: str) -> str:
    root = _to_element(figure, key)
    root.attrib |= {"role": "img", "aria-label": description}
    return ET.tostring(root, encoding="unicode")


def _to_element(figure: Figure, key: str) -> ET.Element:
    """The figure as `<svg>` without date, link or `style` (the page's Content-Security-Policy forbids inline styles)."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    for element in list(root.iter()):
        for child in [child for child in element if _local(child.tag) in ("style", "metadata")]:
            element.remove(child)
        _clean(element, key)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # what matplotlib's style element said
    return root


def _clean(element: ET.Element, key: str) -> None:
    """Drop namespaces, turn style declarations into attributes, make ids the page's own and colours its variables."""
    element.tag = _local(element.tag)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    attributes |= _declarations(attributes.pop("style", ""))
    if element.tag == "text":
        attributes.setdefault("fill", "currentColor")
    element.attrib.clear()
    for name, value in attributes.items():
        if name == "id":
            value = f"{key}-{value}"
        elif name == "href":
            value = value.replace("#", f"#{key}-", 1)
        else:
            value = _recolour(value.replace("url(#", f"url(#{key}-"))
        element.set(name, value)
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None


def _declarations(style: str) -> dict[str, str]:
    """CSS declarations as presentation attributes; the font's family is the page's."""
    declarations = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := re.search(r"([\d.]+)px", value)):
            declarations["font-size"] = size.group(1)
        elif name and name not in ("font", "font-family"):
            declarations[name] = value.removesuffix("px") if name == "font-size" else value
    return declarations


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _recolour(value: str) -> str:
    if value in _VARIABLES:
        return _VARIABLES[value]
    series = re.fullmatch(r"#0102([0-9a-f]{2})", value)
    return f"var(--series-{int(series.group(1), 16)})" if series else value
