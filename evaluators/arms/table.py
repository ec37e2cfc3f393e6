"""The arms of a run for a terminal, or as JSON."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.arms.figures import ArmFigures
from evaluators.arms.names import ARMS, REASONS
from evaluators.runs.marks import UNSEALED, unsealed_note
from iit_bench.numerals import counted, in_percent, interval, p_value, percent, points
from iit_bench.storage import anew


def as_table(arms: Sequence[ArmFigures], name: str, width: int = 120, unsealed: Sequence[str] = ()) -> str:
    """The pooled gap of each arm as plain text, `width` characters at most, and what the choices' order changes.

    `unsealed` are names of runs, as `marks.unsealed` gives them.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    table = Table(box=SIMPLE, title=Text(f"Arms of {name}: accuracy in %, gap in percentage points"), title_justify="left")
    table.add_column("arm", no_wrap=True)
    table.add_column("over", no_wrap=True)
    for heading in ("run", "arm", "gap", "95% interval", "n", "p", "Holm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in arms:
        gap = one.pooled.difference
        numbers = (percent(one.acc.value), percent(one.arm_acc.value), points(gap.value), interval(gap), str(gap.n))
        table.add_row(Text(one.arm), Text(one.pooled.over), *numbers, p_value(one.pooled.p), p_value(one.pooled.p_holm))
    console.print(table)
    console.print(
        Text("gap: accuracy of the run minus the arm's over the same items; positive = what the change costs. Holm: over the arms.")
    )
    for one in arms:
        for line in notes(one):
            console.print(Text(f"{one.arm}: {line}"))
    if unsealed:
        console.print(Text(unsealed_note(unsealed)))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def notes(one: ArmFigures) -> list[str]:
    """What else there is to say of an arm: why it has no figures, what it does not ask, flips."""
    lines = [one.pooled.difference.note] if one.pooled.difference.value is None else []
    lines += [left_out_text(one.left_out)] if one.left_out else []
    if one.run is not None and not one.run.results.complete:
        lines.append(anew.resumable("not complete: some items failed for reasons of the machine; repeat the command to resume"))
    if one.orders is not None and one.orders.flip_rate.value is not None:
        flips, right, accuracy = one.orders.flip_rate, one.orders.always_right, one.orders.accuracy
        places = ", ".join(percent(moved.value) for moved in accuracy)
        lines.append(
            f"the choice changes with the order in {in_percent(flips.value)} of {counted(flips.n, 'item')} {interval(flips, sign='')}; "
            f"right in every order: {in_percent(right.value)}; accuracy in % by places moved: {places}"
        )
    return lines


def left_out_text(left_out: Mapping[str, int]) -> str:
    """The dialogues that an arm does not ask, by reason, in words; "" if there are none."""
    counts = ", ".join(f"{count} ({REASONS.get(key, key)})" for key, count in left_out.items())
    return f"dialogues that are not asked: {counts}" if counts else ""


def as_dict(arms: Sequence[ArmFigures], unsealed: Sequence[str] = ()) -> dict[str, Any]:
    """For `--json`: {"arms": [ArmFigures as a dict, with its folder, and what is changed in words], "unsealed": names}; differences as
    fractions."""
    made = []
    for one in arms:
        record = {field.name: getattr(one, field.name) for field in dataclasses.fields(one) if field.name not in ("run", "path")}
        plain = {key: _plain(value) for key, value in record.items()}
        made.append({**plain, "changes": ARMS[one.arm].changes, "folder": str(one.path)})
    return {"arms": made, UNSEALED: list(unsealed)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
