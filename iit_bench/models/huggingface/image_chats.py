"""Chats with images put together from parts that are made once per image, and the check at load that this is right for a model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from iit_bench.errors import ItemError, one_line
from iit_bench.images import decode_item
from iit_bench.models.devices import device_of
from iit_bench.models.huggingface.encoding import InputMaker, Inputs
from iit_bench.models.huggingface.image_features import ImageFeatures, tower_arguments
from iit_bench.models.huggingface.image_parts import IN_FORWARD, ImagePart, ImageParts
from iit_bench.models.huggingface.rows import FAILS
from iit_bench.models.rendering import encode_prompt, render_prompt, turns_of_parts
from iit_bench.models.words import Words
from iit_bench.types import Image, Message

TYPES = ("token_type_ids", "mm_token_type_ids")  # 1 at an image's columns, 0 at text
MISMATCH = "image not placed"
SIZES = ((60, 60), (60, 200), (150, 75))  # height and width of the images of the check: unequal shapes
WIDE = (256, 1024)  # of one more: processors cut crops only out of large images, or long ones
QUESTION = "\nWhat is this?"


@dataclass
class ImageChats:
    """Puts inputs of chats together.

    Attributes:
        parts: of the images.
        features: of the images.
        types: which of TYPES the model's processor returns.
        whole: whether tokens come from the processor's call on the whole chat, and only features from the parts.
    """

    parts: ImageParts
    features: ImageFeatures
    inputs: InputMaker
    types: tuple[str, ...] = ()
    whole: bool = False

    def make(self, text: str, images: Sequence[Image]) -> Inputs:
        """As `InputMaker.make`, with features in place of pixels.

        Raises:
            ItemError: an image is unreadable, or the template does not place every image.
        """
        inputs, parts = self.without_features(text, images)
        return inputs | self.encoded(parts)

    def without_features(self, text: str, images: Sequence[Image]) -> tuple[Inputs, list[ImagePart]]:
        """As `make`, but without the features (`encoded`); and the parts whose features they are."""
        parts = self.parts.of(images)
        if self.whole:
            made = self.inputs.make(text, [decode_item(image) for image in images])
            names = set(tower_arguments(self.inputs.model)) - {*IN_FORWARD}
            return {name: value for name, value in made.items() if name not in names}, parts
        return self._of_tokens(encode_prompt(self.inputs.words, self.parts.text(text, parts)), parts), parts

    def of_tokens(self, tokens: Sequence[int], parts: Sequence[ImagePart]) -> Inputs:
        """Inputs of a chat in tokens with a mark per image, and its images, with their features.

        Raises:
            ItemError: not as many marks as images.
        """
        return self._of_tokens(tokens, parts) | self.encoded(parts)

    def _of_tokens(self, tokens: Sequence[int], parts: Sequence[ImagePart]) -> Inputs:
        ids = torch.tensor([self.filled(tokens, parts)], device=device_of(self.inputs.model))
        columns = (ids == self.parts.column).long()
        made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | dict.fromkeys(self.types, columns)
        for name in IN_FORWARD:
            if tensors := [part.kept[name] for part in parts if name in part.kept]:
                made[name] = torch.cat(tensors).to(ids.device)
        return made

    def filled(self, tokens: Sequence[int], parts: Sequence[ImagePart]) -> list[int]:
        """As `ImageParts.fill`.

        Raises:
            ItemError: not as many marks as images.
        """
        filled = self.parts.fill(tokens, parts)
        if filled is None:
            raise ItemError(MISMATCH, f"the chat template places another number of images than the {len(parts)} of the chat")
        return filled

    def record(self) -> dict[str, Any]:
        """For `ModelInfo.details`: how images are processed."""
        form = "in the company of their chat" if self.parts.company else "alone"
        return {"way": "once", "processed": form, "tokens_of": "the whole chat" if self.whole else "each image"}

    def encoded(self, parts: Sequence[ImagePart]) -> Inputs:
        """What the model is given in place of the pixels of these images, in order."""
        return {"mm_encoder_outputs": self.features.outputs(parts)} if parts else {}


# ---------------------------------------------------------------- found at load


def find_chats(inputs: InputMaker, processor: Any, words: Words) -> ImageChats | str:
    """How chats of this model are put together, found by comparison with the processor's own inputs; or why they are not."""
    reads = tower_arguments(inputs.model)
    if not reads:
        return "its forward takes no features in place of pixels"
    try:
        chats = list(probe_chats(processor, words))
        mark = _mark(processor, [text for text, _ in chats], [len(images) for _, images in chats])
        plain = [inputs.make(text, [decode_item(image) for image in images]) for text, images in chats]
    except (*FAILS, ItemError) as error:
        return f"its processor fails in the check at load: {one_line(error)}"
    if mark is None:
        return "its chat template writes no mark of its own for an image"
    why = ""
    for whole, company in ((False, False), (False, True), (True, False), (True, True)):
        parts = ImageParts(processor, words, mark=mark, column=_column(inputs.model), reads=reads, company=company)
        types = tuple(name for name in TYPES if name in plain[0])
        made = ImageChats(parts, ImageFeatures(inputs.model, parts), inputs, types, whole)
        try:
            why = next(filter(None, (_differs(made, one, own) for one, own in zip(chats, plain, strict=True))), "")
        except (*FAILS, ItemError) as error:
            why = one_line(error)
        if not why:
            return made
    return f"inputs put together from single images differ from the processor's: {why}"


