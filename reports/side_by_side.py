"""Two models side by side: which pairs have a page, and what is on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evaluators.iit.comparison import asked_apart, compare
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import PairedResult
from reports import headlines, links, pages
from reports.cells import PAIRED_COLUMNS, Column, Table, count, figure_cell, number_cell, paired_cells, text_cell
from reports.entries import Entry, Group, base_of
from reports.iit import hands, sections
from reports.models import Models
from reports.pages import Page, Site
from reports.plots import Dot, dots_plot
from reports.row_order import Block
from reports.section import Definitions, Part, Section, TablePart, Words, figure, tables
from reports.tasks import side_by_side as on_tasks

MOST = 40  # pages of two models that a report makes by itself
NEIGHBOURS = 6  # models from the top that are compared, each with the next


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models that have a page of two: what B lost against A."""

    a: Entry
    b: Entry
    group: Group
    benchmark: Benchmark | None  # None where its folder is not at hand
    of_base: bool = False  # A is B's base
    asked: bool = False  # the user named it

    @property
    def place(self) -> str:
        return links.pair(self.a.slug, self.b.slug)

    @property
    def words(self) -> str:
        return f"{self.a.name} and {self.b.name}"


def chosen(groups: Sequence[Group], benchmarks: Sequence[Benchmark | None], asked: Sequence[str]) -> list[Pair]:
    """The pairs of a report: each model and its base, then neighbours at the top of the leaderboard, MOST at most, then those asked for.

    Args:
        benchmarks: of each group.
        asked: "A:B" each, by names or file names of the models.

    Raises:
        UserError: a model that is not there, or two that may not be compared.
    """
    found: list[Pair] = []
    for group, benchmark in zip(groups, benchmarks, strict=True):
        for entry in group.entries:
            base = base_of(entry, group.entries)
            if base is not None:
                found.append(Pair(a=base, b=entry, group=group, benchmark=benchmark, of_base=True))
        top = [entry for entry in group.entries if entry.block is Block.WHOLE and not entry.model["blind"]][:NEIGHBOURS]
        found += [Pair(a=a, b=b, group=group, benchmark=benchmark) for a, b in pairwise(top)]
    found.sort(key=lambda pair: not pair.of_base)
    made: dict[str, Pair] = {}
    for pair in found:
        if _share_a_tier(pair.a, pair.b) and links.pair(pair.b.slug, pair.a.slug) not in made:  # a base may be its model's neighbour
            made[pair.place] = pair
    first = dict(list(made.items())[:MOST])
    named = [_named(words, groups, benchmarks) for words in asked]
    return list((first | {pair.place: pair for pair in named}).values())


def _share_a_tier(a: Entry, b: Entry) -> bool:
    return any(tier in b.tiers and b.tiers[tier].acc.value is not None for tier, mine in a.tiers.items() if mine.acc.value is not None)


def _named(words: str, groups: Sequence[Group], benchmarks: Sequence[Benchmark | None]) -> Pair:
    """The pair that the user names; a name may hold a colon itself."""
    entries = {
        label: (entry, number) for number, group in enumerate(groups) for entry in group.entries for label in (entry.slug, entry.name)
    }
    places = [place for place, character in enumerate(words) if character == ":"]
    found = [(words[:place], words[place + 1 :]) for place in places if words[:place] in entries and words[place + 1 :] in entries]
    if not found:
        known = ", ".join(entry.name for group in groups for entry in group.entries) or "none with an IIT run"
        raise UserError(f"--pairs {words!r} names no two models of the page as A:B; its models are {known}")
    (a, number), (b, other) = (entries[name] for name in found[0])
    if a is b or number != other:
        why = "is one model twice" if a is b else f"were not asked the same, they differ in {'; '.join(_apart(groups, number, other))}"
        raise UserError(f"--pairs {words!r} {why}; name two models that share a table")
    if not _share_a_tier(a, b):
        raise UserError(f"--pairs {words!r} have no tier in common; evaluate both on the same tiers")
    return Pair(a=a, b=b, group=groups[number], benchmark=benchmarks[number], asked=True)


def _apart(groups: Sequence[Group], number: int, other: int) -> tuple[str, ...]:
    from evaluators.iit.comparison import incomparable

    return tuple(incomparable(groups[number].entries[0].header, groups[other].entries[0].header))


# ---------------------------------------------------------------- pages


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a pair's page shows."""

    pair: Pair
    results: Sequence[PairedResult]  # A − B: tiers, then pools
    hands: hands.Hands

    @property
    def whole(self) -> PairedResult:
        """The difference over all items that both were asked."""
        return self.results[-1]


def write(pairs: Sequence[Pair], groups: Sequence[Group], site: Site, models: Models, slugs: on_tasks.Slugs) -> None:
    """Write a page per pair, and the list of them.

    Args:
        models: of the page, with their runs of tasks.
        slugs: names of those runs in the explorer; empty where the report has none.

    Raises:
        UserError: no space, or no permission.
    """
    rows = []
    for pair in pairs:
        compared = _compared(pair)
        pages.write(_page(compared, site.has(links.SAMPLES), on_tasks.sections(pair.a, pair.b, models, slugs)), site)
        rows.append(compared)
    if rows:
        pages.write(_list(rows, groups), site)


