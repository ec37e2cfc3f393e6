"""The leaderboard's sections about IIT runs that may share a table: the curve, three scores, and the rest on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from iit_bench.types import Figure
from reports import links
from reports.cells import Cell, Column, Table, figure_cell, interval, missing_cell, percent, size, text_cell
from reports.entries import Entry, Group, base_of
from reports.iit import about, attention, blind_gap, curves, forgetting, interleaving, sections
from reports.iit.decision import lost_of
from reports.plots import Dot, dots_plot
from reports.row_order import HEADINGS, Block
from reports.section import Alternatives, Beside, Definitions, Drawing, Folded, Links, Part, Section, Words, figure, none, tables
from reports.shared import SCORES, TEXT_ONLY, chance_by_tier, common_n, means, name_cell

_TESTS = "Tests, discordant pairs and detectable differences"
_FINE = (
    "Each point is acc averaged over the tiers with that visual share; bars and bands are its 95% interval, clustered by target and "
    "image. A share is left out where a model lacks one of its tiers. A thin line leads from a model's last point to its name. Points of "
    "different models are drawn slightly apart so that equal ones can be seen. At share 0 all targets are text, at share 1 all are visual."
)


def front(group: Group, pairs: dict[str, str]) -> list[Section]:
    """The sections of a group, in order.

    Args:
        pairs: by a model's slug, the page of it beside its base.
    """
    key, entries = group.key, group.entries
    apart = ", asked otherwise" if group.apart else ""
    notice = (
        "These runs share no table with those above, and no number here is to be compared with theirs. They differ in: "
        f"{'; '.join(group.apart)}."
    )
    made = [
        _curves(group, (Words(notice, "notice"),) if group.apart else ()),
        Section("scores", "Leaderboard", _scores(group, pairs)),
        _forgetting(entries),
        _effect(
            "interleaving",
            "Interleaving effect",
            interleaving.interleaving(entries),
            "no tier with a history was run beside its target without one",
        ),
        _by_subject(entries),
        Section("positions", "By position", tables(sections.positions(entries))),
        *filter(None, [attention.shift_against_forgetting(entries, key)]),
        _effect("blind", "Blind gap", blind_gap.blind_gap(entries), "no run has a blind run (--blind) of the same checkpoint beside it"),
        Section(
            "benchmark",
            "Benchmark",
            (Definitions(about.benchmark_facts(entries)), Links((("What was asked: images, counts, chance, licences", links.BENCHMARK),))),
        ),
    ]
    return [keyed(replace(section, heading=section.heading + apart), key) for section in made if section.parts]


def _curves(group: Group, before: tuple[Part, ...]) -> Section:
    entries = group.entries
    heading = "Accuracy over visual share"
    drawings = curves.panels(entries, group.key)
    lost = _lost(entries, group.key)
    if not drawings:
        return Section("curves", heading, (*before, Words("Not available: no tier was answered.", "none")))
    apart = (Folded("Text and visual targets apart", (Beside(tuple(drawings[1:])),)),) if len(drawings) > 1 else ()
    return Section(
        "curves", heading, (*before, Beside((drawings[0], *lost)), *apart, Folded("How to read the curves", (Words(_FINE, "fine"),)))
    )


def _lost(entries: Sequence[Entry], suffix: str) -> tuple[Drawing, ...]:
    """What each model lost, as a figure; nothing where no run had a base."""
    dots = []
    for entry in entries:
        result = lost_of(entry.run.results)
        if result is not None and result.pooled.difference.value is not None:
            lost = result.pooled.difference
            dots.append(Dot(label=entry.name, value=lost.value or 0.0, low=lost.low, high=lost.high, style=entry.style, n=lost.n))
    if not dots:
        return ()
    dots.sort(key=lambda dot: (-dot.value, dot.label))
    description = "What each model lost of its base LLM's accuracy on text targets, with 95% intervals. The numbers are in the table below."
    plot = dots_plot(dots, key=f"lost{suffix}", description=description, axis="percentage points lost on text targets")
    return (figure(plot, "Forgetting: the base LLM's accuracy minus the model's, text targets"),)


# ---------------------------------------------------------------- three scores


def _scores(group: Group, pairs: dict[str, str]) -> tuple[Part, ...]:
    entries = group.entries
    by_metric = tuple(
        (sections.METRICS[metric][0], tables(*sections.leaderboards(entries, metric, linked=True))) for metric in sections.METRICS
    )
    return (*tables(_three(group, pairs)), Folded("Every tier and every score", (Alternatives("Metric", by_metric),)))


def _three(group: Group, pairs: dict[str, str]) -> Table:
    entries = group.entries
    shown = (SCORES[0], TEXT_ONLY)
    heads, columns = [Column("model", words=True)], [[_head(entry) for entry in entries]]
    for score in shown:
        figures = [score.of(entry) for entry in entries]
        n = common_n(figures)
        small = (score.small, *([size(n)] if n else []))
        heads.append(Column(score.name, small, sorted=score is SCORES[0] and entries[0].block is Block.WHOLE))
        columns.append([_score(entry, one, n) for entry, one in zip(entries, figures, strict=True)])
    bases = {base.name for entry in entries if (base := base_of(entry, entries))}
    lost = [lost_of(entry.run.results) for entry in entries]
    n = common_n([one.pooled.difference for one in lost if one])
    of = {one.base for one in lost if one}
    small_print = f"points of {next(iter(of))} lost on text targets" if len(of) == 1 else "points lost on text targets"
    heads.append(Column("forgetting", (small_print, *([size(n)] if n else []))))
    columns.append([_lost_cell(entry, n, bases, named=len(of) > 1) for entry in entries])
    heads.append(Column("side by side", words=True))
    columns.append([_beside(entry, pairs) for entry in entries])
    chance = chance_by_tier(entries)
    tiers = [[tier for tier in sections.all_tiers(entries) if score.takes(tier)] for score in shown]
    foot = (
        Cell("chance", ("mean 1/k",), words=True),
        *means(chance, tiers, "a tier was not answered"),
        Cell("–"),
        Cell("–", words=True),
    )
    caption = (
        "Accuracy in %; forgetting is the base LLM's accuracy minus the model's over the same text targets, in percentage points: positive "
        "is lost. Small print: 95% interval, and n where it is not the heading's. A model's name leads to its page."
    )
    blocks = [(HEADINGS[block], len(list(rows))) for block, rows in groupby(entries, key=lambda entry: entry.block)]
    return Table("three", caption, tuple(heads), tuple(zip(*columns, strict=True)), (foot,), tuple(blocks) if len(blocks) > 1 else ())


def _head(entry: Entry) -> Cell:
    lines = list(entry.asked_with)
    if entry.block is Block.SUBSET:
        score, tiers = entry.run.results.subset_score["acc"], ", ".join(entry.run.results.subset_tiers)
        lines.append(f"over {tiers}: {percent(score.value)}, {interval(score)}" if score.value is not None else "no tier was answered")
    return replace(name_cell(entry), lines=tuple(lines), href=links.model(entry.slug))


def _score(entry: Entry, score: Figure, n: int | None) -> Cell:
    if score.value is None and entry.block is not Block.WHOLE:
        return missing_cell("takes no images" if entry.block is Block.TEXT else "not every tier was asked")
    return figure_cell(score, show_n=score.n != n)


def _lost_cell(entry: Entry, n: int | None, bases: set[str], named: bool) -> Cell:
    """`named`: with the name of the base, as models of the table have several."""
    result = lost_of(entry.run.results)
    if result is None:
        return missing_cell("it is the base" if entry.name in bases else "no base run")
    lost = result.pooled.difference
    cell = figure_cell(lost, signed=True, show_n=lost.n != n)
    return replace(cell, lines=(*cell.lines, f"of {result.base}")) if named else cell


def _beside(entry: Entry, pairs: dict[str, str]) -> Cell:
    place = pairs.get(entry.slug)
    if place:
        return replace(text_cell("against its base"), href=place)
    return missing_cell("no base run" if entry.run.results.forgetting is None else "its base is not on the page")


# ---------------------------------------------------------------- on demand


def _forgetting(entries: Sequence[Entry]) -> Section:
    found, heading = forgetting.forgetting(entries), "Text-only forgetting"
    if found is None:
        return none("forgetting", heading, "no run was evaluated against a base run (iit-bench eval --base RUN).")
    pooled, by_tier, detail = found
    without = [entry.name for entry in entries if entry.run.results.forgetting is None]
    words = (Words(f"Without a base run: {', '.join(without)}.", "fine"),) if without else ()
    closed = Folded("By tier: accuracies, tests, discordant pairs and detectable differences", tables(detail))
    whole = Folded("All tiers together: accuracies, retention and the test", tables(pooled))
    return Section("forgetting", heading, (*tables(by_tier), whole, closed, *words))


def _effect(key: str, heading: str, found: tuple[Table, Table] | None, otherwise: str) -> Section:
    """A matrix, and the list of its tests on demand."""
    if found is None:
        return none(key, heading, f"{otherwise}.")
    matrix, detail = found
    return Section(key, heading, (*tables(matrix), Folded(_TESTS, tables(detail))))


def _by_subject(entries: Sequence[Entry]) -> Section:
    found = [table for modality in "VT" if (table := sections.breakdown(entries, modality)) is not None]
    if not found:
        return none("breakdown", "By subject", "no tier was answered.")
    return Section("breakdown", "By subject", tuple(Folded(table.caption.partition(", ")[0], tables(table)) for table in found))


def keyed(section: Section, key: str) -> Section:
    """A section with `key` at the end of its id and of those of its tables, whose captions then say so: no two tables of a page have one
    name. Figures have keys of their own."""
    return replace(section, key=section.key + key, parts=tuple(_keyed(part, key) for part in section.parts))


def _keyed(part: Part, key: str) -> Part:
    from reports.section import TablePart

    if isinstance(part, TablePart):
        group = f" Runs that were asked otherwise, {key.removeprefix('-')}." if key else ""
        return TablePart(replace(part.table, key=part.table.key + key, caption=part.table.caption + group))
    if isinstance(part, Folded | Beside):
        return replace(part, parts=tuple(_keyed(one, key) for one in part.parts))
    if isinstance(part, Alternatives):
        return replace(part, options=tuple((label, tuple(_keyed(one, key) for one in parts)) for label, parts in part.options))
    return part
