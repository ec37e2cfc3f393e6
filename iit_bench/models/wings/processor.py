"""Chats with images to tensors, as transformers has it: `AutoProcessor`, `apply_chat_template`, `save_pretrained`.

What it gives the model equals what the adapter gives it (`encoding.py`, `adapter.py`). Importing this module registers it by name.
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from transformers import AddedToken, AutoImageProcessor, AutoProcessor, BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_transforms import to_pil_image
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin

from iit_bench.images import decode
from iit_bench.models.wings import templates
from iit_bench.models.wings.configuration import MAX_IMAGE_PIXELS, WingsConfig
from iit_bench.models.wings.released.scripts import IMAGE_MARK, SCRIPTS
from iit_bench.models.wings.vision import preprocess


class WingsImageProcessor(BaseImageProcessor):
    """`vision.preprocess` behind transformers' interface. Fields: those of `vision.Preprocessing`.

    Images may be PIL images, arrays, tensors, an image file's bytes, its path, its URL or its base64 text. They are shown
    as everywhere in this project (`images.as_rgb`): turned as their orientation tags say, transparent pixels on white.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        image_size: int = 384,
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        image_background: Sequence[int] = (127, 127, 127),
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.image_background = list(image_background)
        self.max_image_pixels = max_image_pixels

    def fetch_images(self, images: Any) -> Any:
        """Every image, in lists of any depth, as a PIL image.

        Raises:
            UnreadableImageError: not an image, damaged, without pixels, or with more than `max_image_pixels` (of its square: `preprocess`).
        """
        if isinstance(images, list | tuple):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, str):
            images = _read(images)
        if isinstance(images, bytes):
            return decode(images, self.max_image_pixels)
        return images if isinstance(images, PILImage.Image) else to_pil_image(images)

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Tensors of images in reading order: `pixel_values` [n, 3, size, size] float32.

        Raises:
            ValueError: a setting per call.
            UnreadableImageError: as `fetch_images`.
        """
        if given := sorted(name for name, value in kwargs.items() if value is not None):
            raise ValueError(f"{given[0]} cannot be set per call: change the processor's own field")
        flat: Any = make_flat_list_of_images(self.fetch_images(images))
        pixels = [preprocess(image, self) for image in flat]
        return BatchFeature({"pixel_values": torch.stack(pixels)}, tensor_type=return_tensors)


def _read(source: str) -> bytes:
    if source.startswith(("http://", "https://")):
        from iit_bench import http

        return http.read(source)
    if len(source) < 4096 and Path(source).is_file():
        return Path(source).read_bytes()
    try:
        return base64.b64decode(source.partition(",")[2] if source.startswith("data:") else source, validate=True)
    except binascii.Error as error:
        raise ValueError(f"image {source[:80]!r} is neither a file nor a URL nor base64") from error


class WingsProcessorKwargs(ProcessingKwargs, total=False):
    """Rows of a batch are padded on the left, as `generate` needs them."""

    _defaults = {"text_kwargs": {"padding": True, "padding_side": "left"}}  # type: ignore[misc]  # noqa: RUF012


class WingsProcessor(ProcessorMixin):
    """A tokenizer with a chat template, and an image processor.

    Fields:
        image_token: text of an image in a rendered chat, one token of the tokenizer.
        image_token_length: placeholders that the model reads per image; 1 in mode `released`.
        image_slot: the placeholder's id if it is not a token: the released code's -200.
    """

    valid_processor_kwargs = WingsProcessorKwargs

    def __init__(
        self,
        image_processor: WingsImageProcessor,
        tokenizer: Any,
        image_token: str = "<image>",
        image_token_length: int = 1,
        image_slot: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        self.image_token_length = image_token_length
        self.image_slot = image_slot
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)

    @classmethod
    def from_config(cls, config: WingsConfig, tokenizer: Any) -> WingsProcessor:
        """The processor of a model.

        Raises:
            ValueError: the configuration's image token is not one of the tokenizer's.
        """
        fields = ("image_size", "image_mean", "image_std", "image_background", "max_image_pixels")
        images = WingsImageProcessor(**{name: getattr(config, name) for name in fields})
        length = 1 if config.mode == "released" else config.image_token_length or 1
        if config.conversation is not None:
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.add_tokens([AddedToken(IMAGE_MARK, special=True, normalized=False)], special_tokens=True)
            script_template = templates.of_script(SCRIPTS[config.conversation], IMAGE_MARK)
            return cls(
                image_processor=images,
                tokenizer=tokenizer,
                image_token=IMAGE_MARK,
                image_token_length=length,
                image_slot=config.image_token_id,
                chat_template=script_template,
            )
        image_token = tokenizer.convert_ids_to_tokens(config.image_token_id) if config.image_token_id >= 0 else None
        if image_token is None:
            raise ValueError(
                f"image_token_id {config.image_token_id} is not a token of the tokenizer: add one and set it in the configuration"
            )
        template = templates.placing_images(tokenizer, image_token)
        return cls(images, tokenizer, image_token=image_token, image_token_length=length, chat_template=template)

    def __call__(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Token ids and pixels of texts and images, with transformers' arguments."""
        if self.image_slot is not None:
            kwargs.setdefault("add_special_tokens", False)  # the released code's prompts contain all of theirs
        inputs = super().__call__(*args, **kwargs)
        if self.image_slot is not None and "input_ids" in inputs:
            inputs["input_ids"] = _replaced(inputs["input_ids"], self.image_token_id, self.image_slot)
        return inputs

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        return super().decode(_replaced(token_ids, self.image_slot, self.image_token_id), **kwargs)

    def batch_decode(self, sequences: Any, **kwargs: Any) -> Any:
        return super().batch_decode(_replaced(sequences, self.image_slot, self.image_token_id), **kwargs)

    @property
    def unused_input_names(self) -> list[str]:
        return ["token_type_ids"]

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The placeholders of one image, which transformers puts in place of its token."""
        return self.image_token * self.image_token_length

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but texts stay text: one that contains `<image>` or an end-of-turn mark adds no such token.

        For that `sanitize_control_tokens` is on by default wherever transformers supports it. (transformers drops U+F0000 and U+F0001 from
        texts, its own markers.)
        """
        if kwargs.get("tokenize") and not kwargs.get("return_assistant_tokens_mask"):
            kwargs.setdefault("sanitize_control_tokens", True)
        batched = isinstance(conversation, list | tuple) and bool(conversation) and isinstance(conversation[0], list | tuple)
        chats = [_joined(chat) for chat in (conversation if batched else [conversation])]
        return super().apply_chat_template(chats if batched else chats[0], *args, **kwargs)


def _replaced(ids: Any, old: int | None, new: int) -> Any:
    """Token ids (a tensor, or lists of any depth) with `new` in place of `old`."""
    if isinstance(ids, torch.Tensor):
        return ids if old is None else ids.masked_fill(ids == old, new)
    if isinstance(ids, list | tuple):
        return [_replaced(one, old, new) for one in ids]
    return new if ids == old else ids


def _joined(chat: Any) -> list[dict[str, Any]]:
    """The chat with neighbouring texts joined, because they could spell a special token only jointly."""
    return [{**message, "content": _joined_parts(message.get("content"))} for message in getattr(chat, "messages", chat)]


def _joined_parts(content: Any) -> Any:
    if not isinstance(content, list | tuple):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text" and parts and parts[-1]["type"] == "text":
            parts[-1] = {**part, "text": parts[-1]["text"] + part["text"]}
        else:
            parts.append(part)
    return parts


AutoImageProcessor.register(WingsConfig, image_processor_classes=dict.fromkeys(("pil", "torchvision"), WingsImageProcessor), exist_ok=True)
AutoProcessor.register(WingsConfig, WingsProcessor, exist_ok=True)
