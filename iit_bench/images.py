"""The one place that opens a picture: how it is shown, the limit on pixels, what a damaged file is, and writing one anew.

Pillow is imported when a picture is opened, so that importing this module stays cheap.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from iit_bench.errors import ItemError, one_line
from iit_bench.types import Image

if TYPE_CHECKING:
    from PIL import Image as PillowImage

ORIENTATION = 0x0112  # EXIF tag
UNREADABLE = "unreadable image"  # the reason in errors.jsonl and in a manifest's counts
MOST_PIXELS = 178_956_970  # of a picture where no other limit is given; Pillow's own, which other code may have changed
MOST_WIDE = 64_000_000  # pixels of a picture with more than 8 bits per colour, which is converted in numbers of 64 bits
# Formats of Pillow that are not read, as a picture of a stranger: it hands EPS and WMF to other programs, which run what is in them; the
# others hold a further file, which is opened or unpacked without the limits here.
NOT_READ = frozenset({"BLP", "EPS", "FITS", "FPX", "ICNS", "ICO", "IPTC", "MIC", "WMF"})
MOST_TIMES = 200  # the shorter side goes into the longer one at most so often: models enlarge the shorter side, and pad to a square


class UnreadableImageError(ValueError):
    """The bytes hold no picture that can be shown to a model."""


def decoding_errors() -> tuple[type[Exception], ...]:
    """What Pillow's readers raise on damaged files; they have no common base class for it."""
    from PIL import Image as PillowImage

    return (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, PillowImage.DecompressionBombError)


@contextmanager
def opened(data: bytes, max_pixels: int | None = None, *, square: bool = False) -> Iterator[PillowImage.Image]:
    """A picture file in its own mode. Only its header is read; pixels are decoded when they are used, and damage in them raises as well.

    Args:
        max_pixels: a larger picture is refused before it is decoded; None = MOST_PIXELS.
        square: it will be padded to a square, which the limit holds for.

    Raises:
        UnreadableImageError: not a picture, damaged, without pixels, or too large.
    """
    from PIL import UnidentifiedImageError

    try:
        with _open(data, quiet=max_pixels is not None) as picture:
            check_size(picture, MOST_PIXELS if max_pixels is None else max_pixels, square=square)
            yield picture
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(_unidentified(data)) from error
    except decoding_errors() as error:
        raise UnreadableImageError(one_line(error)) from error


