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

    return Adapter()


def as_vlmeval_model(model: Model, max_new_tokens: int = MAX_NEW_TOKENS, system_prompt: str = "") -> Any:
    """One of our models as one of VLMEvalKit's, asked item by item, for VLMEvalKit's own scripts."""

    def answer(message: VlmevalMessage, dataset: str) -> str:
        try:
            return model.generate([generate_request(message, max_new_tokens, system_prompt)])[0].text
        except ItemError as error:
            return f"{FAILED} {error}"

    return vlmeval_model(answer)


def generate_request(
    message: VlmevalMessage, max_new_tokens: int, system_prompt: str = "", read: Callable[[str], Image] | None = None
) -> GenerateRequest:
    """VLMEvalKit's message as one user turn, parts in reading order; `read` loads an image from its path."""
    read = read or (lambda path: Image(Path(path).read_bytes()))
    parts = tuple(read(part["value"]) if part["type"] == "image" else part["value"] for part in message)
    system = (Message("system", (system_prompt,)),) if system_prompt else ()
    return GenerateRequest((*system, Message("user", parts)), max_new_tokens)
