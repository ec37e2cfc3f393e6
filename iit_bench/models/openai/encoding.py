"""Chats as an OpenAI-compatible server takes them, and its replies as ours: pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.images import encode, of_item, opened
from iit_bench.models.contract import GenerateResult
from iit_bench.types import Image, Message

_MEDIA = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}  # by the first bytes of the file


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A chat: text alone as a string, text and images as parts in reading order.

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
    """The file itself where servers can read its format, else the same picture as PNG.

    Raises:
        ItemError: the bytes are no image.
    """
    with of_item(image), opened(image.data) as picture:
        picture.load()  # a file that is cut off is the item's error, not the server's
        data, media = image.data, next((name for start, name in _MEDIA.items() if image.data.startswith(start)), "")
        if not media:
            data, media = encode(picture.convert("RGB")), "image/png"
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


# ---------------------------------------------------------------- replies; raise what `Client.post` takes for garbage


def read_chat(reply: Any) -> GenerateResult:
    """Of /chat/completions. A reply without content (all tokens went into reasoning, say) is an empty text; a refusal is its words."""
    message = _choices(reply)[0]["message"]
    text = message.get("content")
    if text is None:
        text = message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError("content is no text")
    return GenerateResult(text, *counts(reply))


def read_text(reply: Any) -> GenerateResult:
    """Of /completions."""
    text = _choices(reply)[0]["text"]
    if not isinstance(text, str):
        raise TypeError("text is no text")
    return GenerateResult(text, *counts(reply))


def read_echo(reply: Any, prompts: int) -> list[tuple[list[float | None], list[Mapping[str, float] | None]]]:
    """Of /completions with `echo` and `logprobs`: per prompt, each token's log-probability and the most likely ones in its place."""
    choices = sorted(_choices(reply), key=lambda choice: choice.get("index", 0))
    if len(choices) != prompts:
        raise ValueError(f"{len(choices)} choices for {prompts} prompts")
    return [(choice["logprobs"]["token_logprobs"], choice["logprobs"]["top_logprobs"]) for choice in choices]


def counts(reply: Any) -> tuple[int, int]:
    """Prompt and reply tokens, as the server counts them; 0, 0 where it does not say."""
    usage = reply.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _choices(reply: Any) -> list[Any]:
    choices = reply["choices"]
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    return choices
