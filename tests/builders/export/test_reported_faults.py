"""One test per reported fault of exports: other tools see the pictures that this project's models see."""

from __future__ import annotations

import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from builders.export import iit_tasks
from builders.export.vlmeval import _image_cell
from iit_bench.images import decode, portable
from iit_bench.tools.vlmevalkit import shells
from iit_bench.types import Image


def file(picture: Pillow.Image, kind: str, **settings: object) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **settings)
    return sink.getvalue()


def pictures() -> dict[str, bytes]:
    ramp = np.linspace(0, 1, 600).reshape(20, 30)
    rgb = Pillow.fromarray((np.dstack([ramp, ramp[::-1], 1 - ramp]) * 255).astype(np.uint8))
    clear = rgb.convert("RGBA")
    clear.putalpha(Pillow.fromarray((ramp * 255).astype(np.uint8)))
    exif = Pillow.Exif()
    exif[0x0112] = 8
    return {
        "plain": file(rgb, "PNG"),
        "16-bit": file(Pillow.fromarray((ramp * 65535).astype(np.uint16)), "PNG"),
        "float": file(Pillow.fromarray(ramp.astype(np.float32)), "TIFF"),
        "transparent": file(clear, "PNG"),
        "turned": file(rgb, "PNG", exif=exif),
        "cmyk": file(rgb.convert("CMYK"), "TIFF"),
        "palette": file(rgb.convert("P"), "GIF"),
    }


@pytest.mark.oracle
@pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
@pytest.mark.parametrize("name", pictures())
def test_vlmevalkit_sees_the_picture_of_an_exported_table(name: str, tmp_path: Path) -> None:
    """It saved floats and CMYK not at all, transparency on black, and nothing turned."""
    data = pictures()[name]
    with shells():
        import_module("vlmeval.smp.vlm").decode_base64_to_image_file(_image_cell([Image(data)]), str(tmp_path / "seen.png"))
    assert np.array_equal(np.array(Pillow.open(tmp_path / "seen.png").convert("RGB")), np.array(decode(data)))


@pytest.mark.parametrize("name", pictures())
def test_lm_eval_sees_the_picture_of_an_exported_task(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exported task opens files by itself, without this project."""
    data = pictures()[name]
    (tmp_path / "seen").write_bytes(portable(Image(data))[0])
    monkeypatch.setattr(iit_tasks, "HERE", tmp_path)
    (seen,) = iit_tasks.images({"images": ["seen"]})
    assert np.array_equal(np.array(seen), np.array(decode(data)))
