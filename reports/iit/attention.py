"""What a model attends to, on its page; and attention shift beside forgetting over models (docs/spec/iit.md#attention-shift)."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.attention.shift import AttentionFigures, TierAttention
from evaluators.statistics import linear
from evaluators.statistics.numbers import FEWEST, correlation, rank_correlation
from iit_bench.errors import UserError
from iit_bench.numerals import fixed
from iit_bench.types import Figure, Kind
from reports.cells import MINUS, NOT_AVAILABLE, Cell, Column, Table, count, figure_cell, figure_title, missing_cell, size, text_cell
from reports.entries import Entry
from reports.number_plots import LayerCurve, Place, layers_plot, places_plot
from reports.section import Folded, Part, Section, Words, figure, none, tables
from reports.shared import name_cell
from reports.subject import Subject

KEY, HEADING = "attention", "Attention"
NAMES: dict[Kind, str] = {"before": "text before", "image": "image", "between": "text between", "after": "text after"}
_STYLES: dict[Kind, int] = {"before": 0, "image": 1, "after": 2, "between": 3}
_HOW = (
    "The query is the last prompt token; weights are averaged over heads, then over the tokens of a kind. Shift is 1 − the correlation of "
    "the curves of text before and after the image, over the layers: 0 is equal forms, 2 opposite ones. MDI is attention per text token "
    "over attention per image token (geometric mean); AEI is the share of attention on text over its share of the tokens. Means over "
    "dialogues; intervals are 95%, clustered by target and image, and by history where histories are shared; bands hold layer by layer. "
    "The first token of a prompt, which often gets much attention whatever it is, counts as text before."
)


def attention_section(subject: Subject) -> Section | None:
    """Curves over the layers, shift and dominance by tier; Wings' router. None where the model was not observed."""
    try:
        seen = subject.entry.attention
    except UserError as error:
        return none(KEY, HEADING, f"{error}.")
    if seen is None:
        return None
    figures = seen.figures
    parts: list[Part] = [Words(_sentence(subject.entry.name, figures), "lead")]
    shown: tuple[Kind, ...] = ("before", "image", "after")
    curves = [LayerCurve(NAMES[kind], _STYLES[kind], figures.curves[kind]) for kind in shown if kind in figures.curves]
    if curves:
        plot = layers_plot(
            curves,
            figures.layers,
            key="attention-curves",
            description="Mean attention per token over the layers: text before the image, the image, and text after it.",
            axis="attention per token",
        )
        parts.append(figure(plot, "What the last prompt token attends to, layer by layer: mean attention per token"))
    routed = [LayerCurve(NAMES[kind], _STYLES[kind], values) for kind, values in figures.router.items()]
    if routed:
        plot = layers_plot(
            routed,
            figures.router_layers,
            key="attention-router",
            description="The router's weight of the visual learner over the layers, by kind of token.",
            axis="weight of the visual learner",
            from_zero=False,
        )
        parts.append(figure(plot, "Wings' router: mean weight of the visual learner; the textual learner has the rest"))
    parts += tables(_by_tier(figures))
    left_out = [
        *seen.about["not_observed"].items(),
        *((f"observed, but without a shift: {reason}", n) for reason, n in figures.without_shift.items()),
    ]
    if seen.about["limit"] is not None:
        parts.append(Words(f"Observed: the dialogues of the first {count(seen.about['limit'])} groups.", "fine"))
    if left_out:
        parts.append(Words(f"Left out: {'; '.join(f'{count(n)} dialogues, {reason}' for reason, n in left_out)}.", "fine"))
    return Section(KEY, HEADING, (*parts, Folded("How to read this", (Words(_HOW, "fine"),))))


def _sentence(name: str, figures: AttentionFigures) -> str:
    shift, mdi = figures.pooled.shift, figures.pooled.mdi
    if shift.value is None:
        return f"{name} has no attention shift: {shift.note}."
    text = f"{name}'s attention shift is {_number(shift)} over {len(figures.layers)} layers, n {count(shift.n)} dialogues"
    if mdi.value is None:
        return f"{text}."
    most, least = ("A text", "an image") if mdi.value >= 1 else ("An image", "a text")
    return f"{text}. {most} token gets {max(mdi.value, 1 / mdi.value):.3g} times the attention of {least} token."


def _number(one: Figure) -> str:
    if one.value is None:
        return NOT_AVAILABLE
    bounds = "no interval" if one.low is None or one.high is None else f"{fixed(one.low, 2)} to {fixed(one.high, 2)}"
    return f"{fixed(one.value, 2)} ({bounds})"


