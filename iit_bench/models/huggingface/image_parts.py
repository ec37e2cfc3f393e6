"""Images of chats, each processed once by itself: the tokens that stand for it, and the tensors that the model's tower reads.

A chat with images is put together from its text, tokenised with one mark per image, and the tokens that the processor writes for each
image. Some processors treat an image otherwise when it has company (LLaVA-OneVision cuts tiles only out of a chat's single image); such an
image has a second form, learned from a call with the image twice. Whether all this gives the inputs that the processor makes of the whole
chat is checked when a model is loaded (`image_chats`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from iit_bench.errors import ItemError
from iit_bench.images import decode_item
from iit_bench.models.words import Words
from iit_bench.types import Image

PARTS_HELD = 256 * 2**20  # bytes of images' files and their tokens; an image beyond them is processed again when a chat shows it
PIXELS_HELD = 2**30  # bytes of tensors that wait for the tower; what exceeds them is processed again
BETWEEN = "x"  # a text of one token between an image and itself
IN_FORWARD = ("image_grid_thw",)  # tensors per image that a model reads beside its features, for positions

T = TypeVar("T")


class Bounded(Generic[T]):
    """A dictionary that holds so many bytes at most and forgets what was used longest ago."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """The entry, which then counts as used last."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: str, value: T, size: int) -> None:
        """Add an entry of `size` bytes; one that exceeds the limit is not kept."""
        self.pop(key)
        if size > self.limit:
            return
        self._entries[key] = (value, size)
        self.held += size
        while self.held > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self.held -= freed

    def pop(self, key: str) -> T | None:
        """Remove an entry and return it; None if it is not there."""
        value, size = self._entries.pop(key, (None, 0))
        self.held -= size
        return value


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePart:
    """An image as chats hold it.

    Attributes:
        key: of the image's bytes and its form; equal keys are equal tokens and features.
        image: the image itself, to process it again.
        in_company: whether it is the form of an image that has others beside it.
        tokens: what stands for it in the tokens of a chat.
        columns: how many of `tokens` are places of its features.
        around: texts that the processor writes before and after it; for some processors they depend on its size.
        kept: tensors that the model's forward reads beside the features, [1, …] each.
    """

    key: str
    image: Image
    in_company: bool
    tokens: tuple[int, ...]
    columns: int
    around: tuple[str, str] = ("", "")
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)


class UnevenImageError(ItemError):
    """The processor writes something else for this image than this module expects of it."""

    def __init__(self, what: str) -> None:
        super().__init__("image not processed by itself", f"{what}; --engine plain processes it with its chat")


class ImageParts:
    """Makes the parts of one processor's images.

    Args:
        processor: of transformers.
        words: its tokenizer, and names of special tokens in texts.
        mark: the text that the chat template writes for one image.
        column: id of the token that is the place of a feature.
        reads: names of the tensors that the model's tower reads.
        company: whether an image that has company is processed in company.
    """

    def __init__(self, processor: Any, words: Words, *, mark: str, column: int, reads: Sequence[str], company: bool) -> None:
        self._processor, self._words = processor, words
        self.mark, self.column, self.company = mark, column, company
        self._reads = frozenset(reads)
        self._mark_id = processor.tokenizer.convert_tokens_to_ids(mark)
        self._parts: Bounded[ImagePart] = Bounded(PARTS_HELD)
        self._pixels: Bounded[dict[str, Any]] = Bounded(PIXELS_HELD)

    # ------------------------------------------------------------ images

    def of(self, images: Sequence[Image]) -> list[ImagePart]:
        """The parts of a chat's images, in order.

        Raises:
            ItemError: an image is unreadable, or the processor writes something unexpected for it.
        """
        in_company = self.company and len(images) > 1
        return [self._part(image, in_company) for image in images]

    def _part(self, image: Image, in_company: bool) -> ImagePart:
        key = f"{image.sha256}-{'company' if in_company else 'alone'}"
        return self._parts.get(key) or self._made(key, image, in_company)

    def _made(self, key: str, image: Image, in_company: bool) -> ImagePart:
        written, tensors = self._process(image, in_company)
        tokens, around = self._without_text(written)
        self._words.check(tokens)
        kept = {name: tensors[name] for name in IN_FORWARD if name in tensors}
        columns = tokens.count(self.column)
        part = ImagePart(key=key, image=image, in_company=in_company, tokens=tuple(tokens), columns=columns, around=around, kept=kept)
        size = len(image.data) + 8 * len(tokens) + sum(value.nbytes for value in kept.values())
        self._parts.put(key, part, size)
        self._hold(key, tensors)
        return part

    def take_pixels(self, part: ImagePart) -> dict[str, Any]:
        """What the tower reads of this image, by argument name; made again where it is not held any more."""
        return self._pixels.pop(part.key) or self._read(self._process(part.image, part.in_company)[1])

    def _hold(self, key: str, tensors: Mapping[str, Any]) -> None:
        read = self._read(tensors)
        self._pixels.put(key, read, sum(value.nbytes for value in read.values() if isinstance(value, torch.Tensor)))

    def _read(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in tensors.items() if name in self._reads}

    def _process(self, image: Image, in_company: bool) -> tuple[list[int], dict[str, Any]]:
        picture = decode_item(image)
        count = 2 if in_company else 1
        text = BETWEEN.join([self.mark] * count)
        inputs = dict(self._processor(text=[text], images=[[picture] * count], return_tensors="pt", add_special_tokens=False))
        tokens = inputs["input_ids"][0].tolist()
        if in_company:
            length = (len(tokens) - 1) // 2
            if tokens[:length] != tokens[length + 1 :]:
                raise UnevenImageError("an image and the same image after it have other tokens")
            tokens = tokens[:length]
            inputs = {name: _second_half(value) for name, value in inputs.items()}
        return tokens, inputs

    def _without_text(self, tokens: list[int]) -> tuple[list[int], tuple[str, str]]:
        """The tokens from the first to the last special one, and the words before and after them."""
        tokenizer = self._processor.tokenizer
        special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} | {self.column}
        places = [place for place, token in enumerate(tokens) if token in special]
        if not places or self.column not in tokens:
            raise UnevenImageError("no token of an image's feature is written for it")
        first, last = places[0], places[-1] + 1
        return tokens[first:last], (tokenizer.decode(tokens[:first]), tokenizer.decode(tokens[last:]))

    # ------------------------------------------------------------ chats

    def text(self, text: str, parts: Sequence[ImagePart]) -> str:
        """A rendered chat with the words that the processor writes around each image; as it is if it has not as many marks as images."""
        first, *rest = text.split(self.mark)
        if len(rest) != len(parts):
            return text
        marks = (f"{before}{self.mark}{after}" for before, after in (part.around for part in parts))
        return first + "".join(mark + words for mark, words in zip(marks, rest, strict=True))

    def fill(self, tokens: Sequence[int], parts: Sequence[ImagePart]) -> list[int] | None:
        """The tokens of a chat with each mark replaced by its image's; None if there are not as many marks as images."""
        if sum(token == self._mark_id for token in tokens) != len(parts):
            return None
        remaining = iter(parts)
        return [new for token in tokens for new in (next(remaining).tokens if token == self._mark_id else (token,))]


def _second_half(value: Any) -> Any:
    """Of what the processor made of an image twice: the second one's. An entry that is not per image stays."""
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] > 1 and value.shape[0] % 2 == 0:
        return value[value.shape[0] // 2 :]
    return value
