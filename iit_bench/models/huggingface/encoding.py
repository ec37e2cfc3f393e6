"""Chats with images as models of transformers read them: the tensors of a processor, and the tokens of replies after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image as PillowImage

from iit_bench.images import decode_item
from iit_bench.models.devices import device_of
from iit_bench.models.huggingface.processors import takes_suffix
from iit_bench.models.rendering import render_prompt, special_tokens_of, turns_of_parts
from iit_bench.models.words import Words
from iit_bench.types import Image, Message

Inputs = dict[str, Any]  # keyword arguments of a model's `forward` for one chat
PROBE = " a b c"  # appended to a chat, to see which tensors grow with its text
PER_TOKEN = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})
UNUSED = frozenset({"labels"})  # what processors return for training only


def render_images(processor: Any, messages: Sequence[Message], words: Words) -> tuple[str, list[PillowImage.Image]]:
    """A chat as the processor's template writes it, with stand-ins for names of special tokens in its words; and its images in order.

    Raises:
        ItemError: the template refuses the chat, or an image is unreadable.
    """
    text = render_prompt(processor, turns_of_parts(words.hide_in(messages)))
    return text, list(map(decode_item, images_of(messages)))


def images_of(messages: Sequence[Message]) -> list[Image]:
    """The images of a chat, in order."""
    return [image for message in messages for image in message.images]


@dataclass(frozen=True)
class PerToken:
    """A tensor of the processor that has an entry per token of the chat, along `axis`.

    A token of a reply gets the entry of the chat's last token, which is text, plus `step`; or `fill`.
    """

    axis: int
    step: int = 0  # from a token of text to the next: 0, except for positions
    fill: int | None = None


@dataclass
class InputMaker:
    """Makes the inputs of chats with one processor, and edits them token by token.

    Which tensors have an entry per token is asked of the processor itself: a chat and the same chat with a few words more are compared.
    So masks of any shape (cross-attention of Llama 3.2 Vision, [1, N, images, tiles]) and positions grow.
    """

    processor: Any
    model: Any
    words: Words
    _layouts: dict[frozenset[str], dict[str, PerToken]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.has_suffix = takes_suffix(self.processor)

    def make(self, text: str, images: list[PillowImage.Image]) -> Inputs:
        """Inputs of one chat, on the model's device and in its dtype.

        Raises:
            ItemError: the model has no such token.
        """
        inputs = self._call(text, images)
        names = frozenset(inputs)
        if names not in self._layouts:
            self._layouts[names] = layout_of(inputs, self._call(text + PROBE, images), self.has_suffix)
        inputs = self.spell(inputs, self.words.spelling)
        self.words.check(inputs["input_ids"][0].tolist())
        moved = {name: value.to(device_of(self.model)) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        return {name: v.to(self.model.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in moved.items()}

    def _call(self, text: str, images: list[PillowImage.Image]) -> Inputs:
        if self.has_suffix and not images:  # such a processor refuses chats without images; its model reads them
            return self._without_images(text)
        adds = special_tokens_of(self.processor.tokenizer, text)
        inputs = self.processor(text=[text], images=[images] if images else None, return_tensors="pt", **adds)
        return {name: value for name, value in inputs.items() if name not in UNUSED}

    def _without_images(self, text: str) -> Inputs:
        return self.of_text(self.words.encode(f"{self.words.bos_token or ''}{text}\n", add_special_tokens=False))

    def of_text(self, tokens: Sequence[int]) -> Inputs:
        """Inputs of a text in tokens, without the processor."""
        ids = torch.tensor([list(tokens)], device=device_of(self.model))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return inputs | ({"token_type_ids": torch.zeros_like(ids)} if self.has_suffix else {})

    def layout(self, inputs: Inputs) -> dict[str, PerToken]:
        """The per-token tensors among `inputs`, by name."""
        names = frozenset(inputs)
        if names not in self._layouts:  # of tokens: no processor made them
            own = {name: value for name, value in inputs.items() if name in PER_TOKEN}
            longer = {name: torch.nn.functional.pad(value, (0, 2)) for name, value in own.items()}
            self._layouts[names] = layout_of(own, longer, self.has_suffix)
        return self._layouts[names]

    def append(self, inputs: Inputs, tokens: Sequence[int]) -> Inputs:
        """The inputs of a chat with a reply's tokens after them."""
        return self._edit(inputs, lambda name, value, how: _longer(value, how, tokens if name == "input_ids" else len(tokens)))

    def cut(self, inputs: Inputs, length: int) -> Inputs:
        """The inputs of a chat's first `length` tokens, all its images included."""
        return self._edit(inputs, lambda name, value, how: value.narrow(how.axis, 0, length))

    def spell(self, inputs: Inputs, spelling: Mapping[int, Sequence[int]]) -> Inputs:
        """The inputs with tokens of `spelling` replaced by one or more others, which stand where the one stood."""
        ids = inputs["input_ids"][0].tolist()
        if not spelling.keys() & set(ids):
            return inputs
        lengths = torch.tensor([len(spelling.get(token, (token,))) for token in ids])
        words = [new for token in ids for new in spelling.get(token, (token,))]

        def change(name: str, value: torch.Tensor, how: PerToken) -> torch.Tensor:
            if name == "input_ids":
                return torch.tensor([words], device=value.device, dtype=value.dtype)
            repeated = value.repeat_interleave(lengths.to(value.device), dim=how.axis)
            if not how.step:
                return repeated
            before = (lengths.cumsum(0) - lengths - torch.arange(len(ids))).repeat_interleave(lengths)  # tokens more so far
            within = torch.cat([torch.arange(int(length)) for length in lengths])
            return repeated + _along(how.step * (before + within), value, how.axis)

        return self._edit(inputs, change)

    def _edit(self, inputs: Inputs, change: Callable[[str, torch.Tensor, PerToken], torch.Tensor]) -> Inputs:
        return inputs | {name: change(name, inputs[name], how) for name, how in self.layout(inputs).items()}


