"""The words of a question as an image: fixed font, fixed size, fixed layout (docs/spec/iit.md#arms)."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from iit_bench.images import encode
from iit_bench.types import Image

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONT = "assets/fonts/DejaVuSans.ttf"  # with its licence beside it
HEIGHT = 24  # pixels of the font
LINE = 30  # pixels from one line to the next
MARGIN = 16  # pixels at every edge
SIDES = (448, 672, 896, 1120, 1344, 1568, 1792)  # pixels of the square
LONGEST = 20_000  # characters; more fit no square
_ONE_BY_ONE = {"L", "EN", "ES", "ET", "CS", "WS", "ON", "AN", "S", "B"}  # bidirectional classes that are written from left to right


class NotDrawnError(Exception):
    """The words cannot be drawn; the argument is a key of `names.REASONS`."""


def draw(text: str) -> Image:
    """The words as a PNG file, black on white in a square; the same bytes for the same words and version of Pillow.

    Raises:
        NotDrawnError: the font lacks a character, or they are too long.
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    if len(text) > LONGEST:
        raise NotDrawnError("too_long")
    text = unicodedata.normalize("NFC", text).expandtabs(4)
    if not all(_is_drawable(letter) for letter in set(text)):
        raise NotDrawnError("not_drawn")
    for side in SIDES:
        lines = wrapped(text, side - 2 * MARGIN)
        if len(lines) * LINE <= side - 2 * MARGIN:
            picture = PillowImage.new("RGB", (side, side), "white")
            drawing = ImageDraw.Draw(picture)
            for number, line in enumerate(lines):
                drawing.text((MARGIN, MARGIN + number * LINE), line, fill="black", font=_font())
            return Image(encode(picture))
    raise NotDrawnError("too_long")


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, each at most `width` pixels: broken at spaces, and within a word that is longer than a line."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if _length(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            *full, line = _broken(word, width)
            lines += full
        lines.append(line)
    return lines


def _broken(word: str, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and _length(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _length(text: str) -> float:
    return float(_font().getlength(text))


def _is_drawable(letter: str) -> bool:
    """Whether the font has the character, and it is drawn right by placing one after another from left to right."""
    if letter in "\n\r":
        return True
    plain = unicodedata.bidirectional(letter) in _ONE_BY_ONE and unicodedata.category(letter)[0] not in "MC"
    return plain and ord(letter) in _characters()


@cache
def _font() -> FreeTypeFont:
    from PIL import ImageFont

    with resources.as_file(resources.files("iit_bench") / FONT) as path:  # the layout that needs no library beside Pillow
        return ImageFont.truetype(str(path), HEIGHT, layout_engine=ImageFont.Layout.BASIC)


@cache
def _characters() -> frozenset[int]:
    """Code points that the font has."""
    from matplotlib.ft2font import FT2Font

    with resources.as_file(resources.files("iit_bench") / FONT) as path:
        return frozenset(FT2Font(str(path)).get_charmap())
