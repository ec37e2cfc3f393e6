"""VLMEvalKit's messages as our requests, and any of our models in the place of one of its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateRequest, Model
from iit_bench.tools.vlmevalkit import FAILED
from iit_bench.types import Image, Message

MAX_NEW_TOKENS = 512

VlmevalMessage = Sequence[Mapping[str, str]]  # [{"type": "image", "value": path} | {"type": "text", "value": text}, …]
Answer = Callable[[VlmevalMessage, str], str]  # (message, data set) → reply


# ---------------------------------------------------------------- the model


def vlmeval_model(answer: Answer) -> Any:
    """A `vlmeval.vlm.base.BaseModel` whose replies `answer` returns. VLMEvalKit need not be importable before this call."""
    base = import_module("vlmeval.vlm.base").BaseModel

    class Adapter(base):  # type: ignore[misc, valid-type]
        INTERLEAVE = True

        def generate_inner(self, message: VlmevalMessage, dataset: str | None = None) -> str:
            return answer(message, dataset or "")

        def split_thinking(self, reply: str) -> tuple[str, str]:
            """What VLMEvalKit calls under its switch SPLIT_THINK: the answer in a reply, and the reasoning before it."""
            return split_reasoning(reply)

    return Adapter()


def split_reasoning(reply: str) -> tuple[str, str]:
    """The answer in a reply, and the reasoning before it: what follows the last </think>, as VLMEvalKit splits replies.

    A reply that ends inside its reasoning has no answer: "" (VLMEvalKit itself would look for one in the reasoning).
    """
    reasoning, mark, answer = reply.rpartition("</think>")
    if mark:
        opened = "<think>" in reasoning and mark not in reasoning  # once and in order: the reasoning without its marks
        return answer.strip(), reasoning.split("<think>")[1].strip() if opened else reasoning + mark
    if ends_in_reasoning(reply):
        return "", reply.partition("<think>")[2].strip()
    return reply, ""


def ends_in_reasoning(reply: str) -> bool:
    """Whether a reply opens its reasoning and never closes it."""
    return reply.lstrip().startswith("<think>") and "</think>" not in reply


def as_vlmeval_model(model: Model, max_new_tokens: int = MAX_NEW_TOKENS, system_prompt: str = "") -> Any:
    """One of our models as one of VLMEvalKit's, asked item by item, for VLMEvalKit's own scripts."""

    def answer(message: VlmevalMessage, dataset: str) -> str:
        try:
            return model.generate([generate_request(message, max_new_tokens, system_prompt)])[0].as_written
        except ItemError as error:
            return f"{FAILED} {error}"

    return vlmeval_model(answer)


def generate_request(
    message: VlmevalMessage,
    max_new_tokens: int,
    system_prompt: str = "",
    read: Callable[[str], Image] | None = None,
    reasoning_tokens: int = 0,
) -> GenerateRequest:
    """VLMEvalKit's message as one user turn, parts in reading order; `read` loads an image from its path."""
    read = read or (lambda path: Image(Path(path).read_bytes()))
    parts = tuple(read(part["value"]) if part["type"] == "image" else part["value"] for part in message)
    system = (Message("system", (system_prompt,)),) if system_prompt else ()
    return GenerateRequest((*system, Message("user", parts)), max_new_tokens, reasoning_tokens)
