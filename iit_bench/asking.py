"""Renders a question as chat turns (docs/spec/iit.md#asking), for evaluation and for training.

Styles: `cloze` shows no choices and the reply is the choice's text; `options` shows the choices and the reply is the choice's text;
`letters` shows them with letters and the reply is the letter.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence

from iit_bench.errors import UserError
from iit_bench.types import IMAGE_MARK, Message, Part, Question, Style

LETTERS = string.ascii_uppercase


def user_message(question: Question, style: Style, connector: str = "", shown: Sequence[Part] | None = None) -> Message:
    """The user turn of `question`.

    Args:
        question: what is asked.
        style: how its choices are shown.
        connector: a transition sentence; it precedes the question and never changes its words.
        shown: parts that take the place of the question's words and images; None for its own.
    """
    parts = question_parts(question) if shown is None else tuple(shown)
    choice_list = _choice_list(question.choices, style)
    if choice_list:
        parts = (*parts, choice_list)
    if connector:
        parts = (connector + "\n", *parts)
    return Message("user", _join_text(parts))


def chat(
    questions: Sequence[Question], style: Style, connectors: Sequence[str] = (), given_replies: Sequence[str] | None = None
) -> tuple[Message, ...]:
    """The turns of a dialogue up to its last question. Earlier replies are `given_replies`, or the gold replies if it is None."""
    messages: list[Message] = []
    for turn, question in enumerate(questions):
        messages.append(user_message(question, style, connectors[turn] if connectors else ""))
        if turn < len(questions) - 1:
            messages.append(assistant_message(gold_reply(question, style) if given_replies is None else given_replies[turn]))
    return tuple(messages)


def assistant_message(reply: str) -> Message:
    """The assistant turn of a reply."""
    return Message("assistant", (reply,))


def without_images(message: Message) -> Message:
    """The message without its images.

    Images without marks are on a line of their own before the text; without them the text starts where that of a text question does.
    """
    return Message(message.role, (message.text.lstrip("\n"),)) if message.images else message


def check_letters(questions: Iterable[Question]) -> None:
    """Check that style `letters` has a letter for every choice.

    Raises:
        UserError: names the first question that has more choices.
    """
    for question in questions:
        if len(question.choices) > len(LETTERS):
            raise UserError(
                f"question {question.id!r} has {len(question.choices)} choices, and style letters has {len(LETTERS)} letters; "
                "use style options or cloze, or build without the question"
            )


def replies(question: Question, style: Style) -> tuple[str, ...]:
    """The reply for each choice, in the order of `question.choices`: its text, or its letter in style `letters`."""
    if style == "letters":
        return tuple(LETTERS[i] for i in range(len(question.choices)))
    return question.choices


def gold_reply(question: Question, style: Style) -> str:
    """The reply for the gold answer."""
    return replies(question, style)[question.answer]


def question_parts(question: Question) -> tuple[Part, ...]:
    """Text and images in reading order. Each mark is the place of an image; without marks, images precede the text on a line of their own.

    Raises:
        ValueError: the number of marks is neither 0 nor the number of images.
    """
    if not question.images:
        return (question.question,)
    pieces = question.question.split(IMAGE_MARK)
    if len(pieces) == 1:
        return (*question.images, "\n" + question.question)
    if len(pieces) - 1 != len(question.images):
        raise ValueError(f"question {question.id!r} has {len(pieces) - 1} {IMAGE_MARK} marks for {len(question.images)} images")
    parts: list[Part] = [pieces[0]]
    for image, text in zip(question.images, pieces[1:], strict=True):
        parts += [image, text]
    return tuple(part for part in parts if part != "")


def _choice_list(choices: Sequence[str], style: Style) -> str:
    if style == "cloze":
        return ""
    if style == "letters":
        lines = [f"{LETTERS[i]}. {choice}" for i, choice in enumerate(choices)]
        return "\n" + "\n".join(lines) + "\nAnswer with the letter of the right choice."
    return "\nChoices: " + "; ".join(choices) + "\nAnswer with one of the choices."


def _join_text(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Merge neighbouring text parts, so that equal chats have equal parts (and equal hashes)."""
    merged: list[Part] = []
    for part in parts:
        if merged and isinstance(part, str) and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)