def _open(data: bytes, quiet: bool) -> PillowImage.Image:
    from PIL import Image as PillowImage

    if not quiet:
        return PillowImage.open(io.BytesIO(data), formats=_formats())
    with warnings.catch_warnings():  # not safe among threads: only where a limit of our own replaces the warning
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        return PillowImage.open(io.BytesIO(data), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read, in the order in which Pillow tries them."""
    from PIL import Image as PillowImage

    PillowImage.preinit()
    PillowImage.init()
    return tuple(name for name in PillowImage.ID if name not in NOT_READ)


def _unidentified(data: bytes) -> str:
    """Why no format that is read fits a file."""
    from PIL import Image as PillowImage

    for name in sorted(NOT_READ & set(PillowImage.OPEN)):
        accepts = PillowImage.OPEN[name][1]
        if accepts and accepts(data[:16]) is True:
            return f"a file of format {name} is not read; convert it to PNG"
    return "not an image, or one without pixels"


def check_size(picture: PillowImage.Image, max_pixels: int, *, square: bool = False) -> None:
    """Refuse a picture by its header, before its pixels are decoded.

    Args:
        picture: opened.
        max_pixels: that it may have.
        square: it will be padded to a square, which the limit holds for.

    Raises:
        UnreadableImageError: no pixels, or more than `max_pixels`.
    """
    if not picture.width * picture.height:
        raise UnreadableImageError(f"{picture.width} x {picture.height} pixels are none")
    if (max(picture.size) ** 2 if square else picture.width * picture.height) > max_pixels:
        padded = ", padded to a square," if square and picture.width * picture.height <= max_pixels else ""
        raise UnreadableImageError(f"{picture.width} x {picture.height} pixels{padded} are more than {max_pixels} (max_image_pixels)")


def check_for_processors(picture: PillowImage.Image) -> None:
    """Refuse a picture that a library's processor of images would make much larger, before it does.

    Raises:
        UnreadableImageError: too narrow, or a side so long that a square of it has more than MOST_PIXELS.
    """
    check_size(picture, MOST_PIXELS, square=True)
    if max(picture.size) > MOST_TIMES * min(picture.size):
        raise UnreadableImageError(
            f"{picture.width} x {picture.height} pixels are too narrow: one side is over {MOST_TIMES} times the other"
        )


def decode(data: bytes, max_pixels: int | None = None) -> PillowImage.Image:
    """A picture file's pixels in RGB, as `as_rgb` shows them. Every model, server, export and page reads pictures by this rule.

    Raises:
        UnreadableImageError: as `opened`.
    """
    with opened(data, max_pixels) as picture:
        return as_rgb(picture)


def as_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    """A copy of a picture in RGB, as a viewer shows it. A plain RGB picture keeps its pixels.

    * An animation's frame is the one the picture is at; a file that was just opened is at its first.
    * Turned as its orientation tag (EXIF, XMP) says.
    * Transparent pixels on white.
    * Grey of 16 bits, of 32 bits and of floats is scaled by its range (`_eight_bits`).
    * Palettes, grey, CMYK and other colour spaces as Pillow converts them; colour profiles are not applied.

    Raises:
        UnreadableImageError: damaged, or in numbers none of which is finite.
    """
    from PIL import Image as PillowImage
    from PIL import ImageOps

    try:
        picture.load()
        if orientation(picture) != 1:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            picture = _eight_bits(picture)
        if not picture.has_transparency_data:
            return picture.convert("RGB")
        rgba = picture.convert("RGBA")
        return PillowImage.alpha_composite(PillowImage.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    except decoding_errors() as error:
        raise UnreadableImageError(one_line(error)) from error


def orientation(picture: PillowImage.Image) -> int:
    """The orientation tag of a loaded picture, 1 … 8; 1 (upright) where there is none that can be read: its pixels are not damaged."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except decoding_errors():
        return 1
    return int(value) if value in range(1, 9) else 1


def _eight_bits(picture: PillowImage.Image) -> PillowImage.Image:
    """A picture in mode "L" of grey with 16 or 32 bits per pixel, or of floats.

    The range that becomes 0 … 255 is 0 … 65535 in 16-bit files; else the first of these that holds all values: 0 … 1 (floats only),
    0 … 255, 0 … 65535 (integers only), the values' own minimum … maximum. Values that are not finite become black.
    """
    import numpy as np
    from PIL import Image as PillowImage

    check_size(picture, MOST_WIDE)
    values = np.array(picture, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadableImageError("none of its values is finite")
    low, high = float(values[finite].min()), float(values[finite].max())
    usual = (65535,) if picture.mode.startswith("I;16") else (1, 255) if picture.mode == "F" else (255, 65535)
    if (top := next((top for top in usual if low >= 0 and high <= top), None)) is not None:
        low, high = 0.0, float(top)
    values[~finite] = low
    grey = np.floor((values - low) * (255 / ((high - low) or 1.0)) + 0.5).astype(np.uint8)
    if (transparent := picture.info.get("transparency")) is not None:  # the one grey that a PNG declares transparent: on white
        grey[values == transparent] = 255
    return PillowImage.fromarray(grey)


def portable(image: Image, formats: Collection[str] | None = None) -> tuple[bytes, str]:
    """The bytes of a file that any reader shows as `decode` does, and its format in Pillow's name.

    It is the image's own file where that is so plain that readers cannot differ (8 bits, upright, opaque, one frame, neither CMYK nor
    another colour space that browsers lack) and in one of `formats` (None = any); else a PNG of the decoded picture.

    Raises:
        UnreadableImageError: the bytes hold no picture, or a damaged one.
    """
    with opened(image.data) as picture:
        picture.load()
        kind = "JPEG" if picture.format == "MPO" else picture.format or ""  # several JPEGs in one file, of which readers show the first
        if _is_plain(picture) and (formats is None or kind in formats):
            return image.data, kind
        return encode(as_rgb(picture)), "PNG"


def _is_plain(picture: PillowImage.Image) -> bool:
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        return False
    if orientation(picture) != 1 or picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        return False
    return not picture.has_transparency_data or picture.convert("RGBA").getchannel("A").getextrema()[0] == 255


def is_readable(image: Image) -> bool:
    """Whether an image decodes to the last pixel."""
    try:
        decode(image.data)
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


def decode_item(image: Image) -> PillowImage.Image:
    """`decode` for an item's image, which goes to a library's processor of images.

    Raises:
        ItemError: the image is unreadable, or `check_for_processors` refuses it.
    """
    with of_item(image), opened(image.data) as picture:
        check_for_processors(picture)
        return as_rgb(picture)


def encode(picture: PillowImage.Image, kind: str = "PNG", **settings: Any) -> bytes:
    """A picture as the bytes of a file. `settings` are those of Pillow's writer for the format, e.g. `quality` of JPEG."""
    sink = io.BytesIO()
    picture.save(sink, kind, **settings)
    return sink.getvalue()
