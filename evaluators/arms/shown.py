"""What an arm asked, for a page: the user turns that it changes, as messages (docs/spec/iit.md#arms). No model is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.arms.changes import Changes, NotAskedError
from evaluators.arms.names import of_tiers
from evaluators.iit.turns import Asking, Course, chat_of
from iit_bench.models.contract import GenerateRequest, ScoreRequest
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import Dialogue, Part


@dataclass(frozen=True)
class ArmChat:
    """One dialogue as an arm asked it; of `reordered`, with the choices moved by one place."""

    changed: Mapping[int, tuple[Part, ...]]  # 0-based turn → its message as it was asked: connector, words, images and list of choices
    replies: tuple[str, ...] = ()  # of history own: what the model replied to the turns before the target, in the run


class ArmChats:
    """Dialogues of one benchmark as arms asked them. What an arm draws is drawn once for all runs that were asked in one style."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self._changes: dict[Asking, Changes] = {}

    def of(self, arm: str, run: Mapping[str, Any], dialogue: Dialogue, replies: Sequence[str] = ()) -> ArmChat | None:
        """A dialogue as an arm asked it; None where the arm does not ask it.

        Args:
            arm: a name of `names.ARMS`.
            run: run.json of the run, or of its arm.
            dialogue: of the benchmark.
            replies: of history own, the run's replies to the turns before the target.
        """
        if not of_tiers(arm, (dialogue.tier,)):
            return None
        asking = Asking(style=run["style"], history=run["history"])  # the rest changes no message of the user
        if asking not in self._changes:
            self._changes[asking] = Changes(self._benchmark, asking)
        questions = tuple(self._benchmark.questions[turn] for turn in dialogue.turns)
        own = tuple(replies) if asking.history == "own" else ()
        course = Course(dialogue, questions, list(own))
        try:
            first = self._changes[asking].of(arm, course)[0]
        except NotAskedError:
            return None
        assert isinstance(first.request, ScoreRequest | GenerateRequest), "suite iit asks chats"
        asked, plain = first.request.messages, chat_of(course, len(questions) - 1, asking)
        turns = range(0, len(plain), 2)  # the user's; between them are the replies
        return ArmChat({place // 2: asked[place].parts for place in turns if asked[place] != plain[place]}, own)


def replies_before_targets(run: IitRun) -> Mapping[str, tuple[str, ...]]:
    """Of a run under own history, by dialogue: the replies to the turns before the target, in order."""
    names = ("dialogue", "position", "is_target", "reply")
    columns = run.prediction_columns(names)
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for dialogue, position, is_target, reply in _rows(columns, names):
        if not is_target:
            found[dialogue][position] = reply
    return {dialogue: tuple(reply for _, reply in sorted(replies.items())) for dialogue, replies in found.items()}


def _rows(columns: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(columns[name].to_pylist() for name in names), strict=True)
