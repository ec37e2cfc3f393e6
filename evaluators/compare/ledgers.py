"""The ledgers of two IIT runs for a terminal: A is the base, so what only A has right is lost."""

from __future__ import annotations

import io
from collections.abc import Sequence

from evaluators.statistics import FEW, few_items, guess_alike
from iit_bench.numerals import NOTHING, in_percent, interval, percent
from iit_bench.types import TRANSITIONS, Figure, Ledger, LedgerPart
from iit_bench.visible import clipped

NAMED = 5  # lost items that are printed
_ROOM = 60  # characters of a name
_WIDTH = 120


def ledgers_as_table(ledgers: Sequence[Ledger], floor: Figure | None) -> str:
    """The pools, tiers, histories and turns of ledgers as plain text, then the items that are lost in most tiers.

    Args:
        floor: where the two runs are repeats of each other, how often they disagree; else None.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = "Ledger, items: lost = right in A only, gained = right in B only; corrected: % of the items"
    table = Table(box=SIMPLE, title=Text(title), title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("items", no_wrap=True)
    for heading in ("n", *TRANSITIONS, "lost, corrected", "kept, corrected", "gained, corrected"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in (part for one in ledgers for part in one.parts if part.by in ("all", "tier", "history", "turn")):
        few = few_items(part.counts)
        corrected = (f"{_rate(part.corrected[name])}{'*' if name in few else ' '}" for name in ("lost", "kept", "gained"))
        counts = (str(part.counts[name]) for name in TRANSITIONS)
        table.add_row(Text(_label(part)), str(sum(part.counts.values())), *counts, *corrected)
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False)
    console.print(table)
    console.print(Text("Corrected for lucky guesses (1 in k right among k choices), with 95% interval; not clipped to 0 … 100."))
    if any(guess_alike(one.parts[0].corrected) for one in ledgers):
        console.print(
            Text(
                "An interval of all items is wholly below 0: A and B seem to guess alike. Then lost and gained are too low, kept too high."
            )
        )
    if any(few_items(part.counts) for one in ledgers for part in one.parts):
        console.print(Text(f"* few items, under {FEW} that are so or that are not: the interval holds in 90–99% of simulated runs."))
    for one in ledgers:
        if one.lost:
            words = [f"{clipped(item.question, _ROOM)} ({len(item.dialogues)} of {item.n})" for item in one.lost[:NAMED]]
            more = f", and {len(one.lost) - NAMED:,} more" if len(one.lost) > NAMED else ""
            console.print(Text(f"Lost {one.modality} items (in how many tiers): {', '.join(words)}{more}."), soft_wrap=True)
    if floor is not None:
        console.print(
            Text(f"Both runs are of one checkpoint, asked alike: they disagree in {_floor(floor)} of the targets; that is noise.")
        )
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _label(part: LedgerPart) -> str:
    return {"history": f"history: {part.part}", "turn": f"turn {part.part}"}.get(part.by, part.part)


def _floor(figure: Figure) -> str:
    return f"{in_percent(figure.value)} {interval(figure, sign='')}".rstrip()


def _rate(figure: Figure) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return NOTHING
    return f"{percent(figure.value)} {interval(figure, sign='')}"
