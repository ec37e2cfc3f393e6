"""What was observed of a model, in words for a terminal."""

from __future__ import annotations

from evaluators.attention.shift import AttentionFigures, TierAttention
from evaluators.attention.table import Observed
from iit_bench.numerals import counted, fixed
from iit_bench.types import Figure


def summary_text(observed: Observed, figures: AttentionFigures) -> str:
    """A line per tier, then what was left out."""
    head = ("tier", "shift", "MDI", "AEI", "dialogues")
    lines = [head, *(_line(one) for one in (*figures.tiers, figures.pooled))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    table = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    title = f"{observed.about['name']}: attention of the last prompt token over {counted(len(figures.layers), 'layer')}"
    left_out = {**observed.about["not_observed"], **{f"no shift, {reason}": n for reason, n in figures.without_shift.items()}}
    return "\n".join([title, *table, *(f"{counted(n, 'dialogue')}: {reason}" for reason, n in left_out.items())])


def _line(one: TierAttention) -> tuple[str, ...]:
    return ("all" if one.tier == "*" else one.tier, *map(_figure, (one.shift, one.mdi, one.aei)), str(one.mdi.n))


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "not available"
    bounds = "no interval" if figure.low is None or figure.high is None else f"{fixed(figure.low, 3)} to {fixed(figure.high, 3)}"
    return f"{fixed(figure.value, 3)} ({bounds})"
