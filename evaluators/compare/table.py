"""A comparison of two suite runs for a terminal, and for machines."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.compare.tasks import TaskComparison, by_reason
from evaluators.iit.comparison import TEST_LABELS
from iit_bench.numerals import NOTHING, p_value, points
from iit_bench.types import Figure, Suite

_COLUMNS = ("A", "B", "A - B", "95% interval", "n", "clusters", "A only", "B only", "p", "Holm", "retention")
_ROOM = 30  # characters for names of tasks; longer ones are folded
_WIDTH = 122  # of the other columns


def suite_as_table(comparisons: Sequence[TaskComparison], left_out: Mapping[str, str], name_a: str, name_b: str) -> str:
    """The comparisons as plain text: fractions in %, differences in percentage points, other scores in their own unit.

    As wide as the names of tasks ask for: 120 to 150 characters.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, title=Text(f"A = {name_a} minus B = {name_b}"), title_justify="left")
    names = [("  " if one.member else "") + one.result.over + (" (group)" if one.group else "") for one in comparisons]
    room = min(_ROOM, max(map(len, names), default=0))
    table.add_column("task", overflow="fold", min_width=room)
    table.add_column("metric", overflow="fold")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("test", no_wrap=True)
    for name, one in zip(names, comparisons, strict=True):
        scale, d, r = (100 if one.best == 1 else 1), one.result.difference, one.result
        numbers = (_number(one.a.value, scale), _number(one.b.value, scale), _number(d.value, scale, "+"), _interval(d, scale))
        counts = (str(d.n), str(d.clusters), str(r.only_a), str(r.only_b))
        tests = (p_value(r.p), p_value(r.p_holm), _number(one.retention.value, 100), TEST_LABELS.get(r.test, r.test or d.note))
        table.add_row(Text(name), Text(one.metric), *numbers, *counts, *tests)
    console = Console(file=io.StringIO(), width=_WIDTH + room, color_system=None, force_terminal=False)
    console.print(table)
    console.print(
        Text(
            "A only, B only: items that scored higher in that run. Holm: p adjusted over the tasks, and by itself over those inside groups."
        )
    )
    console.print(Text("Retention: (B - chance) / (A - chance) in %, where the chance level is known and below A's 95% interval."))
    for sentence in by_reason(left_out):
        console.print(Text(f"Left out: {sentence}."))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def suite_as_dict(
    comparisons: Sequence[TaskComparison], left_out: Mapping[str, str], suite: Suite, name_a: str, name_b: str
) -> dict[str, Any]:
    """For `--json`; differences in the unit of the metric, fractions where `best` is 1."""
    return {
        "a": name_a,
        "b": name_b,
        "suite": suite,
        "results": [dataclasses.asdict(one) for one in comparisons],
        "left_out": dict(left_out),
    }


def _number(value: float | None, scale: float, sign: str = "") -> str:
    return NOTHING if value is None else points(value, sign) if scale == 100 else f"{value:{sign}.5g}"


def _interval(figure: Figure, scale: float) -> str:
    return NOTHING if figure.low is None else f"[{_number(figure.low, scale, '+')}, {_number(figure.high, scale, '+')}]"
