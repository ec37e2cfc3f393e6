"""What a reader must know of a data set's table and replies: where this suite does otherwise than VLMEvalKit's own run, with counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_bench.tools.text_cells import Guess


def count_guesses(guesses: Iterable[Guess]) -> dict[str, Any]:
    """How many cells VLMEvalKit's reader would change, as facts: {"cells", "first"}, or {} if none."""
    found = list(guesses)
    if not found:
        return {}
    one = found[0]
    instead = "as an empty cell" if one.guess is None else f"as {one.guess!r}"
    return {"cells": len(found), "first": f"{one.text!r} in column {one.column!r} of row {one.index!r} {instead}"}


def notes_of_table(facts: Mapping[str, Any]) -> list[str]:
    """Of the worker's facts of a data set."""
    notes = []
    if repeated := facts.get("repeated"):
        notes.append(
            f"{_rows(repeated)} left out, having the index of an earlier row, which counts with its own picture; "
            "VLMEvalKit's own run shows the last one's picture in all of them"
        )
    if unanswered := facts.get("unanswered"):
        notes.append(f"{_rows(unanswered)} without a gold answer: whatever the reply, wrong")
    if redrawn := facts.get("redrawn"):
        notes.append(
            f"{_rows(redrawn)} with a picture that is transparent, turned, animated or not of 8 bits, shown as in every suite here; "
            "VLMEvalKit's own run shows it otherwise (black for transparent, not turned, clipped)"
        )
    if unaskable := facts.get("unaskable"):
        notes.append(f"{_rows(list(unaskable))} that VLMEvalKit cannot make a prompt of: counted as failed")
    if guessed := facts.get("guessed"):
        notes.append(f"cells are text: VLMEvalKit's own run reads {guessed['cells']} otherwise, e.g. {guessed['first']}")
    return notes


def notes_of_replies(guessed: Mapping[str, Any]) -> list[str]:
    """Of the replies that VLMEvalKit's reader would change, as `count_guesses` counts them."""
    if not guessed:
        return []
    return [f"replies are text: VLMEvalKit's own run reads {guessed['cells']} otherwise, e.g. {guessed['first']}"]


def _rows(indices: Sequence[str]) -> str:
    n = len(indices)
    shown = ", ".join(repr(index) for index in indices[:3]) + (", …" if n > 3 else "")
    return f"{n} row{'s' if n > 1 else ''} ({shown})"
