"""How pictures are shown: one rule for all models, servers, exports and pages. One test per reported fault.

Oracles: numpy for values, Pillow's conversions of the same pixels in a plain file, a stored picture turned by numpy.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from iit_bench.data import easyvqa
from iit_bench.images import ORIENTATION, UnreadableImageError, as_rgb, decode, encode, orientation, portable
from iit_bench.models.openai.encoding import data_url
from iit_bench.types import Image

RAMP = np.linspace(0, 1, 15 * 17).reshape(15, 17)  # of every grey 0 … 255 about one pixel
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def file(pixels: Any, kind: str, **settings: Any) -> bytes:
    sink = io.BytesIO()
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    picture.save(sink, kind, **settings)
    return sink.getvalue()


def turned(tag: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[ORIENTATION] = tag
    return exif


def shown(data: bytes) -> np.ndarray:
    return np.array(decode(data))


def grey(data: bytes) -> np.ndarray:
    pixels = shown(data)
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0]


# ---------------------------------------------------------------- what must not change


def test_plain_pictures_keep_every_byte() -> None:
    """The images of easy-VQA, which the shipped models and the demo's numbers rest on, are decoded as before."""
    for number in (0, 1, 500, 999):
        data = easyvqa.image_bytes("test", number)
        assert decode(data).tobytes() == Pillow.open(io.BytesIO(data)).convert("RGB").tobytes()
        assert portable(Image(data)) == (data, "PNG")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_plain_modes_are_decoded_as_pillow_decodes_them(mode: str, kind: str) -> None:
    if (mode, kind) == ("P", "JPEG"):
        pytest.skip("JPEG has no palettes")
    data = file(Pillow.fromarray(COLOURS).convert(mode), kind)
    assert decode(data).tobytes() == Pillow.open(io.BytesIO(data)).convert("RGB").tobytes()


# ---------------------------------------------------------------- grey of more than 8 bits


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    """It turned white: Pillow clips every value above 255."""
    values = np.round(RAMP * 65535).astype(np.uint16)
    np.testing.assert_array_equal(grey(file(values, kind)), np.floor(values / 257 + 0.5))


def test_16_bit_grey_of_one_value_is_not_stretched() -> None:
    """A picture that is mid-grey everywhere stays mid-grey: the range is the format's, not the picture's."""
    assert (grey(file(np.full((4, 4), 0x8080, dtype=np.uint16), "PNG")) == 0x80).all()


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (0.0, 255.0), (-3.0, 3.0), (0.0, 1000.0), (-1e30, 1e30)])
def test_float_grey_is_scaled_by_its_range(least: float, most: float) -> None:
    """A TIFF of floats was black: values between 0 and 1 were rounded down."""
    values = (least + RAMP * (most - least)).astype(np.float32)
    np.testing.assert_allclose(grey(file(values, "TIFF")).astype(float), RAMP * 255, atol=0.51)


def test_float_grey_within_the_usual_range_keeps_its_brightness() -> None:
    values = (0.25 + RAMP / 2).astype(np.float32)
    np.testing.assert_allclose(grey(file(values, "TIFF")).astype(float), (0.25 + RAMP / 2) * 255, atol=0.51)


def test_values_that_are_not_finite_are_black_and_a_picture_of_them_is_refused() -> None:
    values = RAMP.astype(np.float32)
    values[0, :2], values[1, 0] = np.nan, np.inf
    found = grey(file(values, "TIFF"))
    assert (found[0, :2] == 0).all() and found[1, 0] == 0 and found.max() == 255
    with pytest.raises(UnreadableImageError, match="none of its values is finite"):
        decode(file(np.full((2, 2), np.nan, dtype=np.float32), "TIFF"))
    assert (grey(file(np.full((2, 2), -5, dtype=np.float32), "TIFF")) == 0).all()


@pytest.mark.parametrize("most", [255, 65535, 2**31 - 1])
def test_32_bit_grey_is_scaled_by_its_range(most: int) -> None:
    values = np.round(RAMP * most).astype(np.int32)
    np.testing.assert_allclose(grey(file(values, "TIFF")).astype(float), values / most * 255, atol=0.51)


# ---------------------------------------------------------------- orientation

