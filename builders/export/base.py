"""Shared by both exports: iterating over the dialogues, and counting those that the other tool cannot run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.errors import UserError
from iit_bench.images import is_readable
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Image, Question, Style, visual_share

File = tuple[str, bytes | str]  # path in the folder, content
Row = dict[str, Any]
Advance = Callable[[int], None]  # called with the number of dialogues handled since the last call


@dataclass(frozen=True)
class ResolvedDialogue:
    """A dialogue with the questions that its ids refer to, the target last."""

    dialogue: Dialogue
    questions: tuple[Question, ...]

    @property
    def target(self) -> Question:
        """The last question."""
        return self.questions[-1]

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of all questions, in order."""
        return tuple(image for question in self.questions for image in question.images)


@dataclass(frozen=True)
class LeftOut:
    """Why a dialogue is not exported."""

    reason: str


@dataclass(kw_only=True)
class Plan:
    """What to export, and counts of what was written and left out, filled while the files are written."""

    benchmark: Benchmark
    tiers: Sequence[str]
    style: Style
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> dialogues
    written: dict[str, int] = field(default_factory=dict)  # tier -> dialogues
    _readable: dict[str, bool] = field(default_factory=dict)  # sha256 of an image -> it decodes

    def rows(
        self, tier: str, make_row: Callable[[ResolvedDialogue], Row | LeftOut], advance: Advance
    ) -> Iterator[tuple[int, ResolvedDialogue, Row]]:
        """(index in the tier, dialogue, row) of each dialogue of a tier, in the benchmark's order, which is that of a run.

        A dialogue that `make_row` rejects, or that has an unreadable image, is counted in `left_out`.
        """
        questions = self.benchmark.questions
        in_tier = (dialogue for dialogue in self.benchmark.dialogues if dialogue.tier == tier)
        for index, dialogue in enumerate(in_tier):
            resolved = ResolvedDialogue(dialogue, tuple(questions[turn] for turn in dialogue.turns))
            row = make_row(resolved) if all(map(self._is_readable, resolved.images)) else LeftOut("an image cannot be read")
            if isinstance(row, LeftOut):
                self.left_out[row.reason] += 1
            else:
                yield index, resolved, row
            advance(1)

    def record_written(self, tier: str, count: int) -> None:
        """Record how many dialogues of a tier were written.

        Raises:
            UserError: the count is 0.
        """
        if not count:
            raise UserError(f"no dialogue of tier {tier} can be exported ({', '.join(self.left_out)}); leave it out with --tiers")
        self.written[tier] = count

    def _is_readable(self, image: Image) -> bool:
        if image.sha256 not in self._readable:
            self._readable[image.sha256] = is_readable(image)
        return self._readable[image.sha256]

    @property
    def text_tiers(self) -> tuple[str, ...]:
        """The tiers without images."""
        return tuple(tier for tier in self.tiers if not visual_share(tier))

    @property
    def visual_tiers(self) -> tuple[str, ...]:
        """The tiers with images."""
        return tuple(tier for tier in self.tiers if visual_share(tier))
