"""The one place that opens a picture: decoding, the limit on pixels, what a damaged file is, and writing one anew.

Pillow is imported when a picture is opened, so that importing this module stays cheap.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iit_bench.errors import ItemError
from iit_bench.types import Image

if TYPE_CHECKING:
    from PIL import Image as PillowImage

UNREADABLE = "unreadable image"  # the reason in errors.jsonl and in a manifest's counts


class UnreadableImageError(ValueError):
    """The bytes hold no picture that can be shown to a model."""


def decoding_errors() -> tuple[type[Exception], ...]:
    """What Pillow's readers raise on damaged files; they have no common base class for it."""
    from PIL import Image as PillowImage

    return (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, PillowImage.DecompressionBombError)


@contextmanager
def opened(data: bytes, max_pixels: int | None = None) -> Iterator[PillowImage.Image]:
    """A picture file in its own mode. Only its header is read; pixels are decoded when they are used, and damage in them raises as well.

    Args:
        max_pixels: a larger picture is refused before it is decoded; None leaves it to Pillow's own limit, 179 million.

    Raises:
        UnreadableImageError: not a picture, damaged, without pixels, or too large.
    """
    from PIL import UnidentifiedImageError

    try:
        with _open(data, quiet=max_pixels is not None) as picture:
            if max_pixels is not None:
                check_size(picture, max_pixels)
            yield picture
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image, or one without pixels") from error
    except decoding_errors() as error:
        raise UnreadableImageError(str(error)) from error


def _open(data: bytes, quiet: bool) -> PillowImage.Image:
    from PIL import Image as PillowImage

    if not quiet:
        return PillowImage.open(io.BytesIO(data))
    with warnings.catch_warnings():  # not safe among threads: only where a limit of our own replaces the warning
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        return PillowImage.open(io.BytesIO(data))


def check_size(picture: PillowImage.Image, max_pixels: int) -> None:
    """Refuse a picture by its header, before its pixels are decoded.

    Raises:
        UnreadableImageError: no pixels, or more than `max_pixels`.
    """
    if not 0 < picture.width * picture.height <= max_pixels:
        limit = f"more than {max_pixels} (max_image_pixels)" if picture.width * picture.height else "none"
        raise UnreadableImageError(f"{picture.width} x {picture.height} pixels are {limit}")


def decode(data: bytes, max_pixels: int | None = None) -> PillowImage.Image:
    """A picture file's pixels as RGB; transparency is ignored as Pillow's conversion ignores it.

    Raises:
        UnreadableImageError: as `opened`.
    """
    with opened(data, max_pixels) as picture:
        return picture.convert("RGB")


def is_readable(image: Image) -> bool:
    """Whether an image decodes to the last pixel."""
    try:
        with opened(image.data) as picture:
            picture.load()
    except UnreadableImageError:
        return False
    return True


@contextmanager
def of_item(image: Image) -> Iterator[None]:
    """Raises ItemError("unreadable image") in place of UnreadableImageError, naming the image by its hash."""
    try:
        yield
    except UnreadableImageError as error:
        raise ItemError(UNREADABLE, f"{image.sha256[:12]}: {error}") from error


def decode_item(image: Image, max_pixels: int | None = None) -> PillowImage.Image:
    """`decode` for an item's image.

    Raises:
        ItemError: the image is unreadable.
    """
    with of_item(image):
        return decode(image.data, max_pixels)


def encode(picture: PillowImage.Image, kind: str = "PNG", **settings: Any) -> bytes:
    """A picture as the bytes of a file. `settings` are those of Pillow's writer for the format, e.g. `quality` of JPEG."""
    sink = io.BytesIO()
    picture.save(sink, kind, **settings)
    return sink.getvalue()