def _by_tier(figures: AttentionFigures) -> Table:
    columns = (Column("tier", words=True), Column("shift", ("1 − correlation",)), Column("MDI"), Column("AEI"))
    rows = tuple((text_cell(one.tier), *_cells(one)) for one in figures.tiers)
    foot = ((Cell("all tiers", words=True), *_cells(figures.pooled)),)
    caption = f"Attention shift over {len(figures.layers)} layers, and modality dominance. Small print: 95% interval, n dialogues."
    return Table("attention-tiers", caption, columns, rows, foot)


def _cells(one: TierAttention) -> tuple[Cell, ...]:
    return tuple(_cell(value) for value in (one.shift, one.mdi, one.aei))


def _cell(one: Figure) -> Cell:
    """A figure to two decimals, or three digits where it is large: more would be read as known."""
    if one.value is None:
        return missing_cell(one.note)
    known = one.low is not None and one.high is not None
    bounds = f"{_short(one.low or 0.0)} to {_short(one.high or 0.0)}" if known else "no interval"
    return Cell(_short(one.value), (bounds, size(one.n)), one.value, figure_title(one))


def _short(value: float) -> str:
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}".replace("-", MINUS)


# ---------------------------------------------------------------- over models


def shift_against_forgetting(entries: Sequence[Entry], suffix: str = "") -> Section | None:
    """Mean shift beside text-only forgetting, one dot per model, and their correlation over the models of one base; None where no model was
    observed. `suffix` ends the ids.
    """
    observed: list[tuple[Entry, Figure]] = []
    damaged: list[str] = []
    for entry in entries:
        try:
            seen = entry.attention
        except UserError as error:
            damaged.append(f"{error}.")
            continue
        if seen is not None:
            observed.append((entry, seen.figures.pooled.shift))
    if not observed and not damaged:
        return None
    parts: list[Part] = [Words(text, "notice") for text in damaged]
    both = [(entry, shift) for entry, shift in observed if shift.value is not None and _lost(entry).value is not None]
    if len(both) > 1:
        places = [Place(name=entry.name, style=entry.style, x=shift, y=_points(_lost(entry))) for entry, shift in both]
        plot = places_plot(
            places,
            key=f"shift-forgetting{suffix}",
            description="Attention shift and text-only forgetting, one dot per model. The numbers are in the table below.",
            x_axis="attention shift",
            y_axis="points lost on text targets",
        )
        parts.append(figure(plot, "Attention shift and what was lost of the base LLM's accuracy on text targets"))
    parts += tables(_models(observed))
    bases = dict.fromkeys(result.base_run for entry, _ in both if (result := entry.run.results.forgetting) is not None)
    for base in bases:
        parts.append(Words(_correlation([pair for pair in both if _base(pair[0]) == base], base if len(bases) > 1 else "")))
    if not bases:
        parts.append(Words(f"Correlation of the two: not available, no observed model has a base run; {FEWEST} are needed.", "none"))
    return Section("shift", "Attention shift and forgetting", tuple(parts))


def _base(entry: Entry) -> str:
    result = entry.run.results.forgetting
    return "" if result is None else result.base_run


def _lost(entry: Entry) -> Figure:
    result = entry.run.results.forgetting
    return Figure(None, note="no base run") if result is None else result.pooled.difference


def _points(lost: Figure) -> Figure:
    """In percentage points."""
    return linear(lost, 100.0, 0.0)


def _models(observed: Sequence[tuple[Entry, Figure]]) -> Table:
    columns = (Column("model", words=True), Column("attention shift"), Column("forgetting", ("points lost on text targets",)))
    rows = tuple((name_cell(entry), _cell(shift), figure_cell(_lost(entry), signed=True)) for entry, shift in observed)
    caption = "Mean attention shift, and text-only forgetting (base − model, in percentage points). Small print: 95% interval, n."
    return Table("shift-models", caption, columns, rows)


def _correlation(pairs: Sequence[tuple[Entry, Figure]], base: str) -> str:
    shifts, lost = [shift.value for _, shift in pairs], [_lost(entry).value for entry, _ in pairs]
    of = f" of base {base}" if base else ""
    pearson, spearman = correlation(shifts, lost), rank_correlation(shifts, lost)
    if pearson.value is None:
        return f"Correlation over the models{of}: not available, {pearson.note}."
    named = (("Pearson", pearson), ("Spearman", spearman))
    words = "; ".join(f"{name} {_number(one)}" if one.value is not None else f"{name} not available" for name, one in named)
    return f"Correlation over {len(pairs)} models{of}: {words}. Intervals take the models for a random sample, and say nothing of causes."
