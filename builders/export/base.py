"""What both exports share: the dialogues that are written, and the count of those that the other tool cannot ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from iit_bench.folders import Benchmark
from iit_bench.types import Dialogue, Question, Style, visual_share

File = tuple[str, bytes | str]  # path in the folder, content
Advance = Callable[[int], None]  # told how many dialogues were written since the last call


@dataclass(frozen=True)
class Asked:
    """One dialogue with its questions, the target last."""

    dialogue: Dialogue
    questions: tuple[Question, ...]

    @property
    def target(self) -> Question:
        return self.questions[-1]


@dataclass
class Plan:
    """What is exported. The writers count what they leave out and what they wrote."""

    benchmark: Benchmark
    tiers: Sequence[str]
    style: Style
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> dialogues
    written: dict[str, int] = field(default_factory=dict)  # tier -> dialogues

    def dialogues(self, tier: str) -> list[Asked]:
        """The dialogues of a tier, in the benchmark's order: the order in which a run asks them."""
        questions = self.benchmark.questions
        mine = (dialogue for dialogue in self.benchmark.dialogues if dialogue.tier == tier)
        return [Asked(dialogue, tuple(questions[turn] for turn in dialogue.turns)) for dialogue in mine]

    @property
    def text_tiers(self) -> tuple[str, ...]:
        return tuple(tier for tier in self.tiers if not visual_share(tier))

    @property
    def visual_tiers(self) -> tuple[str, ...]:
        return tuple(tier for tier in self.tiers if visual_share(tier))
