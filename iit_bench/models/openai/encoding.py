"""Requests as an OpenAI-compatible server takes them, and its replies as ours: pure functions."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.errors import UserError
from iit_bench.http import UnusableError
from iit_bench.images import of_item, portable
from iit_bench.models.contract import GenerateResult, TextGenerateRequest, cut_at
from iit_bench.types import Image, Message

CHAT = "\x00chat:"  # before a chat that lm-eval carries around as a text; no task's own text begins so
STOPS = 4  # stop strings that OpenAI's protocol allows; the others are cut off here
REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_details")  # of a message, in which servers return it
REASONING_PARTS = ("thinking", "reasoning")  # types of parts of a content that are reasoning, and the names of their texts
MOST_CHARACTERS = 2**24  # of a reply, and of its reasoning
MOST_WORD = 100  # characters of a finish reason
MOST_TOKENS = 2**31 - 1  # of a prompt or a reply
_MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif"}  # Pillow's name of a format that servers read -> media type


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """What a server calls the limit of a reply's length, whether it takes a temperature, and what it is to give its chat template."""

    length_limit: str
    takes_temperature: bool
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


# In the order of probing. OpenAI's reasoning models take neither `max_tokens` nor a temperature.
SPELLINGS = (
    Spelling(length_limit="max_tokens", takes_temperature=True),
    Spelling(length_limit="max_completion_tokens", takes_temperature=True),
    Spelling(length_limit="max_completion_tokens", takes_temperature=False),
)

# ---------------------------------------------------------------- requests


def chat_body(model: str, spelling: Spelling, chat: Sequence[Mapping[str, Any]], max_new_tokens: int, **settings: Any) -> dict[str, Any]:
    """For /chat/completions: greedy unless `settings` say otherwise."""
    how = {"temperature": 0} | settings
    if not spelling.takes_temperature:
        del how["temperature"]
    if spelling.template_kwargs:
        how["chat_template_kwargs"] = dict(spelling.template_kwargs)
    return {"model": model, "messages": list(chat), spelling.length_limit: max_new_tokens, **how}