def probe_chats(processor: Any, words: Words) -> Iterator[tuple[str, list[Image]]]:
    """Rendered chats with 0 to 3 images of unequal shapes, a later turn among them where the template takes one; and with a large one."""
    for messages in (*probe_messages(), *wide_messages()):
        try:
            yield render_prompt(processor, turns_of_parts(words.hide_in(messages))), [image for one in messages for image in one.images]
        except ItemError:
            continue


def probe_messages() -> list[tuple[Message, ...]]:
    """The chats of the check."""
    one, two, three = (_picture(seed, *size) for seed, size in enumerate(SIZES))
    first = Message("user", (one, QUESTION))
    return [
        (first,),
        (Message("user", (QUESTION,)),),
        (Message("user", ("Which of ", two, " and ", three, " is it?")),),
        (first, Message("assistant", ("red",)), Message("user", (three, one, QUESTION))),
    ]


def wide_messages() -> list[tuple[Message, ...]]:
    """Chats of the check for the processor only: passes of a model over a large image would make loading slow."""
    small, wide = _picture(0, *SIZES[0]), _picture(len(SIZES), *WIDE)
    return [(Message("user", (wide, QUESTION)),), (Message("user", (small, " and ", wide, QUESTION)),)]


def _picture(seed: int, height: int, width: int) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG")
    return Image(buffer.getvalue())


def _mark(processor: Any, texts: Sequence[str], images: Sequence[int]) -> str | None:
    """The name of a token that is in every rendered chat as often as images are."""
    named = {name: value for name, value in vars(processor).items() if name.endswith("_token") and isinstance(value, str) and value}
    order = sorted(named, key=lambda name: (name != "image_token", name))
    right = (named[name] for name in order if [text.count(named[name]) for text in texts] == list(images))
    return next(right, None)


def _column(model: Any) -> int:
    found = getattr(model.config, "image_token_id", None)
    return int(model.config.image_token_index if found is None else found)


def _differs(made: ImageChats, chat: tuple[str, list[Image]], plain: Inputs) -> str:
    """Which tensor of a chat is other than the processor's; "" if none."""
    text, images = chat
    own = made.make(text, images)
    for name, how in made.inputs.layout(plain).items():
        if name not in own:
            return f"{name} is missing"
        if own[name].shape != plain[name].shape or not torch.equal(own[name].long(), plain[name].long()):
            return f"{name} along axis {how.axis}"
    kept = [name for name in IN_FORWARD if name in plain and not torch.equal(plain[name].cpu(), own[name].cpu())]
    return kept[0] if kept else ""
