"""The parts of which pages are put together: a section is a heading and, in order, words, tables, figures and definitions.

Whoever adds something behind a number writes a function that returns a `Section`, and names it in `model_page.SECTIONS` or in the list of
another page; the templates draw every part alike, so a section needs no template of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from reports.cells import Table


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
    """A figure that reports/figures.py, or a file beside it, drew."""

    caption: str
    svg: Markup  # from matplotlib, with its own title and description
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Definitions:
    """Terms and their values."""

    facts: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "definitions"


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


Part = Words | TablePart | Drawing | Definitions | Links | Folded


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
