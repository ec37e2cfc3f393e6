"""What an arm asked, for a page: the user turns that it changes, as messages (docs/spec/iit.md#arms). No model is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.arms.chats import ChangedChats, NotAskedError, Target, orders
from evaluators.arms.names import of_tiers
from iit_bench.asking import chat
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import Dialogue, Message, Part, Question, Style


@dataclass(frozen=True)
class ArmChat:
    """One dialogue as an arm asked it; of `reordered`, with the choices moved by one place."""

    changed: Mapping[int, tuple[Part, ...]]  # 0-based turn → its message as it was asked: connector, words, images and list of choices
    replies: tuple[str, ...] = ()  # of history own: what the model replied to the turns before the target, in the run


class ArmChats:
    """Dialogues of one benchmark as arms asked them. What an arm draws is drawn once for all runs that were asked in one style."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self._changed: dict[Style, ChangedChats] = {}

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
        questions = tuple(self._benchmark.questions[turn] for turn in dialogue.turns)
        own = tuple(replies) if run["history"] == "own" else None
        plain = chat(questions, run["style"], dialogue.connectors, own)
        try:
            asked = self._asked(arm, run["style"], plain, dialogue, questions)
        except NotAskedError:
            return None
        turns = range(0, len(plain), 2)  # the user's; between them are the replies
        return ArmChat({place // 2: asked[place].parts for place in turns if asked[place] != plain[place]}, own or ())

    def _asked(
        self, arm: str, style: Style, plain: tuple[Message, ...], dialogue: Dialogue, questions: tuple[Question, ...]
    ) -> tuple[Message, ...]:
        if arm == "reordered":
            return (*plain[:-1], chat((orders(questions[-1])[0],), style, dialogue.connectors[-1:])[-1])
        if style not in self._changed:
            self._changed[style] = ChangedChats(self._benchmark, style)
        return self._changed[style].of(arm, plain, Target(dialogue, questions[-1]))


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