def echo_body(model: str, prompts: Sequence[list[int]]) -> dict[str, Any]:
    """For /completions: log-probabilities of the tokens of prompts."""
    return {"model": model, "prompt": list(prompts), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def decoding_settings(request: TextGenerateRequest) -> dict[str, Any]:
    """lm-eval's settings in OpenAI's names.

    Raises:
        UserError: a setting that the protocol does not have.
    """
    given = dict(request.settings)
    sampled = given.pop("do_sample", False)
    if unknown := sorted(set(given) - {"temperature", "top_p", "seed"}):
        raise UserError(f"a server takes temperature, top_p and seed only, not {', '.join(unknown)}; leave it out of --gen-kwargs")
    how = {"temperature": 1.0, "seed": request.repeat} | given if sampled else {"temperature": 0}
    stops = [stop for stop in request.until if stop][:STOPS]
    return how | ({"stop": stops} if stops else {})


def chat_to_text(chat: Sequence[Mapping[str, Any]]) -> str:
    """A chat as a text that `text_to_chat` reads back."""
    return CHAT + json.dumps(list(chat))


def text_to_chat(text: str) -> list[dict[str, Any]] | None:
    """The chat of `chat_to_text`; None for any other text."""
    if not text.startswith(CHAT):
        return None
    chat: list[dict[str, Any]] = json.loads(text.removeprefix(CHAT))
    return chat


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A chat: a string if it is text only, text and images as parts in reading order.

    Raises:
        ItemError: the bytes of an image are no image.
    """
    return [{"role": message.role, "content": _content(message)} for message in messages]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    return [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in message.parts
    ]


def data_url(image: Image) -> str:
    """The file itself where servers can read it and cannot differ in how it is shown, else the same picture as PNG.

    Raises:
        ItemError: the bytes are no image.
    """
    with of_item(image):  # a file that is cut off is the item's error, not the server's
        data, kind = portable(image, _MEDIA)
    return f"data:{_MEDIA[kind]};base64,{base64.b64encode(data).decode()}"


# ---------------------------------------------------------------- replies; raise one of client.MALFORMED where one has another shape


def read_chat(reply: Any) -> GenerateResult:
    """The reply of /chat/completions: content as a text or as a list of parts, reasoning apart, a refusal as its own text.

    "" if it has no content. Then it ends inside its reasoning, where the server returns or counts some.
    """
    choice = _choices(reply)[0]
    message = choice["message"]
    text, in_parts = _content_of(message.get("content"))
    fields = [_text_of(message.get(name)) for name in REASONING_FIELDS]
    reasoning = next(filter(None, fields), "") or in_parts  # some servers send it under two names
    tokens = _reasoning_tokens(reply)
    return GenerateResult(
        _bounded(text or str(message.get("refusal") or "")),
        *counts(reply),
        finish_reason=_finish_reason(choice),
        reasoning=_bounded(reasoning).strip(),
        reasoning_tokens=tokens,
        unfinished_reasoning=bool(reasoning or tokens) and not text.strip() and not message.get("refusal"),
    )


def _content_of(content: Any) -> tuple[str, str]:
    """Text and reasoning of a message's content."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise TypeError("content is neither a text nor a list of parts")
    reasons = [isinstance(part, dict) and part.get("type") in REASONING_PARTS for part in content]
    parts = [("", _text_of(part)) if reasoning else (_text_of(part), "") for part, reasoning in zip(content, reasons, strict=True)]
    return "".join(text for text, _ in parts), "".join(reasoning for _, reasoning in parts)


def _text_of(part: Any) -> str:
    """The text in a part of a content, in a list of parts, or in a field of reasoning; "" where there is none."""
    if part is None or isinstance(part, str):
        return part or ""
    if isinstance(part, list):
        return "".join(map(_text_of, part))
    if isinstance(part, dict):
        return _text_of(next((part[name] for name in ("text", *REASONING_PARTS, "content", "summary") if part.get(name)), None))
    raise TypeError("a part of the content is no text")


def read_text(reply: Any) -> GenerateResult:
    """The reply of /completions."""
    choice = _choices(reply)[0]
    text = choice["text"]
    if not isinstance(text, str):
        raise TypeError("text is no text")
    return GenerateResult(_bounded(text), *counts(reply), finish_reason=_finish_reason(choice))


def _bounded(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise UnusableError(f"it has {len(text):,} characters")
    return text


def _finish_reason(choice: Mapping[str, Any]) -> str:
    return str(choice.get("finish_reason") or "")[:MOST_WORD]


def read_echo(reply: Any, prompts: int) -> list[tuple[list[float | None], list[Mapping[str, float] | None]]]:
    """The reply of /completions to `echo_body`: per prompt, each token's log-probability and the most likely tokens in its place."""
    choices = sorted(_choices(reply), key=lambda choice: choice.get("index", 0))
    if len(choices) != prompts:
        raise ValueError(f"{len(choices)} choices for {prompts} prompts")
    return [(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]) for choice in choices]


def cut_reply(result: GenerateResult, stops: Sequence[str]) -> GenerateResult:
    """The reply up to the first stop string: servers take few of them, and some leave the last one in."""
    return dataclasses.replace(result, text=cut_at(result.text, stops))


def counts(reply: Any) -> tuple[int, int]:
    """Prompt and reply tokens, as the server counts them; 0, 0 if it does not report them."""
    usage = reply.get("usage") or {}
    return count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))


def count_of(value: Any) -> int:
    """A number of tokens that a server reports; 0 if it reports none.

    Raises:
        UnusableError: it is negative, infinite or larger than MOST_TOKENS.
    """
    try:
        if 0 <= (count := int(value or 0)) <= MOST_TOKENS:
            return count
    except (OverflowError, ValueError):
        pass
    raise UnusableError(f"it counts {str(value)[:20]} tokens")


def _reasoning_tokens(reply: Any) -> int:
    details = (reply.get("usage") or {}).get("completion_tokens_details") or {}
    return count_of(details.get("reasoning_tokens"))


def _choices(reply: Any) -> list[Any]:
    choices = reply["choices"]
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    return choices