def _compared(pair: Pair) -> Compared:
    a, b = pair.a.turns, pair.b.turns
    return Compared(pair=pair, results=compare(a, b, pair.b.name), hands=hands.hands(a, b))


def _page(compared: Compared, explorer: bool, of_tasks: Iterable[Section]) -> Page:
    pair = compared.pair
    changed = hands.section(compared.hands, pair.a, pair.b, pair.benchmark, explorer)
    return Page(
        place=pair.place,
        stem=f"pair-{pair.a.slug}--{pair.b.slug}",
        title=pair.words,
        headline=(_headline(compared),),
        sections=(_difference(compared), changed, *of_tasks, _both(pair)),
    )


def _headline(compared: Compared) -> str:
    pair, moved, whole = compared.pair, compared.hands.total, compared.whole
    verb, value = headlines.changed(whole.difference)
    right, wrong = moved["lost"] + moved["kept"], moved["gained"] + moved["never"]
    return (
        f"Of {count(right)} items that {pair.a.name} has right, {pair.b.name} lost {count(moved['lost'])}; of {count(wrong)} "
        f"that it has wrong, {pair.b.name} gained {count(moved['gained'])}. That is {value} percentage points {verb} "
        f"(95% interval {headlines.interval_of_change(whole.difference)}; n {count(whole.difference.n)})."
    )


def _difference(compared: Compared) -> Section:
    pair, results = compared.pair, compared.results
    known = [result for result in results if result.difference.value is not None]
    dots = [
        Dot(
            label=r.over,
            value=r.difference.value or 0.0,
            low=r.difference.low,
            high=r.difference.high,
            style=pair.b.style,
            n=r.difference.n,
        )
        for r in known
    ]
    description = "The paired difference by tier with 95% intervals; the numbers are in the table below."
    axis = "percentage points that A has right more often than B"
    plot = dots_plot(dots, key="difference", description=description, axis=axis)
    drawn: tuple[Part, ...] = (figure(plot, f"A = {pair.a.name}, B = {pair.b.name}"),) if dots else ()
    columns = (Column("tier", words=True), *PAIRED_COLUMNS)
    rows = tuple((text_cell(result.over), *paired_cells(result)) for result in results)
    caption = (
        f"Accuracy of {pair.a.name} (A) minus {pair.b.name} (B) over the same targets, in percentage points: positive is what B lost. "
        "T*, V* and * pool the tiers that end in T, in V, and all. Holm: over the tiers, and by itself over the pools."
    )
    return Section("difference", "Paired difference", (*drawn, TablePart(Table("difference-table", caption, columns, rows))))


def _both(pair: Pair) -> Section:
    """Each model's own figures, and how they were asked apart."""
    entries = tuple(entry for entry in pair.group.entries if entry in (pair.a, pair.b))
    apart = asked_apart(pair.a.header, pair.b.header)
    facts = tuple((what, f"{values[0]} ({pair.a.name}), {values[1]} ({pair.b.name})") for what, values in apart.items())
    words: tuple[Part, ...] = (
        (Definitions(facts),) if facts else (Words("Both were asked with the same template, arguments, date and budgets.", "fine"),)
    )
    return Section(
        "both", "Each by itself, and what differs in how they were asked", (*words, *tables(*sections.leaderboards(entries, "acc")))
    )


def _list(made: Sequence[Compared], groups: Sequence[Group]) -> Page:
    columns = (
        Column("A", words=True),
        Column("B", words=True),
        Column("why", words=True),
        Column("A − B", ("points over all shared items",)),
        Column("n", ("items",)),
        Column("lost", ("right in A, wrong in B",)),
        Column("gained", ("wrong in A, right in B",)),
        Column("page", words=True),
    )
    rows = tuple(_line(compared) for compared in made)
    could = sum(len(group.entries) for group in groups)
    rule = (
        f"A report makes these pages by itself: each model beside its base LLM, and the first {NEIGHBOURS} models that take images of each "
        f"table, each beside the next; {MOST} at most. The page has {count(could)} models with an IIT run. "
        "`iit-bench report … --pairs A:B` adds any other."
    )
    table = Table("pairs", "Positive differences are what B lost against A.", columns, rows)
    return Page(
        place=links.PAIRS,
        stem="pairs",
        title="Models side by side",
        sections=(Section("pairs-list", "Pairs", (TablePart(table), Words(rule, "fine"))),),
    )


def _line(compared: Compared) -> tuple:
    from dataclasses import replace

    pair, moved = compared.pair, compared.hands.total
    why = "asked for" if pair.asked else "base and model" if pair.of_base else "neighbours"
    difference = compared.whole.difference
    return (
        text_cell(pair.a.name),
        text_cell(pair.b.name),
        text_cell(why),
        figure_cell(difference, signed=True, show_n=False),
        number_cell(difference.n),
        number_cell(moved["lost"]),
        number_cell(moved["gained"]),
        replace(text_cell("side by side"), href=links.at(pair.place, links.PAIRS.count("/"))),
    )
