"""Chats as models of VLMEvalKit read them: one message of texts and images, not turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iit_bench.types import Image, Message


def vlmeval_message(parts: Sequence[str | Image], save: Callable[[Image], str]) -> list[dict[str, str]]:
    """The parts in VLMEvalKit's form; `save` writes an image to a file and returns its path."""
    return [{"type": "image", "value": save(part)} if isinstance(part, Image) else {"type": "text", "value": part} for part in parts]


def one_message(messages: Sequence[Message]) -> list[str | Image]:
    """A chat as one message: a lone question as it is, earlier turns before it in the plain form that base LLMs are asked in."""
    system = [message.text + "\n\n" for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return _merged([*system, *turns[0].parts])
    parts: list[str | Image] = list(system)
    for turn in turns:
        parts += ["Question: ", *turn.parts, "\nAnswer:"] if turn.role == "user" else [f" {turn.text}\n\n"]
    return _merged(parts)


def _merged(parts: Sequence[str | Image]) -> list[str | Image]:
    merged: list[str | Image] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return [part for part in merged if part != ""]