def layout_of(inputs: Inputs, longer: Inputs, has_suffix: bool) -> dict[str, PerToken]:
    """The per-token tensors among `inputs` of a chat, by comparison with those of the same chat and some text more.

    Raises:
        ValueError: a tensor grows in another way than by one entry per token.
    """
    more = longer["input_ids"].shape[1] - inputs["input_ids"].shape[1]
    layout = {}
    for name, value in inputs.items():
        other = longer.get(name)
        if not isinstance(value, torch.Tensor) or not isinstance(other, torch.Tensor) or value.dim() != other.dim():
            continue
        axes = [axis for axis in range(value.dim()) if other.shape[axis] != value.shape[axis]]
        if not axes:
            continue
        if more < 2 or len(axes) > 1 or other.shape[axes[0]] - value.shape[axes[0]] != more:
            raise ValueError(f"{name} of the processor grows from {list(value.shape)} to {list(other.shape)} by {more} tokens of text")
        axis, size = axes[0], other.shape[axes[0]]
        step = (other.select(axis, size - 1) - other.select(axis, size - 2)).unique() if "position" in name else torch.zeros(1)
        if len(step) > 1:
            raise ValueError(f"rows of the processor's {name} increase by different steps")
        layout[name] = PerToken(axis, int(step[0]), 1 if has_suffix and name == "token_type_ids" else None)
    return layout


def _longer(value: torch.Tensor, how: PerToken, more: Sequence[int] | int) -> torch.Tensor:
    if not isinstance(more, int):
        return torch.cat((value, torch.tensor([list(more)], device=value.device, dtype=value.dtype)), dim=1)
    last = value.select(how.axis, value.shape[how.axis] - 1)
    rows = (last if how.fill is None else torch.full_like(last, how.fill)).unsqueeze(how.axis).repeat_interleave(more, dim=how.axis)
    if how.step:
        rows = rows + _along(how.step * torch.arange(1, more + 1), value, how.axis)
    return torch.cat((value, rows), dim=how.axis)


def _along(numbers: torch.Tensor, like: torch.Tensor, axis: int) -> torch.Tensor:
    """A row of numbers [N] shaped so that it is added along one axis of `like`, on its device and in its dtype."""
    return numbers.to(like).view([-1 if dim == axis else 1 for dim in range(like.dim())])
