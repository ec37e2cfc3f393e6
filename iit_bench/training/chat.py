"""From dialogues to token ids and labels, in exactly the form in which evaluators ask (`iit_bench.asking`, style cloze).

Processes that only check records import it, and torch would take ten times the memory of all the rest there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from iit_bench import asking
from iit_bench.errors import UserError, one_line
from iit_bench.models.rendering import apply_template
from iit_bench.types import Image, Message, Question

IGNORED = -100  # label of a token that is not trained on


@dataclass(frozen=True)
class Row:
    """One rendered dialogue."""

    ids: list[int]
    labels: list[int]  # ids of the assistant's replies and their end-of-turn; IGNORED elsewhere. Not shifted.
    images: tuple[Image, ...]
    id: str = ""  # file and number of the record; empty for a dialogue that is drawn

    @property
    def labelled(self) -> int:
        """How many tokens are trained on: the first of a row follows no token."""
        return sum(label != IGNORED for label in self.labels[1:])


def messages(dialogue: Sequence[Question]) -> list[Message]:
    """User and assistant turns with gold replies."""
    turns = []
    for question in dialogue:
        turns += [asking.user_message(question, "cloze"), asking.assistant_message(asking.gold_reply(question, "cloze"))]
    return turns


def as_template_input(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: content is a list of text and image parts."""
    return [
        {
            "role": turn.role,
            "content": [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in turn.parts],
        }
        for turn in turns
    ]


def check_template(tokenizer: Any, what: str, fix: str) -> None:
    """Refuse a tokenizer whose chat template is missing, or fails on a question and its answer.

    Args:
        tokenizer: of transformers.
        what: where it is from, the sentence's beginning.
        fix: its end.

    Raises:
        UserError: it does.
    """
    if not tokenizer.chat_template:
        raise UserError(f"{what} has no chat template; {fix}")
    try:
        render(tokenizer, [Message("user", ("?",)), Message("assistant", ("!",))])
    except TemplateError as error:
        raise UserError(f"{what}: its chat template: {one_line(error)}; {fix}") from error


def render(tokenizer: Any, turns: Sequence[Message], generation_prompt: bool = False) -> str:
    """The chat as text, in the tokenizer's own template. Raises jinja2.TemplateError as `apply_template`."""
    return apply_template(tokenizer, as_template_input(turns), add_generation_prompt=generation_prompt)


def encode(tokenizer: Any, turns: Sequence[Message], image_tokens: int = 1) -> Row:
    """Token ids and labels of a chat; the assistant's messages are trained on (docs/spec/wings.md#b13-training).

    Args:
        tokenizer: a fast tokenizer with a chat template that writes replies word for word.
        turns: the chat's messages in order.
        image_tokens: how often an image's mark is repeated in the ids.

    Raises:
        UserError: the chat is longer than the model's context.
    """
    row, replies = encode_any(tokenizer, turns, image_tokens)
    if len(row.ids) > tokenizer.model_max_length:
        raise UserError(
            f"a training dialogue of {replies} turns has {len(row.ids)} tokens, and the model's context is "
            f"{tokenizer.model_max_length}; lower data.turns, or raise model.context of the base LLM"
        )
    return row


def encode_any(tokenizer: Any, turns: Sequence[Message], image_tokens: int = 1) -> tuple[Row, int]:
    """As `encode`, of any length; and the number of replies."""
    text = render(tokenizer, turns)
    frame = _frame(tokenizer, tokenizer.chat_template)
    spans = (_found(text, turns, *frame) if frame else None) or _marked(tokenizer, text, turns)
    return tokens(tokenizer, text, spans, turns=turns, image_tokens=image_tokens), len(spans)


def _marked(tokenizer: Any, text: str, turns: Sequence[Message]) -> list[tuple[int, int]]:
    """Characters of each reply, end-of-turn included, where the chat rendered with marks in place of its replies has the marks.

    What the template writes before a reply is not learned, as the empty thought that some write before the last one only.

    Raises:
        UserError: the template writes a reply in other words, or ends replies in several ways.
    """
    replies = [turn.text for turn in turns if turn.role == "assistant"]
    marks = [f"\ue000{number}\ue001" for number in range(len(replies))]  # private-use characters, in no text that is checked here
    names = iter(marks)
    marked = render(tokenizer, [Message(turn.role, (next(names),)) if turn.role == "assistant" else turn for turn in turns])
    pieces = re.split("|".join(marks), marked) if marks else [marked]
    if len(pieces) != len(replies) + 1 or not text.startswith(pieces[0]):
        raise _rewritten()
    spans, place = [], len(pieces[0])
    end = pieces[-1].rstrip() if turns[-1].role == "assistant" else _end(tokenizer)
    for reply, piece in zip(replies, pieces[1:], strict=True):
        written = next((form for form in (reply, reply.strip()) if text.startswith(form + piece, place)), None)
        if written is None or not piece.startswith(end):
            raise _rewritten()
        spans.append((place, place + len(written) + len(end)))
        place += len(written) + len(piece)
    if place != len(text):
        raise _rewritten()
    return spans


def _end(tokenizer: Any) -> str:
    """What the template writes after the last reply of a chat."""
    mark = "\ue000"
    return render(tokenizer, [Message("user", ("a",)), Message("assistant", (mark,))]).rpartition(mark)[2].rstrip()


def _rewritten() -> UserError:
    return UserError(
        "the chat template writes replies in other words than they have, so what is learned is not what is asked for; set inputs.template "
        "to chatml, or give the tokenizer a template that only appends"
    )


@lru_cache(maxsize=8)
def _frame(tokenizer: Any, template: str) -> tuple[str, str] | None:
    """What the template writes before and after every reply; None if that is not constant, or could be part of a text."""
    asked = [Message("user", ("a",))]
    bare, before = render(tokenizer, asked), render(tokenizer, asked, generation_prompt=True)
    whole = render(tokenizer, [*asked, Message("assistant", ("b",))]).rstrip()
    header, end = before.removeprefix(bare), whole.removeprefix(before + "b")
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    known = before.startswith(bare) and whole.startswith(before + "b") and end and any(mark in header for mark in special)
    return (header, end) if known else None


def _found(text: str, turns: Sequence[Message], header: str, end: str) -> list[tuple[int, int]] | None:
    """As `_marked`, found in the text, which saves a rendering; None if a reply is not there word for word."""
    replies = [turn.text for turn in turns if turn.role == "assistant"]
    if text.count(header) != len(replies):
        return None
    spans, place = [], 0
    for reply in replies:
        place = text.find(header, place) + len(header)
        if not text.startswith(reply + end, place):
            return None
        spans.append((place, place + len(reply) + len(end)))
        place += len(reply) + len(end)
    return spans


def tokens(tokenizer: Any, text: str, spans: Sequence[tuple[int, int]], turns: Sequence[Message], image_tokens: int) -> Row:
    """Tokenise a rendered chat; tokens inside one of the character `spans` are labelled."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    mark = tokenizer.convert_tokens_to_ids("<image>")
    ids: list[int] = []
    labels: list[int] = []
    for token, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        labelled = any(first <= start and end <= last for first, last in spans)
        repeat = image_tokens if token == mark else 1
        ids += [token] * repeat
        labels += [token if labelled else IGNORED] * repeat
    return Row(ids, labels, tuple(image for turn in turns for image in turn.images))
