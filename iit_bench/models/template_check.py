"""Whether a chat template of strangers can be used: tried in a process of its own before it is rendered in this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.checkpoint_check import refused
from iit_bench.models.trials import BYTES, SECONDS, tried

CHARACTERS = 1_000_000  # of one chat

_QUESTION = "What is the capital of France?"


def _chats() -> list[list[dict[str, Any]]]:
    """Chats of the kinds that are asked: one question, as a string and in parts; a system prompt, replies, an image; a long one."""
    user, reply, system = ({"role": role, "content": _QUESTION} for role in ("user", "assistant", "system"))
    parts = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _QUESTION}]}
    said = {"role": "assistant", "content": [{"type": "text", "text": _QUESTION}]}
    long = {"role": "user", "content": _QUESTION * 100}
    return [[user], [parts], [system, user, reply, user], [parts, said, parts], [long, reply] * 20 + [long]]


def read_tokenizer(place: Path | str, what: str, fix: str, **settings: Any) -> Any:
    """A tokenizer of transformers with a template that can be used, or with none.

    Args:
        place: its folder or Hub id.
        what, fix: as of `refused`.
        settings: further arguments of `from_pretrained`.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    from transformers import AutoTokenizer

    with refused(what, fix):
        tokenizer: Any = AutoTokenizer.from_pretrained(place, **settings)
        tokenizer.encode("?")  # some fields of a configuration are looked at only then
    check_template(tokenizer, repr(str(place)))
    return tokenizer


def check_template(renderer: Any, what: str) -> None:
    """Refuse a tokenizer or processor whose chat template never ends, takes too much memory, writes too much, nothing, or no question.

    Args:
        renderer: of transformers; its tokenizer's template is tried too.
        what: whose template it is, for the error.

    Raises:
        UserError: it cannot be used.
    """
    for holder in (renderer, getattr(renderer, "tokenizer", None)):
        template = getattr(holder, "chat_template", None)
        named = template if isinstance(template, Mapping) else {"default": template}
        for name, text in named.items():
            if text is None:
                continue
            if not isinstance(text, str):
                raise UserError(f"the chat template of {what} is not a text ({type(text).__name__}); mend its chat_template")
            arguments = {name: str(token) for name, token in getattr(holder, "special_tokens_map", {}).items() if isinstance(token, str)}
            asked = _QUESTION if name == "default" or len(named) == 1 else ""  # others, as of tools, are not rendered with questions
            if wrong := _tried(text, json.dumps(arguments), asked, SECONDS, BYTES, CHARACTERS):
                raise UserError(f"the chat template of {what} {wrong}; mend its chat_template.jinja, or get the file again")


@lru_cache(maxsize=64)
def _tried(template: str, arguments: str, question: str, seconds: int, size: int, characters: int) -> str:
    """Why a template cannot be used; "" if nothing is wrong."""
    asked = {"template": template, "arguments": json.loads(arguments), "chats": _chats(), "question": question, "characters": characters}
    answer, fault = tried("template_trial.py", asked, seconds, size)
    if fault:
        return f"{fault} for short chats" if fault.startswith("takes") else fault
    return str(answer["wrong"])
