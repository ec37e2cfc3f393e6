"""Chats with images as models of transformers read them: the tensors of a processor, and the tokens of replies after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image as PillowImage

from iit_bench.images import decode_item
from iit_bench.models.rendering import render_prompt, special_tokens_of, turns_of_parts
from iit_bench.types import Message


def render_images(processor: Any, messages: Sequence[Message]) -> tuple[str, list[PillowImage.Image]]:
    """A chat as the processor's template writes it, and its images in order.

    Raises:
        ItemError: the template refuses the chat, or an image is unreadable.
    """
    text = render_prompt(processor, turns_of_parts(messages))
    return text, [decode_item(image) for message in messages for image in message.images]


def make_inputs(processor: Any, text: str, images: list[PillowImage.Image], model: Any) -> dict[str, Any]:
    """Keyword arguments of the model's `forward` for one chat, on its device and in its dtype."""
    inputs = processor(text=[text], images=images or None, return_tensors="pt", **special_tokens_of(processor.tokenizer, text))
    moved = {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    return {name: v.to(model.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in moved.items()}


def append_tokens(inputs: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    """The inputs of a chat with a reply's tokens after them: every per-token tensor grows, 0 marks text in token types and 1 in masks."""
    length = inputs["input_ids"].shape[1]
    longer = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape == (1, length) and name != "pixel_values":
            more = list(tokens) if name == "input_ids" else [int(name == "attention_mask")] * len(tokens)
            longer[name] = torch.cat((value, torch.tensor([more], device=value.device, dtype=value.dtype)), dim=1)
    return longer
