"""What `iit-bench show` and `iit-bench diff` print: the question of an item with its history, and the answers that runs gave to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench import images
from iit_bench.asking import question_parts
from iit_bench.types import Image, Outcome, Prediction, Question, TaskItem

Key = tuple[str, int | str]  # (dialogue, position) of suite iit, (task, item) of the suites text and vqa
_DIGITS = 8  # of an image's sha256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A scored turn or item, whatever was answered."""

    id: str  # Dialogue.id, or TASK/ITEM
    position: int | None = None  # of the scored turn; None in the suites text and vqa
    tier: str = ""
    source: str = ""  # of a task item: the task
    subject: str = ""
    question: str = ""  # id of the scored question
    turns: tuple[str, ...] = ()  # words of the turns up to the scored one, images as `[image WxH sha256…]`; () = not at hand
    gold_replies: tuple[str, ...] = ()  # gold answer of each turn before the scored one
    choices: tuple[str, ...] = ()  # in the order asked
    answer: int | None = None  # index of the gold answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """What one run answered."""

    run: str  # its name
    outcome: Outcome
    reply: str  # generated text without reasoning, or the chosen choice
    chosen: int | None = None  # index of the choice; None = none
    logprobs: tuple[float, ...] = ()  # per choice, nats; () where replies are generated
    score: float | None = None  # of a task item
    metric: str = ""  # of that score
    reasoning: str = ""
    evidence: str = ""  # how the choice was found in the reply
    finish_reason: str = ""
    earlier: tuple[str, ...] = ()  # own history: the model's replies to the turns before
    why: str = ""  # of an error: reason and message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """An item with the answer of one run, or of two in the order given."""

    asked: Asked
    answers: tuple[Answered, ...]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**dataclasses.asdict(self.asked), "answers": [dataclasses.asdict(one) for one in self.answers]}


def asked_of_turn(row: Prediction, questions: Sequence[Question]) -> Asked:
    """The dialogue up to the turn that was scored.

    Args:
        row: the scored turn.
        questions: of the turns up to it; none where the benchmark is not at hand.
    """
    return Asked(
        id=row.dialogue,
        position=row.position,
        tier=row.tier,
        source=row.source,
        subject=row.subject,
        question=row.question,
        turns=tuple(words_of(question) for question in questions),
        gold_replies=tuple(question.answer_text for question in questions[:-1]),
        choices=row.choices,
        answer=row.answer,
    )


def words_of(question: Question) -> str:
    """A question's words, each image as `[image WxH sha256…]` in its place."""
    return "".join(part if isinstance(part, str) else described_image(part) for part in question_parts(question))


def described_image(image: Image) -> str:
    """An image in words: its size in pixels and the first digits of its sha256."""
    digits = image.sha256[:_DIGITS]
    try:
        with images.opened(image.data) as picture:
            return f"[image {picture.width}x{picture.height} {digits}…]"
    except images.decoding_errors() as error:
        return f"[unreadable image, {len(image.data):,} bytes, {digits}…: {type(error).__name__}]"


def answered_turn(name: str, row: Prediction, why: str, earlier: Sequence[str] = ()) -> Answered:
    """The answer to a scored turn of suite iit."""
    return Answered(
        run=name,
        outcome=row.outcome,
        reply=row.reply,
        chosen=row.chosen if row.chosen >= 0 else None,
        logprobs=row.logprobs,
        reasoning=row.reasoning,
        evidence=row.evidence,
        finish_reason=row.finish_reason,
        earlier=tuple(earlier),
        why=why,
    )


def asked_of_item(item: TaskItem, turns: tuple[str, ...] = (), choices: tuple[str, ...] = (), answer: int | None = None) -> Asked:
    """An item of the suites text and vqa, with its words where the tool's own files hold them."""
    return Asked(id=f"{item.task}/{item.item}", source=item.task, question=item.item, turns=turns, choices=choices, answer=answer)


def answered_item(name: str, item: TaskItem, why: str, logprobs: tuple[float, ...] = (), chosen: int | None = None) -> Answered:
    """The answer to an item of the suites text and vqa."""
    return Answered(
        run=name,
        outcome=item.outcome,
        reply=item.reply,
        chosen=chosen,
        logprobs=logprobs,
        score=item.score,
        metric=item.metric,
        why=why,
    )


def reasons(errors: Sequence[Mapping[str, Any]]) -> dict[Key, str]:
    """Why items failed, of the lines of errors.jsonl."""
    found: dict[Key, str] = {}
    for line in errors:
        key: Key = (line["dialogue"], line["position"]) if "dialogue" in line else (line["task"], line["item"])
        found[key] = f"{line['reason']}: {line['detail']}" if line.get("detail") else str(line["reason"])
    return found
