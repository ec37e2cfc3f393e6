"""From dialogues to requests, and from answers to predictions: who is asked what, in which round (docs/spec/iit.md#asking).

Under gold history every target is one request of a single round. Under own history round p asks turn p of every dialogue, with the model's
own replies to the turns before it; equal prefixes become equal requests, which the engine answers once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators.iit.extraction import read_reply
from iit_bench.asking import chat, replies
from iit_bench.engine.log import Response
from iit_bench.engine.plan import Request
from iit_bench.engine.run import Failure
from iit_bench.models.contract import GenerateRequest, ScoreRequest, ScoreResult
from iit_bench.models.reasoning import split_text
from iit_bench.types import Dialogue, History, Message, Outcome, Prediction, Question, Scoring, Style


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How every question of a run is put."""

    scoring: Scoring = "loglikelihood"
    style: Style = "cloze"
    history: History = "gold"
    system_prompt: str = ""
    max_new_tokens: int = 32
    reasoning_tokens: int = 0  # that a model may reason before a generated reply


@dataclass
class Course:
    """The state of one dialogue while its turns are asked, round by round."""

    dialogue: Dialogue
    questions: tuple[Question, ...]  # one per turn
    own_replies: list[str] = field(default_factory=list)  # of history own: the model's, so far
    failure: Failure | None = None  # a turn failed: the turns after it cannot be asked


class Rendering:
    """A benchmark's chats as requests, each made once: several models that are asked in the same way share them.

    Under own history a chat holds the model's replies, so there nothing is kept.
    """

    def __init__(self, questions: Mapping[str, Question]) -> None:
        self._questions = questions
        self._made: dict[tuple[str, Asking], Request] = {}

    def course(self, dialogue: Dialogue) -> Course:
        """A dialogue that nobody was asked yet."""
        return Course(dialogue, tuple(self._questions[turn] for turn in dialogue.turns))

    def request(self, course: Course, position: int, asking: Asking) -> Request:
        """As the function `request`."""
        if asking.history == "own":
            return request(course, position, asking)
        key = (course.dialogue.id, asking)
        if key not in self._made:
            self._made[key] = request(course, position, asking)
        return self._made[key]


def rounds(courses: Sequence[Course], asking: Asking) -> Iterator[list[tuple[Course, int]]]:
    """The (course, position) pairs of each round, in order; a round is drawn after the answers of the one before are in."""
    if asking.history == "gold":
        yield [(course, len(course.questions) - 1) for course in courses]
        return
    for position in range(max((len(course.questions) for course in courses), default=0)):
        yield [(course, position) for course in courses if position < len(course.questions)]


def request(course: Course, position: int, asking: Asking) -> Request:
    """The request that asks turn `position`."""
    return asked(chat_of(course, position, asking), course.questions[position], asking)


def asked(messages: tuple[Message, ...], question: Question, asking: Asking) -> Request:
    """The request that puts a chat which ends in `question`."""
    if asking.scoring == "loglikelihood":
        return ScoreRequest(messages, replies(question, asking.style))
    return GenerateRequest(messages, asking.max_new_tokens, asking.reasoning_tokens)


def chat_of(course: Course, position: int, asking: Asking) -> tuple[Message, ...]:
    """The chat that asks turn `position`."""
    system = (Message("system", (asking.system_prompt,)),) if asking.system_prompt else ()
    own = None if asking.history == "gold" else course.own_replies
    return (*system, *chat(course.questions[: position + 1], asking.style, course.dialogue.connectors, own))


def prediction(course: Course, position: int, answer: Response | Failure, asking: Asking) -> Prediction:
    """The record of one scored turn."""
    question, dialogue = course.questions[position], course.dialogue
    fields = _scored(question, answer, asking) if not isinstance(answer, Failure) else _failed()
    return Prediction(
        dialogue=dialogue.id,
        position=position,
        is_target=position == len(course.questions) - 1,
        tier=dialogue.tier,
        group=dialogue.group,
        question=question.id,
        source=question.source,
        subject=question.subject,
        cluster=question.cluster,
        modality=question.modality,
        choices=question.choices,
        answer=question.answer,
        history_clusters=tuple(earlier.cluster for earlier in course.questions[:position]),
        **fields,
    )


def _scored(question: Question, answer: Response, asking: Asking) -> dict:
    if isinstance(answer, ScoreResult):
        texts = replies(question, asking.style)
        chosen = _argmax(answer.logprobs)
        return {
            "logprobs": answer.logprobs,
            "choice_tokens": answer.tokens,
            "chosen": chosen,
            "chosen_norm": _argmax([p / len(text) for p, text in zip(answer.logprobs, texts, strict=True)]),
            "chosen_bytes": _argmax([p / len(text.encode()) for p, text in zip(answer.logprobs, texts, strict=True)]),
            "outcome": _outcome(chosen, question.answer),
            "reply": texts[chosen],
            "prompt_tokens": answer.prompt_tokens,
            "reply_tokens": sum(answer.tokens),
        }
    answer = split_text(answer)  # logs of earlier versions hold reasoning in the text
    chosen, evidence = (-1, "nothing") if answer.unfinished_reasoning else read_reply(answer.text, question.choices, asking.style)
    cut = answer.unfinished_reasoning or (chosen < 0 and answer.finish_reason == "length")
    return {
        "logprobs": (),
        "choice_tokens": (),
        "chosen": chosen,
        "chosen_norm": chosen,
        "chosen_bytes": chosen,
        "outcome": "truncated" if cut else _outcome(chosen, question.answer),
        "evidence": evidence,
        "reply": answer.text,
        "prompt_tokens": answer.prompt_tokens,
        "reply_tokens": answer.new_tokens,
        "finish_reason": answer.finish_reason,
        "reasoning": answer.reasoning,
        "reasoning_tokens": answer.reasoning_tokens,
    }


def error_line(course: Course, position: int, failure: Failure) -> dict[str, Any]:
    """The line of errors.jsonl for a turn that failed."""
    return {
        "dialogue": course.dialogue.id,
        "position": position,
        "tier": course.dialogue.tier,
        "question": course.questions[position].id,
        "kind": failure.kind,
        "reason": failure.reason,
        "detail": failure.detail,
    }


def _failed() -> dict:
    empty: Mapping[str, tuple[float, ...] | tuple[int, ...]] = {"logprobs": (), "choice_tokens": ()}
    nothing = {"chosen": -1, "chosen_norm": -1, "chosen_bytes": -1, "prompt_tokens": 0, "reply_tokens": 0}
    return {**empty, **nothing, "outcome": "error", "reply": ""}


def _argmax(values: Sequence[float]) -> int:
    """Index of the largest; the first of equals, as lm-eval's numpy argmax does."""
    return max(range(len(values)), key=lambda i: values[i])


def _outcome(chosen: int, answer: int) -> Outcome:
    if chosen < 0:
        return "unparsed"
    return "correct" if chosen == answer else "wrong"
