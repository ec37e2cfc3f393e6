"""Dialogues as arms asked them, as the explorer's data: the turns that an arm changes, with their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from evaluators.arms.shown import ArmChat, ArmChats, replies_before_targets
from iit_bench.storage.runs import IitRun
from iit_bench.types import Dialogue, Image, Part
from reports.samples.answers import SampleRun
from reports.samples.gather import Plan
from reports.samples.pictures import Pictures
from reports.samples.questions import SampleSet
from reports.samples.scripts import Chunks, Put, short


class AskedByArms:
    """What the arms of a plan's runs asked. Runs of one benchmark, arm, style and gold history share their data."""

    def __init__(self, plan: Plan, pictures: Pictures) -> None:
        self._plan, self._pictures = plan, pictures
        self._chats = {own.key: ArmChats(own.benchmark) for own in plan.sets if own.benchmark is not None}
        self._replies = cache(self._replies_of)

    def write(self, put: Put) -> dict[str, dict[str, Any]]:
        """Write the data; of each run that is an arm, by its key: the name of its scripts, and the place of each script's first entry."""
        shared: dict[tuple[str, ...], list[SampleRun]] = {}
        for run in self._plan.runs:
            if run.arm and run.own.key in self._chats:
                own = (run.key,) if run.run.run["history"] == "own" else ()
                shared.setdefault((run.own.key, run.arm, run.run.run["style"], *own), []).append(run)
        written: dict[str, dict[str, Any]] = {}
        for runs in shared.values():
            name = f"{runs[0].key}-c"
            starts = self._write(put, name, runs)
            written |= {run.key: {"name": name, "starts": starts} for run in runs}
        return written

    def of(self, run: SampleRun, dialogue: Dialogue) -> ArmChat | None:
        """A dialogue as an arm asked it; None where the arm does not ask it, or the benchmark is not at hand."""
        if run.own.key not in self._chats:
            return None
        return self._chats[run.own.key].of(run.arm, run.run.run, dialogue, self._replies(run.slug).get(dialogue.id, ()))

    def parts(self, message: Sequence[Part]) -> list[Any]:
        """A message as JSON: texts, and pictures as {"image": [file, width, height]}, in reading order."""
        return [{"image": self._pictures.shown(part)} if isinstance(part, Image) else short(part) for part in message]

    def _write(self, put: Put, name: str, runs: Sequence[SampleRun]) -> list[int]:
        own: SampleSet = runs[0].own
        asked = {dialogue for run in runs for dialogue in cast(IitRun, run.run).prediction_columns(("dialogue",))["dialogue"].to_pylist()}
        dialogues = own.dialogues()
        chunks = Chunks(put, name)
        for one in own.asked:
            known = dialogues.get(one.id) if one.id in asked else None
            chunks.add(self._entry(None if known is None else self.of(runs[0], known)))
        return chunks.end()

    def _entry(self, chat: ArmChat | None) -> list[Any]:
        """[[turn, parts], …] of the changed turns, and the replies before the target that are the model's; [] where it is not asked."""
        if chat is None:
            return []
        return [[[turn, self.parts(message)] for turn, message in chat.changed.items()], [short(reply) for reply in chat.replies]]

    def _replies_of(self, slug: str) -> Mapping[str, tuple[str, ...]]:
        """Of the run whose arms have this slug: its replies before the targets; none under gold history."""
        run = next((one.run for one in self._plan.runs if one.slug == slug and not one.arm), None)
        if run is None or run.run["history"] != "own":
            return {}
        return replies_before_targets(cast(IitRun, run))