# What a viewer shows, as numpy's flips and turns of the stored pixels (EXIF 2.32, table 6).
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", TURNED)
def test_the_orientation_tag_is_obeyed(kind: str, tag: int) -> None:
    """Some paths ignored it, others passed it on to models and servers that may obey it."""
    data = file(COLOURS, kind, exif=turned(tag), **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(shown(data), TURNED[tag](COLOURS))
    assert orientation(decode(data)) == 1  # nobody turns it a second time


def test_the_orientation_of_a_photo_is_obeyed_and_other_exif_is_no_matter() -> None:
    exif = turned(6)
    exif[0x010F] = "a camera"
    assert decode(file(COLOURS, "JPEG", exif=exif)).size == (8, 12)
    exif[ORIENTATION] = 77  # no orientation
    assert decode(file(COLOURS, "JPEG", exif=exif)).size == (12, 8)
    assert decode(file(COLOURS, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01")).size == (12, 8)  # damaged metadata


# ---------------------------------------------------------------- transparency


def transparent(kind: str) -> bytes:
    """8 x 8 pixels: black ones, the left half transparent."""
    alpha = np.full((8, 8), 255, dtype=np.uint8)
    alpha[:, :4] = 0
    rgba = np.dstack([np.zeros((8, 8, 3), dtype=np.uint8), alpha])
    if kind == "RGBA":
        return file(rgba, "PNG")
    if kind == "LA":
        return file(Pillow.fromarray(rgba).convert("LA"), "PNG")
    if kind == "WEBP":
        return file(rgba, "WEBP", lossless=True)
    indices = (alpha == 0).astype(np.uint8)
    if kind == "I;16":
        return file((1 - indices).astype(np.uint16), "PNG", transparency=0)
    if kind in ("L", "RGB"):  # one grey or colour stands for transparent
        colour = np.where(indices == 1, 7, 0).astype(np.uint8)
        pixels = colour if kind == "L" else np.dstack([colour] * 3)
        return file(pixels, "PNG", transparency=7 if kind == "L" else (7, 7, 7))
    palette = Pillow.frombytes("P", (8, 8), indices.tobytes())
    palette.putpalette([0, 0, 0, 0, 0, 0])
    return file(palette, kind, transparency=1)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "WEBP", "L", "RGB", "I;16", "PNG", "GIF"])
def test_transparent_pixels_are_white(kind: str) -> None:
    """Black on transparent was black on black. "PNG" and "GIF" are palettes, "L", "RGB" and "I;16" have one transparent colour."""
    found = shown(transparent(kind))
    assert (found[:, :4] == 255).all() and (found[:, 4:] <= 1).all()


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 128
    np.testing.assert_allclose(shown(file(rgba, "PNG"))[0, 0], [200 * 128 / 255 + 127, 127, 127], atol=1)


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    data = file(np.dstack([COLOURS, np.full((8, 12), 255, dtype=np.uint8)]), "PNG")
    np.testing.assert_array_equal(shown(data), COLOURS)
    assert portable(Image(data))[0] == data


# ---------------------------------------------------------------- animations, other colour spaces


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_shown(kind: str) -> None:
    frames = [Pillow.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    more = {"lossless": True} if kind == "WEBP" else {}
    data = file(frames[0], kind, save_all=True, append_images=frames[1:], **more)
    assert (shown(data) == (255, 0, 0)).all()
    sent, form = portable(Image(data))
    assert form == "PNG" and (shown(sent) == (255, 0, 0)).all()


def test_a_photo_of_several_frames_is_given_on_as_the_jpeg_it_begins_with() -> None:
    frames = [Pillow.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = file(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert portable(Image(data)) == (data, "JPEG") and (shown(data)[..., 2] < 128).all()


def test_cmyk_is_converted_as_pillow_converts_it() -> None:
    data = file(Pillow.fromarray(COLOURS).convert("CMYK"), "TIFF")
    np.testing.assert_array_equal(shown(data), COLOURS)
    assert portable(Image(data))[1] == "PNG"


# ---------------------------------------------------------------- what other tools and servers are given


UNUSUAL = {
    "16-bit": file(np.round(RAMP * 65535).astype(np.uint16), "PNG"),
    "float": file(RAMP.astype(np.float32), "TIFF"),
    "turned": file(COLOURS, "PNG", exif=turned(6)),
    "transparent": transparent("RGBA"),
    "palette": transparent("GIF"),
    "cmyk": file(Pillow.fromarray(COLOURS).convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_file_that_readers_show_differently_is_given_on_as_png(name: str) -> None:
    """Servers and other tools got the file itself and showed it by rules of their own."""
    data = UNUSUAL[name]
    sent, form = portable(Image(data))
    assert form == "PNG" and sent != data
    np.testing.assert_array_equal(np.array(Pillow.open(io.BytesIO(sent))), shown(data))  # plain RGB: any reader shows it so
    url = data_url(Image(data))
    assert url == "data:image/png;base64," + base64.b64encode(sent).decode()


def test_a_plain_file_is_given_on_unchanged_where_the_reader_knows_its_format() -> None:
    photo, bitmap = file(COLOURS, "JPEG"), file(COLOURS, "BMP")
    assert data_url(Image(photo)) == "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    assert portable(Image(bitmap)) == (bitmap, "BMP")
    assert data_url(Image(bitmap)).startswith("data:image/png;base64,")


def test_wings_sees_a_picture_of_its_processor_as_the_adapter_shows_it() -> None:
    """transformers' users give pictures that they opened themselves: the same rule applies."""
    pytest.importorskip("torch")
    from iit_bench.models.wings.processor import WingsImageProcessor

    processor = WingsImageProcessor(image_size=16)
    for name, data in UNUSUAL.items():
        mine = processor(Pillow.open(io.BytesIO(data)))["pixel_values"]
        theirs = processor(Pillow.open(io.BytesIO(encode(decode(data)))))["pixel_values"]
        assert (np.array(mine) == np.array(theirs)).all(), name


def test_the_given_picture_is_not_changed() -> None:
    picture = Pillow.open(io.BytesIO(UNUSUAL["turned"]))
    as_rgb(picture)
    assert picture.size == (12, 8) and orientation(picture) == 6
