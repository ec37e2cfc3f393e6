"""Where a reply begins: the delimiter that a chat template writes before it, and the border of prompt and reply in tokens.

A reply is scored as it reads in the history of a later turn (docs/spec/iit.md#scoring): the tokens are those of the rendered chat with the
reply in it, and the delimiter that the template writes between the generation prompt and a reply belongs to the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.models.rendering import Turn, apply_template, encode_prompt
from iit_bench.types import Message

Encode = Callable[[str], list[int]]  # text -> token ids
QUESTION = "Which one?"
REPLY = chr(0xFDEF)  # one of Unicode's noncharacters: never in a template's own text


@dataclass(frozen=True)
class Delimiter:
    """What a chat template writes before a reply in a chat, where that differs from its generation prompt."""

    dropped: str = ""  # end of the generation prompt that is not before a reply in a chat, e.g. "<think>\n"
    added: str = ""  # what is there instead, e.g. the space of "ASSISTANT: Paris" after the generation prompt "ASSISTANT:"

    def context(self, prompt: str) -> str:
        """The text before a reply to the chat that is rendered as `prompt`; unchanged where the prompt ends in another way."""
        return prompt.removesuffix(self.dropped) + self.added if prompt.endswith(self.dropped) else prompt

    def settings(self) -> dict[str, Any]:
        """For `ModelInfo.settings`: empty where the generation prompt is all that comes before a reply."""
        return {"reply_delimiter": asdict(self)} if self.dropped or self.added else {}


def learn_delimiter(renderer: Any, to_turns: Callable[[Sequence[Message]], list[Turn]], **settings: Any) -> Delimiter:
    """Compare a chat with a reply in it to its generation prompt.

    A template that refuses the chat, or that renders the question differently once there is a reply, has no delimiter to be learned.

    Args:
        renderer: a tokenizer or processor of transformers.
        to_turns: the form of a chat that its template takes.
        settings: further arguments of the template.
    """
    from jinja2 import TemplateError

    question = Message("user", (QUESTION,))
    chat = [question, Message("assistant", (REPLY,))]
    try:
        prompt = apply_template(renderer, to_turns([question]), add_generation_prompt=True, **settings)
        whole = apply_template(renderer, to_turns(chat), **settings)
    except TemplateError:
        return Delimiter()
    before, reply, _ = whole.rpartition(REPLY)
    shared = 0
    while prompt[shared : shared + 1] == before[shared : shared + 1] != "":
        shared += 1
    if not reply or QUESTION not in prompt[:shared]:
        return Delimiter()
    return Delimiter(dropped=prompt[shared:], added=before[shared:])


@dataclass(frozen=True, kw_only=True)
class EncodedReplies:
    """A prompt in tokens and the replies to it.

    Attributes:
        text: the rendered chat as far as `prompt` covers it: white space at its end that is one token with a reply is left out.
        prompt: its token ids.
        replies: token ids of each reply.
        merged: how many replies would share a token with the prompt's last word; they are tokenised by themselves.
    """

    text: str
    prompt: list[int]
    replies: list[list[int]] = field(default_factory=list)
    merged: int = 0


def encode_replies(tokenizer: Any, context: str, replies: Sequence[str]) -> EncodedReplies:
    """Tokens of replies after `context` (of `Delimiter.context`), special tokens before it included; see `cut_replies`.

    Raises:
        ItemError: a reply has no token of its own.
    """
    return cut_replies(lambda text: encode_prompt(tokenizer, text), context, replies)


def cut_replies(encode: Encode, context: str, replies: Sequence[str]) -> EncodedReplies:
    """Encode context and reply in one piece, and cut where the reply's first token begins.

    White space at the context's end is part of the prompt, unless it is one token with the beginning of a reply (" Paris"): then the cut is
    before it, and before it for all replies: their probabilities are those of alternatives only after the same prompt. A reply whose first
    letters are one token with the context's last word ("：巴") is tokenised by itself.

    Raises:
        ItemError: a reply has no token of its own.
    """
    wholes = [encode(context + reply) for reply in replies]
    best: tuple[int, str, list[int]] = (-1, "", [])  # number of replies after it, text, tokens
    for end in range(len(context), len(context.rstrip()) - 1, -1):
        prompt = encode(context[:end])
        after = sum(whole[: len(prompt)] == prompt for whole in wholes)
        if after > best[0]:
            best = (after, context[:end], prompt)
        if after == len(wholes):
            break
    after, text, prompt = best
    tokens = [
        whole[len(prompt) :] if whole[: len(prompt)] == prompt else _alone(encode, context[len(text) :] + reply)
        for whole, reply in zip(wholes, replies, strict=True)
    ]
    for reply, own in zip(replies, tokens, strict=True):
        if not own or not reply:
            raise ItemError("reply without tokens", f"{reply!r} has no token of its own after {context[-20:]!r}")
    return EncodedReplies(text=text, prompt=prompt, replies=tokens, merged=len(wholes) - after)


def _alone(encode: Encode, text: str) -> list[int]:
    """Tokens of a text after a line break, which keeps tokenizers from putting a space before it."""
    before, whole = encode("\n"), encode("\n" + text)
    return whole[len(before) :] if whole[: len(before)] == before else whole
