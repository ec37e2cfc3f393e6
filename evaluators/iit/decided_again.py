"""The decision of a finished run, made again from its predictions and its base's; and what of it has to agree without the base."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from evaluators.iit.columns import Turns
from evaluators.iit.decision import Order, Target, asked_whole, decision
from iit_bench.storage.runs import IitRun
from iit_bench.types import Decision, Figure

Difference = tuple[str, Any, Any]  # place in results.json, what is there, what follows


def decided_again(run: IitRun, stored: Decision, base: IitRun | None) -> Decision | None:
    """The decision of a complete run; None where it takes a base that is not there, or that was not asked all that the run was to ask.

    Args:
        run: of `--until decided`.
        stored: its decision.
        base: the run that it was measured against, as it was.
    """
    until, own = run.run.get("until"), Turns.of_run(run)
    n_asked = len(np.unique(own.group.code))
    if not until:
        return None
    if stored.note:
        return asked_whole(stored.note, until["margin"], n_asked)
    if base is None or base.run["limit"] != run.run["limit"] or not set(run.run["tiers"]) <= set(base.run["tiers"]):
        return None
    answers = Turns.of_run(base)
    order = Order.of(_targets(answers, set(run.run["tiers"])), answers, until["seed"])
    asked = set(own.dialogue.names)
    ends = [0, *(last for _, last in order.blocks() if all(one.dialogue in asked for of in order.targets[:last] for one in of))]
    if {one.dialogue for of in order.targets[: ends[-1]] for one in of} != asked:
        return None
    return decision(order.evidence(own, answers, ends[-1], until["margin"]), order, n_asked)


def parts_that_differ(run: IitRun, stored: Decision) -> Iterator[Difference]:
    """Where a decision contradicts the run, or its own parts; nothing of a run that does not record when it was to stop."""
    if not (until := run.run.get("until")):
        return
    by_e = {"lost": stored.e_lost >= stored.e_needed, "not lost": stored.e_not_lost >= stored.e_needed}
    verdict = next((name for name, reached in by_e.items() if reached), "undecided")
    own = Turns.of_run(run)
    n_asked = len(np.unique(own.group.code))
    pairs = [
        ("verdict", stored.verdict, verdict),
        ("margin", stored.margin, until["margin"]),
        ("e_needed", stored.e_needed, 2 / until["alpha"]),
        ("asked", stored.asked, n_asked if stored.asked else 0),  # older folders do not have it
        ("groups", stored.groups, min(stored.groups, n_asked)),
        ("of_groups", stored.of_groups, max(stored.of_groups, n_asked)),
    ]
    yield from ((f"decision.{name}", mine, other) for name, mine, other in pairs if mine != other)


def differing(stored: Decision, again: Decision) -> Iterator[Difference]:
    """What a decision says that is not what was made again; `asked` only where it is on record, which older folders lack."""
    again = dataclasses.replace(again, asked=again.asked if stored.asked else 0)
    pairs = [(one.name, getattr(stored, one.name), getattr(again, one.name)) for one in dataclasses.fields(Decision) if one.name != "loss"]
    pairs += [(f"loss.{one.name}", getattr(stored.loss, one.name), getattr(again.loss, one.name)) for one in dataclasses.fields(Figure)]
    for name, mine, other in pairs:
        numbers = isinstance(mine, float) and isinstance(other, float)
        if not (math.isclose(mine, other, rel_tol=1e-9, abs_tol=1e-9) if numbers else mine == other):
            yield f"decision.{name}", mine, other


def _targets(answers: Turns, tiers: set[str]) -> list[Target]:
    """The targets of a run in these tiers."""
    rows = np.flatnonzero(answers.is_target)
    columns = [
        [of.names[code] for code in of.code[rows].tolist()] for of in (answers.dialogue, answers.group, answers.cluster, answers.tier)
    ]
    return [Target(dialogue, group, cluster) for dialogue, group, cluster, tier in zip(*columns, strict=True) if tier in tiers]
