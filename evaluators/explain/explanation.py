"""The gap between results, split by cause, as records (docs/spec/explain.md#the-parts)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluators.explain.settings import Standing
from evaluators.explain.sides import ASKED, Cause, Side
from evaluators.explain.split import TaskSplit
from iit_bench.types import Figure


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the gap: A minus B, in the unit of the score."""

    name: str  # of split.PARTS
    size: Figure  # mean over the tasks of the mean over their items, with its interval
    raised: int  # items that it raises A above B
    lowered: int  # items that it lowers A below B


@dataclass(frozen=True, kw_only=True)
class Split:
    """What `explain` finds, as records."""

    sides: tuple[Side, ...]  # in the order given
    tasks: tuple[str, ...]
    gap: Figure
    scores: tuple[float, float]  # of the first and the last side, means over the tasks
    parts: tuple[Part, ...]  # every one of split.PARTS, in order
    steps: tuple[tuple[TaskSplit, ...], ...]  # per pair of neighbours, per task
    left_out: Mapping[str, str]

    def standing(self, cause: Cause) -> list[Standing]:
        """A cause in each step and task."""
        return [one.standing[cause] for step in self.steps for one in step]


def not_recorded(explanation: Split) -> dict[Cause, list[str]]:
    """Cause -> settings that a side does not record, of causes that matter: of items that are not explained or not told apart."""
    causes = {cause for step in explanation.steps for one in step for possible in one.causes.values() for cause in possible}
    found: dict[Cause, list[str]] = {}
    for cause in ASKED:
        unknown = [name for one in explanation.standing(cause) if one.state != "stated equal" for name in one.unknown]
        if unknown and (cause in causes or not causes):
            found[cause] = list(dict.fromkeys(unknown))
    return found
