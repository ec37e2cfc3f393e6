"""What both exports share: the dialogues that are written, and the count of those that the other tool cannot ask."""

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
Advance = Callable[[int], None]  # told how many dialogues were looked at since the last call


@dataclass(frozen=True)
class Asked:
    """One dialogue with its questions, the target last."""

    dialogue: Dialogue
    questions: tuple[Question, ...]

    @property
    def target(self) -> Question:
        return self.questions[-1]

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(image for question in self.questions for image in question.images)


@dataclass
class Plan:
    """What is exported. The writers count what they leave out and what they wrote."""

    benchmark: Benchmark
    tiers: Sequence[str]
    style: Style
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> dialogues
    written: dict[str, int] = field(default_factory=dict)  # tier -> dialogues
    _readable: dict[str, bool] = field(default_factory=dict)  # sha256 of an image

    def rows(self, tier: str, make: Callable[[Asked], Row | str], advance: Advance) -> Iterator[tuple[int, Asked, Row]]:
        """The dialogues of a tier in the benchmark's order, in which a run asks them, with their number and the row that `make` gives.

        A dialogue for which `make` gives a reason instead, or whose images cannot be read, is left out and counted.
        """
        questions = self.benchmark.questions
        mine = (dialogue for dialogue in self.benchmark.dialogues if dialogue.tier == tier)
        for number, dialogue in enumerate(mine):
            asked = Asked(dialogue, tuple(questions[turn] for turn in dialogue.turns))
            made = make(asked) if all(map(self._is_readable, asked.images)) else "an image cannot be read"
            if isinstance(made, str):
                self.left_out[made] += 1
            else:
                yield number, asked, made
            advance(1)

    def done(self, tier: str, count: int) -> None:
        """Note how many dialogues of a tier were written.

        Raises:
            UserError: none.
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
        return tuple(tier for tier in self.tiers if not visual_share(tier))

    @property
    def visual_tiers(self) -> tuple[str, ...]:
        return tuple(tier for tier in self.tiers if visual_share(tier))
