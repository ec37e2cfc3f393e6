"""The page of the experiment: verdicts on the paper's claims, text kept against VQA gained, tiers, attention, ablations, cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluators.lab.answers import load
from evaluators.lab.claims import RULE
from evaluators.lab.findings import PATH, Findings, findings
from evaluators.lab.regions import MAP, MAP_RULE, regions
from evaluators.lab.sources import priors
from iit_bench.lab.cells import rate_word
from iit_bench.numerals import fixed
from iit_bench.types import Figure
from reports import links
from reports.cells import Cell, Column, Table, count, duration, figure_cell, missing_cell, percent, points, text_cell
from reports.folder import writing
from reports.lab.plots import by_layer, by_rate, by_tier, frontier, styles_of
from reports.lab.plots import shift as drawn_shift
from reports.lab.tables import effect_cell, equal_vqa, pairs
from reports.pages import Page, Site, write
from reports.section import Definitions, Folded, Part, Section, TablePart, Words, figure, none

_MINUS = re.compile(r"(?<![\w-])-(?=[\d.])")  # of a number; that of a rate, as in 1e-3, stays
_ABOUT = (
    "From one base LLM and one vision tower, on the same data, models are trained by several methods, at several rates of the LLM, "
    "each under several seeds. A method's rates make its curve: what it gains in VQA, and what it keeps of the base LLM's text abilities."
)
_HOW = (
    "Differences are in percentage points over the same targets. Intervals are 95%, over seeds and items at once (crossed random effects, "
    "clustered by what targets share); the variance between seeds is estimated from all methods at one rate together. Text after an image "
    "is compared with the base's answer to the same question without the image, because the base takes none."
)


def lab_page(cells: Path, out: Path, planned: Sequence[str] = (), bench: Path | None = None) -> Path:
    """Write the page of a folder of cells to `out`/index.html, and its figures beside it.

    Args:
        cells: OUT/cells of `iit-bench lab`.
        out: folder of the page; made if it is not there.
        planned: names of the cells of the whole grid, so that missing ones are named; see `findings`.
        bench: the benchmark that the cells were asked, for its question prior.

    Returns:
        The page's path. The same cells give the same bytes.

    Raises:
        UserError: as `evaluators.lab.answers.load`, or `out` cannot be written.
    """
    grid = load(cells)
    found = findings(grid, planned, priors(bench, grid) if bench else None)
    styles = styles_of(found)
    page = Page(
        place=links.INDEX,
        stem="lab",
        title="The experiment: text kept, VQA gained",
        headline=tuple(headline(found)),
        about=_ABOUT,
        notices=notices(found),
        sections=(
            _claims(found),
            _regions(found),
            _frontier(found),
            _sources(found),
            _tiers(found),
            _attention(found),
            Section("equal", "At equal VQA", (*equal_vqa(found), Words("Against full tuning at each of its rates.", "fine"))),
            pairs("against-full", "Against full tuning, at the same rate", found, found.against_full),
            pairs("control", "Beside the text-only control", found, found.against_control),
            pairs("frozen", "With the LLM frozen, against the projector only", found, found.frozen),
            pairs("ablations", "Ablations", found, found.ablations),
            _path(found),
            _cost(found, styles),
        ),
    )
    with writing(out) as folder:
        first = write(page, Site(folder=folder, first="The experiment", styles=len(styles)))
        folder.tidy()
    return first


def headline(found: Findings) -> list[str]:
    """A sentence per test of the claims that has a figure, with the number in it."""
    made = []
    for test in found.claims:
        one = test.effect.figure
        if one.value is not None and one.low is not None and one.high is not None:
            verdict = f"{test.verdict}, full tuning is better" if test.opposite else test.verdict
            bounds = f"{points(one.low)} to {points(one.high)}"
            made.append(
                f"{test.claim} ({test.measure.title}, {test.how}): {verdict}. Wings − full tuning {points(one.value)} points ({bounds})."
            )
    return made or ["No claim can be told from these cells yet."]


def notices(found: Findings) -> tuple[str, ...]:
    """What is not there, by name."""
    made = [f"Failed: {one.cell.name} ({one.reason})." for one in found.failed]
    if found.absent:
        made.append(f"Missing cells ({len(found.absent)}): {', '.join(found.absent)}. Figures are of those that are there.")
    return tuple(made)


def _claims(found: Findings) -> Section:
    columns = (
        Column("claim", words=True),
        Column("of", words=True),
        Column("Wings − full tuning", ("points",)),
        Column("detectable", ("points, 80% power",)),
        Column("seeds"),
        Column("verdict", words=True),
    )
    rows = []
    for test in found.claims:
        effect, verdict = test.effect, test.verdict
        cell = effect_cell(effect)
        visible = missing_cell("no test") if effect.detectable is None else Cell(percent(effect.detectable), sort=effect.detectable)
        words = text_cell(verdict, lines=("full tuning is better",) if test.opposite else ())
        rows.append(
            (text_cell(test.claim), text_cell(test.measure.title, lines=(test.how,)), cell, visible, Cell(str(effect.seeds)), words)
        )
    table = Table("claims-table", "The paper's claims. Small print: 95% interval, n, p (Holm).", columns, tuple(rows))
    return Section(
        "claims", "The paper's claims", (TablePart(table), Words(RULE, "fine"), Folded("How to read this", (Words(_HOW, "fine"),)))
    )


def _regions(found: Findings) -> Section:
    lines = regions(found)
    if not lines:
        return none("map", MAP, "no cell has a figure.")
    return Section("map", MAP, (Definitions(tuple((line.about, _MINUS.sub("−", line.text)) for line in lines)), Words(MAP_RULE, "fine")))


def _frontier(found: Findings) -> Section:
    parts: list[Part] = [figure(*made) for made in (*frontier(found), *by_rate(found))]
    columns = (
        Column("method", ("rate",), words=True),
        Column("text alone", ("points against the base",)),
        Column("text after an image", ("points against the base",)),
        Column("VQA", ("%",)),
        Column("seeds"),
    )
    rows = tuple(
        (
            text_cell(found.grid.label(arm.key[0]), lines=(f"rate {rate_word(arm.key[1])}",)),
            figure_cell(arm.text.figure, signed=True),
            figure_cell(arm.after.figure, signed=True),
            figure_cell(arm.vqa.figure),
            Cell(str(arm.seeds), sort=arm.seeds),
        )
        for arm in found.arms
    )
    table = Table("arms", "Every method at every rate. A rate of LoRA is its adapter's. Small print: 95% interval, n.", columns, rows)
    return Section("frontier", "Text kept against VQA gained", (*parts, TablePart(table)))


def _tiers(found: Findings) -> Section:
    tiers = found.grid.tiers
    columns = (Column("method", ("rate",), words=True), *(Column(tier, code=True) for tier in tiers))
    rows = tuple(
        (
            text_cell(found.grid.label(arm.key[0]), lines=(f"rate {rate_word(arm.key[1])}",)),
            *(figure_cell(arm.tiers[tier].figure, show_n=False) for tier in tiers),
        )
        for arm in found.arms
    )
    table = Table("tiers-table", "Accuracy in % by tier, from text-only to multimodal-rich. Small print: 95% interval.", columns, rows)
    figures = (figure(*made) for made in by_tier(found))
    return Section("tiers", "Dialogues from text-rich to image-rich", (*figures, TablePart(table)))


def _sources(found: Findings) -> Section:
    heading, made = "VQA by source", found.sources
    if not made.arms:
        return none("sources", heading, "no method was asked questions on images.")
    names = list(made.targets)
    columns = (Column("method", ("rate",), words=True), *(Column(name, (f"n = {made.targets[name]}",)) for name in names), Column("seeds"))
    rates = {name: Cell(percent(rate), sort=rate) for name, rate in made.priors.items()}
    prior = (text_cell("question prior"), *(rates.get(name, missing_cell("not known")) for name in names), missing_cell("no model"))
    rows = [
        (
            text_cell(found.grid.label(one.key[0]), lines=(f"rate {rate_word(one.key[1])}",)),
            *(figure_cell(one.accuracy[name].figure, show_n=False) for name in names),
            Cell(str(one.seeds), sort=one.seeds),
        )
        for one in made.arms
    ]
    caption = "Accuracy in % on tier V. The question prior sees the question's text only. Small print: 95% interval."
    return Section("sources", heading, (TablePart(Table("sources-table", caption, columns, (*([prior] if made.priors else []), *rows))),))


def _attention(found: Findings) -> Section:
    heading, shift = "Attention shift and forgetting", found.shift
    if len(shift.points) < 2:
        return none("attention", heading, "fewer than two cells have an attention shift.")
    notes = []
    for one in shift.follows:
        named = (("Pearson", one.pearson), ("Spearman", one.spearman), ("Pearson within methods", one.within))
        notes.append(f"Points lost on {one.measure.title}: {'; '.join(f'{name} {correlation_words(of)}' for name, of in named)}.")
    note = f"Over {len(shift.points)} cells. {' '.join(notes)} Cells of a method are no random sample, so the intervals are too narrow."
    figures = (figure(*made) for made in (drawn_shift(found), *by_layer(found)))
    return Section("attention", heading, (*figures, Words(note)))


def _path(found: Findings) -> Section:
    heading = "Along the training"
    if not found.path:
        return none("path", heading, "no training was scored on its way.")
    columns = (Column("method", ("rate",), words=True), Column("step"), *(Column(f"dev {name}", ("%",)) for name in PATH))
    rows = tuple(
        (
            text_cell(found.grid.label(one.key[0]), lines=(f"rate {rate_word(one.key[1])}",)),
            Cell(str(step), sort=step),
            *(Cell(percent(scores[name]), sort=scores[name]) for name in PATH),
        )
        for one in found.path
        for step, scores in one.by_step.items()
    )
    caption = "Dev scores, pooled over seeds. Without intervals: cells keep counts of these, not answers."
    return Section("path", heading, (TablePart(Table("path-table", caption, columns, rows)),))


def correlation_words(one: Figure) -> str:
    """A correlation with its interval, or why there is none."""
    if one.value is None:
        return f"not available ({one.note})"
    bounds = "no interval" if one.low is None or one.high is None else f"{fixed(one.low, 2)} to {fixed(one.high, 2)}"
    return f"{fixed(one.value, 2)} ({bounds})"


def _cost(found: Findings, styles: Mapping[str, int]) -> Section:
    columns = [
        Column("method", words=True),
        Column("cells"),
        Column("trained", ("parameters",)),
        Column("training", ("CPU time, last stage",)),
        Column("tokens", ("last stage",)),
        Column("a step", ("× full tuning's",)),
    ]
    if any(one.memory is not None for one in found.costs):
        columns.append(Column("memory", ("peak of the process",)))
    rows = tuple(
        (
            Cell(found.grid.label(one.method), words=True, style=styles[one.method]),
            Cell(str(one.cells), sort=one.cells),
            Cell(count(one.trained), (f"of {count(one.total)}",), one.trained),
            Cell(duration(one.cpu_train), (f"{count(one.steps)} steps",), one.cpu_train),
            Cell(count(one.tokens), sort=one.tokens),
            missing_cell("no cell of full tuning") if one.relative is None else Cell(f"{one.relative:.2f}", sort=one.relative),
            missing_cell("not measured") if one.memory is None else Cell(f"{one.memory / 1e6:,.0f} MB", sort=one.memory),
        )[: len(columns)]
        for one in found.costs
    )
    table = Table("cost-table", "Means over cells. Stage 1, which the cells of a seed share, is left out.", tuple(columns), rows)
    return Section("cost", "Cost", (TablePart(table),))
