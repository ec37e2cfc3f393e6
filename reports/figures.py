"""Figures, the same bytes for the same numbers: matplotlib draws, the page's style sheet colours. A `Plot` says what is drawn, and holds
the numbers that it shows; `svg` draws it for a page, reports/figure_files.py for the files beside it.

Texts of models and data sets enter a figure only as `Pen.words`: in SVG they are set after matplotlib is done, escaped, so no markup can
enter and no formula is read. Colours are CSS variables on a page, so one figure serves light, dark and print. matplotlib is imported when
drawing only.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from reports.page import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_COLOURS = 8  # --series-0 … --series-7 in static/report.css
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (7, 2, 1.2, 2)))
LONGEST = 26  # characters of a text in a figure

RC: Any = {
    "svg.fonttype": "none",  # text stays text: system fonts, selectable, read aloud
    "svg.hashsalt": "iit-bench",  # ids depend only on what is drawn
    "svg.image_inline": True,
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.unicode_minus": True,
    "path.simplify": False,
}
_PLACE = "\N{LEFT SQUARE BRACKET WITH QUILL}{}\N{RIGHT SQUARE BRACKET WITH QUILL}"  # stands in for a text while matplotlib draws
_PLACED = re.compile(_PLACE.format(r"(\d+)"))


@dataclass(frozen=True, kw_only=True)
class Pen:
    """The colours of a drawing, and the texts that it was given."""

    ink: str
    muted: str
    rule: str
    paper: str
    series: tuple[str, ...]  # N_COLOURS colours, told apart by colour-blind readers; dashes and markers differ as well
    placed: list[str] | None = field(default_factory=list)  # texts that stand-ins were drawn for; None: texts are drawn as they are

    def colour(self, style: int) -> str:
        """The colour of a model's style."""
        return self.series[style % N_COLOURS]

    def line(self, style: int) -> dict[str, Any]:
        """What `Axes.plot` needs for a model's line."""
        dash = DASHES[(style + style // N_COLOURS) % len(DASHES)]
        return {"color": self.colour(style), "linewidth": 1.6, "linestyle": dash, "dash_capstyle": "butt"}

    def marker(self, style: int, size: float = 6.0) -> dict[str, Any]:
        """What `Axes.plot` needs for a model's markers."""
        marker = MARKERS[(style + style // N_COLOURS) % len(MARKERS)]
        return {
            "linestyle": "none",
            "marker": marker,
            "markersize": size,
            "color": self.colour(style),
            "markeredgecolor": self.paper,
            "markeredgewidth": 0.6,
        }

    def words(self, text: str) -> str:
        """What matplotlib is given for a text of a model or data set."""
        short = shortened(text)
        if self.placed is None:
            return drawable(short)
        self.placed.append(short)
        return _PLACE.format(len(self.placed) - 1)


# Stand-ins that matplotlib can draw with; `_recolour` turns them into what the page decides.
_INK, _MUTED, _RULE, _PAPER = "#010101", "#010102", "#010103", "#010104"
_VARIABLES = {_INK: "currentColor", _MUTED: "var(--muted)", _RULE: "var(--rule)", _PAPER: "var(--paper)"}


def page_pen() -> Pen:
    """Colours that the page's style sheet decides."""
    series = tuple(f"#0102{n:02x}" for n in range(N_COLOURS))
    return Pen(ink=_INK, muted=_MUTED, rule=_RULE, paper=_PAPER, series=series)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure before it is drawn, and the numbers that it shows."""

    key: str  # id on its page, and the end of its files' names: letters, digits and hyphens
    description: str  # what a screen reader says instead of the picture
    size: tuple[float, float]  # width and height, inches; a page scales it
    draw: Callable[[Figure, Pen], None]  # draws the same every time; every text of a model or data set goes through `Pen.words`
    columns: tuple[str, ...]  # heads of the table of numbers
    rows: tuple[tuple[str | float | int | None, ...], ...]  # every number that is drawn


def svg(plot: Plot) -> Markup:
    """The figure as an `<svg>` element of a page, without scripts, style attributes, links or metadata."""
    made, pen = stand_in(plot)
    root = _to_element(made, plot.key)
    root.attrib |= {"role": "img", "aria-label": visible(plot.description)}
    set_texts(root, pen)
    return Markup(ET.tostring(root, encoding="unicode"))


@lru_cache(maxsize=64)  # a page draws its figures, then offers them as files
def stand_in(plot: Plot) -> tuple[bytes, Pen]:
    """The figure as matplotlib writes it as SVG, in the colours of `page_pen` and with stand-ins for texts, and the pen that has them."""
    pen = page_pen()
    with drawing():
        return svg_bytes(drawn(plot, pen)), pen


def shortened(text: str) -> str:
    """One line of at most LONGEST characters, with what a reader could not see spelt out."""
    line = visible(" ".join(text.split())) or "(no name)"
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def drawable(text: str) -> str:
    """A text for pictures, whose font is matplotlib's own: characters that it lacks by their number."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(character if ord(character) in known else f"⟨U+{ord(character):04X}⟩" for character in text)


def set_texts(root: ET.Element, pen: Pen) -> None:
    """Put the texts that `pen` was given in the place of their stand-ins."""
    texts = pen.placed or []
    for element in root.iter():
        if element.text and (found := _PLACED.search(element.text)):
            element.text = element.text[: found.start()] + texts[int(found.group(1))] + element.text[found.end() :]


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib at its defaults and `RC`, whatever the user's own matplotlibrc says."""
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context():
        rcdefaults()
        rcParams.update(RC)
        yield


def drawn(plot: Plot, pen: Pen) -> Figure:
    """The figure, drawn with a pen; call it, and print the figure, within `drawing()`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=plot.size, facecolor="none")
    plot.draw(figure, pen)
    return figure


def swatches(n: int) -> str:
    """Samples of styles 0 … n - 1, a short line with its marker each: an `<svg>` of symbols `swatch-0`, …, shown by `<use>`."""
    from matplotlib.figure import Figure

    sprite, pen = ET.Element("svg", {"class": "sprite", "aria-hidden": "true"}), page_pen()
    with drawing():
        for style in range(n):
            figure = Figure(figsize=(0.5, 0.2), facecolor="none")
            axes = figure.add_axes((0, 0, 1, 1), facecolor="none", xlim=(0, 1), ylim=(0, 1))
            axes.set_axis_off()
            axes.plot([0.04, 0.96], [0.5, 0.5], clip_on=False, **pen.line(style))
            axes.plot([0.5], [0.5], clip_on=False, **pen.marker(style))
            symbol = _to_element(svg_bytes(figure), f"swatch-{style}")
            symbol.tag = "symbol"
            symbol.set("id", f"swatch-{style}")
            sprite.append(symbol)
    return ET.tostring(sprite, encoding="unicode")


def svg_bytes(figure: Figure) -> bytes:
    """A figure as matplotlib writes it, without a date."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return buffer.getvalue().encode()


# ---------------------------------------------------------------- from matplotlib's SVG to the page's


def _to_element(made: bytes, key: str) -> ET.Element:
    """The figure as `<svg>` without date, link or `style` (the page's Content-Security-Policy forbids inline styles)."""
    root = ET.fromstring(made)
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
            if "bold" in value or re.search(r"\b[67]00\b", value):
                declarations["font-weight"] = "600"
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
