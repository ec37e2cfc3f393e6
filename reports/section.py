"""The parts of which pages are put together: a section is a heading and, in order, words, tables, figures and definitions.

Whoever adds something behind a number writes a function that returns a `Section`, and names it in `model_page.SECTIONS` or in the list of
another page; the templates draw every part alike, so a section needs no template of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from reports.cells import Table
from reports.figures import Plot, svg


@dataclass(frozen=True)
class Words:
    """A paragraph. The text is untrusted; the template escapes it."""

    text: str
    style: str = ""  # a class of report.css: "" for plain words, "lead", "fine", "none" (why there is nothing), "notice"
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class TablePart:
    """A table."""

    table: Table
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Drawing:
    """A figure. One with a `plot` (made by `figure`) is offered as files under it."""

    caption: str
    svg: Markup  # as reports/figures.py draws it
    plot: Plot | None = None
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Definitions:
    """Terms and their values."""

    facts: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "definitions"


@dataclass(frozen=True)
class Code:
    """Text that is typed, or read by a program, as it is."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a gallery."""

    address: str  # of its file, relative to the page
    width: int  # pixels
    height: int
    text: str  # what it is; read aloud, and written below it


@dataclass(frozen=True)
class Gallery:
    """Small pictures, each loaded when it comes into sight."""

    pictures: tuple[Picture, ...]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Links:
    """A list of links within the site."""

    addresses: tuple[tuple[str, str], ...]  # (text, address relative to the page, made by reports/links.py)
    kind: ClassVar[str] = "links"


@dataclass(frozen=True)
class Folded:
    """Parts that are closed until a reader opens them."""

    summary: str
    parts: tuple[Part, ...]
    kind: ClassVar[str] = "folded"


@dataclass(frozen=True)
class Beside:
    """Parts that stand beside each other where there is room."""

    parts: tuple[Part, ...]
    kind: ClassVar[str] = "beside"


@dataclass(frozen=True)
class Alternatives:
    """The same shown in several ways: with the page's script one at a time, chosen by its label; without, all but the first folded."""

    legend: str  # what the labels are of, e.g. "Metric"
    options: tuple[tuple[str, tuple[Part, ...]], ...]  # (label, parts)
    kind: ClassVar[str] = "alternatives"


Part = Words | TablePart | Drawing | Definitions | Code | Gallery | Links | Folded | Beside | Alternatives


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    key: str  # id on the page, unique there
    heading: str
    parts: tuple[Part, ...]


def tables(*made: Table | None) -> tuple[TablePart, ...]:
    """Those tables that exist, as parts."""
    return tuple(TablePart(table) for table in made if table is not None)


def none(key: str, heading: str, why: str) -> Section:
    """A section that says why there is nothing."""
    return Section(key, heading, (Words(f"Not available: {why}", "none"),))


def figure(plot: Plot, caption: str) -> Drawing:
    """A figure with its files."""
    return Drawing(caption, svg(plot), plot)


def plots_in(parts: Iterable[Part]) -> Iterator[Plot]:
    """The figures among parts, and the parts in them, that are offered as files."""
    for part in parts:
        if isinstance(part, Drawing) and part.plot is not None:
            yield part.plot
        elif isinstance(part, Folded | Beside):
            yield from plots_in(part.parts)
        elif isinstance(part, Alternatives):
            for _, inner in part.options:
                yield from plots_in(inner)
