"""The words of a question as an image."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image as PillowImage

from evaluators.arms import pixels
from evaluators.arms.pixels import NotDrawnError, draw, wrapped
from iit_bench.models.bundled import ASSETS


def opened(text: str) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(draw(text).data))


def test_the_image_is_a_square_with_black_words_on_white():
    picture = opened("What is the capital of France?")
    assert picture.size == (448, 448) and picture.mode == "RGB"
    ink = np.argwhere(np.asarray(picture.convert("L")) < 128)
    (top, left), (bottom, right) = ink.min(axis=0), ink.max(axis=0)
    assert top >= 16 and left >= 16 and right < 448 - 16
    assert bottom < 16 + 30  # one line


def test_the_same_words_give_the_same_bytes_in_another_process():
    text = "Which is «größer», π or √2?"
    code = f"import hashlib; from evaluators.arms.pixels import draw; print(hashlib.sha256(draw({text!r}).data).hexdigest())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert draw(text).sha256 == other


def test_long_texts_are_wrapped_at_words_and_the_square_grows():
    text = "the quick brown fox jumps over the lazy dog " * 30
    lines = wrapped(text, 416)
    assert [word for line in lines for word in line.split()] == text.split()
    assert all(pixels._length(line) <= 416 for line in lines)
    side = opened(text).width
    assert side > 448 and side in pixels.SIDES
    assert len(wrapped(text, side - 32)) * pixels.LINE <= side - 32


def test_a_word_longer_than_a_line_is_broken():
    lines = wrapped("a" * 100, 200)
    assert "".join(lines) == "a" * 100 and all(pixels._length(line) <= 200 for line in lines)


def test_lines_of_the_text_are_kept():
    assert wrapped("one\n\ntwo", 400) == ["one", "", "two"]


@pytest.mark.parametrize("text", ["首都是哪里?", "מהי הבירה?", "ما هي العاصمة؟", "\x00", "a\u202eb", "q\u0303", "🫠"])
def test_what_the_font_cannot_draw_is_not_drawn(text):
    with pytest.raises(NotDrawnError, match=r"^not_drawn$"):
        draw(text)


def test_accents_that_have_a_letter_of_their_own_are_drawn():
    assert draw("e\u0301te\u0301") == draw("été")


@pytest.mark.parametrize("text", ["word " * 10_000, "x\n" * 100])
def test_what_fits_no_square_is_not_drawn(text):
    with pytest.raises(NotDrawnError, match=r"^too_long$"):
        draw(text)


def test_every_drawable_character_of_latin_has_a_glyph_of_its_own():
    """Against the font's own table: a character that is missing would be drawn as an empty box."""
    font = FT2Font(str(ASSETS.parent / "fonts" / "DejaVuSans.ttf"))
    for code in range(0x20, 0x250):
        if pixels._is_drawable(chr(code)):
            assert font.get_char_index(code) != 0, hex(code)
    assert all(pixels._is_drawable(letter) for letter in "aZ09?.,;:!'\"()[]{}+-*/=%&@#äöüßéñçæøåłžšΩπЖд…–—“”€²½≤≥∞→")


def test_the_fonts_licence_lies_beside_it():
    assert "Bitstream Vera" in (ASSETS.parent / "fonts" / "LICENSE_DEJAVU").read_text(encoding="utf-8")
