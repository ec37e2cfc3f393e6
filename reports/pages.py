"""One page of a report from its parts to its file: the frame that all pages share, with the links from each page to the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from markupsafe import Markup

from reports import figure_files, figures, links
from reports.families import one_family
from reports.folder import ReportFolder
from reports.page import render
from reports.section import Section


@dataclass(frozen=True, kw_only=True)
class Page:
    """What stands on a page."""

    place: str  # its file in the report's folder, made by reports/links.py
    stem: str  # begins the names of its figures' files; no other page has it
    title: str
    headline: tuple[str, ...] = ()  # sentences with the number in them
    ways: tuple[tuple[str, str], ...] = ()  # (words, address) of what a reader of the headline wants next
    about: str = ""  # a paragraph for who is new to it, folded under `about_heading`
    about_heading: str = "What is this?"
    notices: tuple[str, ...] = ()  # what must be known before a number is read
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Item:
    """One entry of the navigation: a link, or a name with entries below it."""

    text: str
    address: str = ""
    is_here: bool = False  # it leads to the page that it is on
    inner: tuple[Item, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Site:
    """The report's folder, and which pages it has."""

    folder: ReportFolder
    first: str = "Leaderboard"  # words that lead to index.html
    styles: int = 0  # line styles in use, for the swatches in tables
    models: tuple[tuple[str, str], ...] = ()  # (name, place)
    pairs: tuple[tuple[str, str], ...] = ()  # (words, place); without the list of pairs
    others: tuple[tuple[str, str], ...] = field(default_factory=tuple)  # (words, place): benchmark, samples, series, where they are made

    def has(self, place: str) -> bool:
        """Whether one of `others` is made."""
        return any(place == to for _, to in self.others)

    def navigation(self, place: str, deeper: int = 0) -> tuple[Item, ...]:
        """The links of the page at `place`, the same on every page and in the same order.

        Args:
            deeper: how many folders below it the page lies that has them, of pages that belong to it.
        """
        depth = place.count("/") + deeper

        def item(words: str, to: str) -> Item:
            return Item(words, links.at(to, depth), is_here=to == place)

        menus = []
        if self.models:
            menus.append(Item("Models", inner=tuple(item(*one) for one in self.models)))
        if self.pairs:
            menus.append(Item("Side by side", inner=(item("All pairs", links.PAIRS), *(item(*one) for one in self.pairs))))
        return (item(self.first, links.INDEX), *menus, *(item(*one) for one in self.others))


def write(page: Page, site: Site) -> Path:
    """Write a page, and its figures as files, and return its path.

    Raises:
        UserError: no space, or no permission.
    """
    depth = page.place.count("/")
    page = replace(page, sections=one_family(page.sections))
    context = {
        "page": page,
        "navigation": site.navigation(page.place),
        "sprite": _swatches(site.styles),
        "files": links.at(f"figures/{page.stem}-", depth),
    }
    figure_files.write(site.folder, page.stem, page.sections)
    return site.folder.write(page.place, render("page.html", context))


@cache
def _swatches(n: int) -> Markup:
    return Markup(figures.swatches(n) if n else "")
