"""What the figures of the experiment show: of methods and controls; ablations are in tables, and as one series among the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluators.lab.claims import rates_of_both
from evaluators.lab.effects import Effect
from evaluators.lab.findings import ArmFigures, Findings
from evaluators.statistics import linear
from iit_bench.lab.cells import rate_word
from iit_bench.types import Figure
from reports.figures import Plot
from reports.lab.charts import Row, Series, lines_over_categories, series_over_two_axes

Captioned = tuple[Plot, str]
_TEXT = (("text", "text alone", "Text kept"), ("after", "text after an image", "Text after an image kept"))


def styles_of(found: Findings) -> Mapping[str, int]:
    """Numbers of colour, dash and marker, by method."""
    return {one.cell.method: style for style, one in enumerate(found.grid.methods)}


def frontier(found: Findings) -> list[Captioned]:
    """Text kept against VQA gained, a curve per method over its rates."""
    made = []
    for key, of, title in _TEXT:
        series = []
        for method, style in _drawn(found).items():
            points = tuple(
                (rate_word(arm.key[1]), in_points(arm.vqa.figure), in_points(_of(arm, key).figure))
                for arm in _arms(found, method)
                if arm.vqa.figure.value is not None and _of(arm, key).figure.value is not None
            )
            series += [Series(name=found.grid.label(method), style=style, points=points)] if points else []
        if series:
            plot = series_over_two_axes(
                series,
                key=f"frontier-{key}",
                description=f"VQA accuracy and change of {of} against the base LLM, a line per method. The numbers are in the table.",
                x_axis="VQA, %",
                y_axis=f"{of}: points against the base LLM",
            )
            made.append((plot, f"{title}, against VQA; 0 is the base LLM; markers grow with the rate of the LLM"))
    return made


def by_rate(found: Findings) -> list[Captioned]:
    """Text alone, text after an image and VQA over the rates, a line per method."""
    made = []
    for key, of, title in (*_TEXT, ("vqa", "VQA", "VQA")):
        rows = []
        for method, style in _drawn(found).items():
            arms = [(rate_word(arm.key[1]), _of(arm, key).figure) for arm in _arms(found, method)]
            values = tuple((rate, in_points(one)) for rate, one in arms if one.value is not None)
            rows += [Row(name=found.grid.label(method), style=style, values=values)] if values else []
        rates = sorted({rate for method in _drawn(found) for rate in found.grid.rates(method)})
        if rows and len(rates) > 1:
            against = key != "vqa"
            plot = lines_over_categories(
                rows,
                [[rate_word(rate) for rate in rates]],
                key=f"rates-{key}",
                description=f"{of} at every learning rate of the LLM, a line per method. The numbers are in the table.",
                x_axis="rate of the LLM or adapter",
                y_axis=f"{of}: points against the base LLM" if against else "VQA, %",
                zero=against,
            )
            made.append((plot, f"{title}, by learning rate" + ("; 0 is the base LLM" if against else "")))
    return made


def by_tier(found: Findings) -> list[Captioned]:
    """Accuracy from text-rich to image-rich dialogues (the paper's figure 6), a figure per rate of full tuning and Wings."""
    made = []
    for rate in rates_of_both(found.grid):
        rows = []
        for method, style in _drawn(found).items():
            for arm in _arms(found, method):
                values = tuple((tier, in_points(one.figure)) for tier, one in arm.tiers.items() if one.figure.value is not None)
                if arm.key[1] == rate and values:
                    rows.append(Row(name=found.grid.label(method), style=style, values=values))
        if rows:
            plot = lines_over_categories(
                rows,
                [[tier for tier in found.grid.tiers if tier.endswith(last)] for last in "TV"],
                key=f"tiers-{rate_word(rate)}",
                description=f"Accuracy in every tier at the rate {rate_word(rate)}, a line per method. The numbers are in the table.",
                x_axis="ending in text; ending in an image",
                y_axis="accuracy, %",
                zero=False,
            )
            made.append((plot, f"Accuracy by tier, at the rate {rate_word(rate)}"))
    return made


def shift(found: Findings) -> Captioned:
    """Attention shift and points lost, a dot per cell (the paper's figure 3); ablations are one series."""
    drawn = _drawn(found)
    cells: dict[str, list[tuple[str, Figure, Figure]]] = {}
    for one in found.shift.points:
        name = one.result.cell.method if one.result.cell.method in drawn else ""
        cells.setdefault(name, []).append((one.result.cell.name, Figure(one.shift), Figure(100 * one.text)))
    series = [
        Series(name=found.grid.label(method), style=style, joined=False, points=tuple(cells[method]))
        for method, style in drawn.items()
        if method in cells
    ]
    if "" in cells:
        series.append(Series(name="ablations", style=len(drawn), joined=False, points=tuple(cells[""])))
    plot = series_over_two_axes(
        series,
        key="shift",
        description="Attention shift and points lost on text, a dot per cell. The correlations are below.",
        x_axis="attention shift",
        y_axis="points lost on text alone",
    )
    return plot, "Attention shift and what was lost of text"


def by_layer(found: Findings) -> list[Captioned]:
    """How much more text after the image is looked at than text before it, a token each, at the highest rate of Wings and full tuning."""
    drawn, rate = _drawn(found), max(rates_of_both(found.grid), default=None)
    seen = [one for one in found.shift.layers if one.key[0] in drawn and one.key[1] == rate and one.ratio]
    if not seen:
        return []
    rows = [
        Row(
            name=found.grid.label(one.key[0]),
            style=drawn[one.key[0]],
            values=tuple((str(layer + 1), ratio) for layer, ratio in zip(one.layers, one.ratio, strict=True)),
        )
        for one in seen
    ]
    plot = lines_over_categories(
        rows,
        [[str(layer + 1) for layer in seen[0].layers]],
        key="layers",
        description="Attention to text after the image over that to text before it, layer by layer. The numbers are in the table.",
        x_axis="layer",
        y_axis="weight of a token after / before the image",
        zero=False,
    )
    return [(plot, f"Attention to text after the image, over that to text before it, by layer, at the rate {rate_word(seen[0].key[1])}")]


def in_points(one: Figure) -> Figure:
    """A fraction in percent or points."""
    return one if one.value is None else linear(one, 100.0, 0.0)


def _drawn(found: Findings) -> Mapping[str, int]:
    roles = {one.cell.method: one.cell.role for one in found.grid.methods}
    return {method: style for method, style in styles_of(found).items() if roles[method] != "ablation"}


def _arms(found: Findings, method: str) -> Sequence[ArmFigures]:
    return [arm for arm in found.arms if arm.key[0] == method]


def _of(arm: ArmFigures, key: str) -> Effect:
    return {"text": arm.text, "after": arm.after, "vqa": arm.vqa}[key]
