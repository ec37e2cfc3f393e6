"""Opening pictures: what is read, what is refused, and what a refusal is called."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from functools import cache
from pathlib import Path

import pytest
from PIL import EpsImagePlugin
from PIL import Image as Pillow

from iit_bench.cli import main
from iit_bench.errors import ItemError
from iit_bench.images import UnreadableImageError, decode, decode_item, encode, is_readable, of_item, opened, portable
from iit_bench.types import Image


@cache
def picture(kind: str) -> bytes:
    sink = io.BytesIO()
    Pillow.effect_noise((40, 30), 50).save(sink, kind)
    return sink.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, without pixels."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks.items()
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_an_image_cut_short_is_unreadable(kind: str) -> None:
    whole = picture(kind)
    assert is_readable(Image(whole))
    assert not is_readable(Image(whole[: len(whole) // 2]))


def test_garbage_and_nothing_are_unreadable() -> None:
    assert not is_readable(Image(b"GIF89a"))
    assert not is_readable(Image(b""))
    broken = bytearray(picture("PNG"))
    broken[60:90] = bytes(30)  # inside the compressed pixels
    assert not is_readable(Image(bytes(broken)))


def ico(size: tuple[int, int]) -> bytes:
    """An icon whose directory says 16 x 16, with a PNG of another size in it."""
    inner = claiming(*size)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%EOF\n"
WITH_A_FILE_INSIDE = {"EPS": EPS, "ICO": ico((9, 9)), "FITS": b"SIMPLE  =                    T" + bytes(80)}


@pytest.mark.parametrize("kind", WITH_A_FILE_INSIDE)
def test_formats_that_hold_a_program_or_a_further_file_are_not_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow draws EPS by Ghostscript, where it is installed: a stand-in tells whether it was started."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # not looked for yet
    data = WITH_A_FILE_INSIDE[kind]
    with pytest.raises(UnreadableImageError, match=f"a file of format {kind} is not read; convert it to PNG"):
        decode(data)
    assert not is_readable(Image(data))
    with pytest.raises(UnreadableImageError):
        portable(Image(data))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_a_picture_is_decoded_as_pillow_decodes_it(kind: str) -> None:
    with Pillow.open(io.BytesIO(picture(kind))) as theirs:
        assert decode(picture(kind)).tobytes() == theirs.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("data", "limit", "words"),
    [
        (b"no image", None, "not an image, or one without pixels"),
        (claiming(0, 5), 100, "not an image, or one without pixels"),
        (claiming(11, 10), 100, r"11 x 10 pixels are more than 100 \(max_image_pixels\)"),
        (claiming(20_000, 20_000), None, "400000000 pixels"),  # Pillow's own limit
        (claiming(20_000, 20_000), 10**9, "400000000 pixels"),
        (picture("PNG")[:60], None, "truncated"),
    ],
)
def test_what_is_refused_is_named(data: bytes, limit: int | None, words: str) -> None:
    with pytest.raises(UnreadableImageError, match=words):
        decode(data, limit)
    with pytest.raises(ItemError, match=words) as refused, of_item(Image(data)):
        decode(data, limit)
    assert refused.value.reason == "unreadable image"
    assert refused.value.detail.startswith(Image(data).sha256[:12] + ": ")


def test_a_limit_of_our_own_replaces_pillows_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened(claiming(10_000, 9_000), 10**8) as large:  # Pillow warns above 89 million pixels
            assert large.size == (10_000, 9_000)


def test_an_opened_picture_keeps_its_mode_and_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with opened(picture("PNG")) as grey:
        assert grey.mode == "L"


def test_an_encoded_picture_has_the_same_pixels() -> None:
    pixels = decode(picture("JPEG"))
    assert decode(encode(pixels)).tobytes() == pixels.tobytes()
    assert encode(pixels, "JPEG", quality=10).startswith(b"\xff\xd8\xff")


def test_importing_the_module_does_not_load_pillow() -> None:
    code = "import sys, iit_bench.images; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- limits of what is made of a picture


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a picture nor a canvas may be made: what is refused is refused by its header."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.Image.new", lambda *given: pytest.fail("made"))


def test_a_narrow_picture_counts_as_the_square_it_is_padded_to(no_pixels: None) -> None:
    with opened(claiming(11, 2), 100) as picture:
        assert picture.size == (11, 2)
    words = r"11 x 2 pixels, padded to a square, are more than 100 \(max_image_pixels\)"
    with pytest.raises(UnreadableImageError, match=words), opened(claiming(11, 2), 100, square=True):
        pass


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 201), "1 x 201 pixels are too narrow: one side is over 200 times the other"),
        ((201, 1), "201 x 1 pixels are too narrow"),
        ((13_378, 1000), "13378 x 1000 pixels, padded to a square, are more than 178956970"),
    ],
)
def test_no_processor_is_given_what_it_would_make_much_larger(no_pixels: None, size: tuple[int, int], words: str) -> None:
    with pytest.raises(ItemError, match=words) as refused:
        decode_item(Image(claiming(*size)))
    assert refused.value.reason == "unreadable image"


def test_a_picture_of_200_to_1_is_taken() -> None:
    assert decode_item(Image(encode(Pillow.new("L", (400, 2))))).size == (400, 2)


def test_a_picture_with_wide_numbers_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iit_bench.images.MOST_WIDE", 100)
    assert decode(encode(Pillow.new("I;16", (10, 10)))).size == (10, 10)
    with pytest.raises(UnreadableImageError, match="11 x 10 pixels are more than 100"):
        decode(encode(Pillow.new("I;16", (11, 10))))


def test_the_limit_holds_where_other_code_has_lifted_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImageError, match="20000 x 20000 pixels are more than 178956970"):
        portable(Image(claiming(20_000, 20_000)))


def test_a_command_does_not_show_pillows_warning_of_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between Pillow's limit and ours a build printed it, with a path into site-packages."""
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        Pillow.new("L", (4, 4)).save(file := io.BytesIO(), "PNG")
        with opened(file.getvalue()):
            assert [one.category for one in shown] == [Pillow.DecompressionBombWarning]
        assert main(["list", "models"]) == 0
        with opened(file.getvalue()):
            assert len(shown) == 1
