"""The section of a model's page on calibration: do the probabilities of its choices mean what they say? (docs/spec/iit.md#calibration)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluators.iit.columns import Metric
from evaluators.iit.probabilities import calibrations, reason_without
from evaluators.statistics.calibration import Calibration
from iit_bench.errors import UserError
from iit_bench.numerals import fixed
from iit_bench.types import Figure
from reports.cells import Cell, Column, Table, figure_cell, in_percent, interval, missing_cell, number_cell, percent, size, text_cell
from reports.figures import Pen, Plot
from reports.plots import WIDTH
from reports.section import Part, Section, TablePart, Words, figure, none
from reports.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_HEADING = "Calibration"
_METRICS: tuple[tuple[Metric, str], ...] = (("acc", "sum of log-probabilities"), ("acc_norm", "per character"))
_HEIGHT = 3.4  # inches
_POOLS = {"text": "text targets", "visual": "visual targets"}


def calibration_section(subject: Subject) -> Section:
    """A reliability curve, and per kind of target confidence, accuracy, calibration error and Brier score."""
    entry = subject.entry
    if why := reason_without(entry.header):
        return none("calibration", _HEADING, why)
    try:
        found = {metric: calibrations(entry.run, entry.turns, metric) for metric, _ in _METRICS}
    except UserError as error:  # other tools' files, and folders that were changed by hand
        return none("calibration", _HEADING, f"{error}.")
    if not found["acc"]:
        return none("calibration", _HEADING, "no target was answered.")
    drawn: tuple[Part, ...] = (figure(reliability_plot(found["acc"], entry.style), "Accuracy by probability of the chosen choice, in %"),)
    note = Words(
        "A probability is the softmax of the log-probabilities of a question's choices. Calibrated: of the answers with a probability of "
        "80%, 80% are right. The calibration error is the mean distance from that over bins of equal size, corrected for what noise adds.",
        "fine",
    )
    return Section("calibration", _HEADING, (Words(_sentence(found["acc"]), "lead"), *drawn, TablePart(_table(found)), note))


def _sentence(found: Mapping[str, Calibration]) -> str:
    one = found["all"]
    verb = "too sure" if (one.overconfidence.value or 0) > 0 else "not sure enough"
    sure = one.overconfidence.low is not None and one.overconfidence.high is not None
    clear = sure and not (one.overconfidence.low or 0) <= 0 <= (one.overconfidence.high or 0)
    mean = f"Its answers have a mean probability of {in_percent(one.confidence)}, and {in_percent(one.accuracy.value or 0)} are right"
    return f"{mean}: it is {verb}." if clear else f"{mean}: no difference is found."


def _table(found: Mapping[Metric, Mapping[str, Calibration]]) -> Table:
    columns = (
        Column("targets", words=True),
        Column("probability from", words=True),
        Column("mean probability"),
        Column("accuracy"),
        Column("too sure by", ("points",)),
        Column("calibration error", ("points",)),
        Column("Brier score", ("0 is best, 2 worst",)),
    )
    shown = [pool for pool in found["acc"] if pool != "all" or len(found["acc"]) > 2]  # of one kind of target it would repeat that
    rows = tuple(
        (text_cell(pool), text_cell(words), *_cells(found[metric][pool]))
        for pool in shown
        for metric, words in _METRICS
        if pool in found[metric]
    )
    return Table("calibration-table", "Probabilities of the chosen choice against how often it is right; 95% intervals.", columns, rows)


def _cells(one: Calibration) -> tuple[Cell, ...]:
    return (
        number_cell(one.confidence, percent(one.confidence)),
        figure_cell(one.accuracy),
        figure_cell(one.overconfidence, signed=True, show_n=False),
        _plain(one.ece, percent(one.ece.value or 0.0), interval(one.ece)),
        _plain(one.brier, fixed(one.brier.value or 0.0, 3), _bounds(one.brier)),
    )


def _plain(value: Figure, text: str, bounds: str) -> Cell:
    return missing_cell(value.note) if value.value is None else Cell(text, (bounds or "no interval", size(value.n)), value.value)


def _bounds(value: Figure) -> str:
    return "" if value.low is None or value.high is None else f"{fixed(value.low, 3)}–{fixed(value.high, 3)}"


def reliability_plot(found: Mapping[str, Calibration], style: int) -> Plot:
    """Accuracy over confidence, a line per kind of target; where a model is calibrated, it follows the diagonal."""
    shown = {name: found[name] for name in _POOLS if name in found}
    rows = tuple(
        (_POOLS[name], one.confidence, one.accuracy.value, one.accuracy.low, one.accuracy.high, one.accuracy.n)
        for name, whole in shown.items()
        for one in whole.bins
    )

    def draw(canvas: Canvas, pen: Pen) -> None:
        axes = canvas.add_axes((0.1, 0.15, 0.66, 0.82), facecolor="none")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability of the chosen choice, %")
        ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
        axes.grid(color=pen.rule, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=pen.ink, length=0, pad=5)
        axes.xaxis.label.set_color(pen.ink)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.plot([0, 1], [0, 1], color=pen.muted, linewidth=1.0, linestyle=(0, (1, 3)), zorder=1)
        for number, (name, whole) in enumerate(shown.items()):
            x = [one.confidence for one in whole.bins]
            y = [one.accuracy.value or 0.0 for one in whole.bins]
            low, high = [one.accuracy.low or 0.0 for one in whole.bins], [one.accuracy.high or 0.0 for one in whole.bins]
            axes.vlines(x, low, high, color=pen.colour(style + number), linewidth=1.0, zorder=2)
            axes.plot(x, y, zorder=3, **pen.line(style + number))
            axes.plot(x, y, zorder=4, **pen.marker(style + number))
            place = 0.9 - 0.1 * number
            axes.plot([1.06], [place], clip_on=False, **pen.marker(style + number))
            axes.text(1.1, place, _POOLS[name], color=pen.colour(style + number), va="center_baseline", ha="left", clip_on=False)

    description = "Accuracy over the probability of the chosen choice; the dotted diagonal is a calibrated model. The numbers are below."
    columns = ("targets", "mean probability", "accuracy", "low", "high", "n")
    return Plot(key="calibration", description=description, size=(WIDTH, _HEIGHT), draw=draw, columns=columns, rows=rows)
