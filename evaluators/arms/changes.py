"""What each arm asks of a target: the requests of its changed chat (docs/spec/iit.md#arms)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evaluators.arms.chats import ChangedChats, Target, orders
from evaluators.iit.turns import Asking, Course, asked, chat_of, request
from iit_bench.engine.plan import Request
from iit_bench.storage.benchmark import Benchmark


@dataclass(frozen=True)
class Changed:
    """A target as an arm asks it once: its dialogue, with the target's choices in the order that is asked, and the request."""

    course: Course
    request: Request


class Changes:
    """The arms of one benchmark, asked in one way."""

    def __init__(self, benchmark: Benchmark, asking: Asking) -> None:
        self._asking = asking
        self._chats = ChangedChats(benchmark, asking.style)

    def of(self, arm: str, course: Course) -> tuple[Changed, ...]:
        """A target as the arm asks it: once; of `reordered`, with the choices moved by 1, 2, … k - 1 places.

        Raises:
            NotAskedError: the arm does not change it, or cannot.
        """
        last, question = len(course.questions) - 1, course.questions[-1]
        if arm == "reordered":
            turned = [replace(course, questions=(*course.questions[:-1], one)) for one in orders(question)]
            return tuple(Changed(one, request(one, last, self._asking)) for one in turned)
        changed = self._chats.of(arm, chat_of(course, last, self._asking), Target(course.dialogue, question))
        return (Changed(course, asked(changed, question, self._asking)),)
