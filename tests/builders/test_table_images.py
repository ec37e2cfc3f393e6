"""The images of tables with named columns."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from builders.sources.base import SourceOptions, SourceQuestions, load_source
from iit_bench.errors import UserError

COMMON = {"question": "What?", "choices": ["one", "two"], "answer": "one"}


def picture(i: int, kind: str = "PNG") -> bytes:
    out = BytesIO()
    Pillow.new("RGB", (5, 4), (40 * i % 256, 90, 7)).save(out, kind)
    return out.getvalue()


def load(folder: Path, rows: list[dict[str, Any]], *columns: str) -> SourceQuestions:
    """The questions of a JSONL table with these rows."""
    folder.mkdir(exist_ok=True)
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_source(str(folder / "t.jsonl"), SourceOptions(columns=columns))


def test_images_of_every_form_are_the_same_image(tmp_path: Path) -> None:
    data = picture(3)
    (tmp_path / "img").mkdir()
    (tmp_path / "img/a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    cells: list[Any] = ["img/a.png", text, f"data:image/png;base64,{text}", ["img/a.png"], {"path": "img/a.png", "bytes": None}]
    source = load(tmp_path, [COMMON | {"images": cell} for cell in cells])
    assert [[image.data for image in q.images] for q in source.questions] == [[data]] * len(cells)
    assert len({q.cluster for q in source.questions}) == 1


def test_bytes_in_parquet_are_read_and_rows_without_an_image_are_text(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([COMMON | {"images": picture(3)}, COMMON | {"images": None}]), tmp_path / "t.parquet")
    source = load_source(str(tmp_path / "t.parquet"), SourceOptions())
    assert [[image.data for image in q.images] for q in source.questions] == [[picture(3)], []]
    assert [q.modality for q in source.questions] == ["V", "T"]


def test_the_base64_of_a_jpeg_is_not_taken_for_an_absolute_path(tmp_path: Path) -> None:
    data = picture(2, "JPEG")
    text = base64.b64encode(data).decode()
    assert text.startswith("/9j/")
    (made,) = load(tmp_path, [COMMON | {"images": text}]).questions
    assert made.images[0].data == data


def test_an_image_column_of_datasets_is_read(tmp_path: Path) -> None:
    """Oracle: `datasets` writes the file, with its own Image and ClassLabel."""
    import datasets

    pictures = [Pillow.new("RGB", (6, 6), (50 * i, 0, 0)) for i in range(3)]
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "image": datasets.Image(),
            "choices": datasets.List(datasets.Value("string")),
            "label": datasets.ClassLabel(names=["dark", "bright"]),
        }
    )
    columns = {"question": ["How?"] * 3, "image": pictures, "choices": [["dark", "bright"]] * 3, "label": [0, 1, 1]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "t.parquet"))
    source = load_source(str(tmp_path / "t.parquet"), SourceOptions(columns=("images=image,answer=label",)))
    assert [q.answer_text for q in source.questions] == ["dark", "bright", "bright"]
    for q, expected in zip(source.questions, pictures, strict=True):
        assert Pillow.open(BytesIO(q.images[0].data)).convert("RGB").tobytes() == expected.tobytes()


def test_several_images_and_their_marks(tmp_path: Path) -> None:
    one, two = (base64.b64encode(picture(i)).decode() for i in (1, 2))
    row = {"question": "Is <image 2> like <image 1>?", "choices": ["yes, it is", "it is not"], "answer": "it is not", "a": one, "b": two}
    (made,) = load(tmp_path, [row], "images=a+b").questions
    assert made.question == "Is <image> like <image>?"
    assert [image.data for image in made.images] == [picture(2), picture(1)]


def test_images_that_are_missing_or_damaged_are_counted(tmp_path: Path) -> None:
    broken = base64.b64encode(picture(1)[:40]).decode()
    source = load(tmp_path, [COMMON | {"images": cell} for cell in ("lost.png", broken, "x" * 300 + ".png", "", None)])
    assert source.left_out == {"unreadable image": 3}
    assert len(source.questions) == 2


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("../secret.png", "outside its folder"),
        ("/etc/hostname", "outside its folder"),
        ("a/../../secret.png", "outside its folder"),
        ("link.png", "outside its folder"),
        ("https://example.org/a.png", "by its address; download the images"),
    ],
)
def test_images_from_elsewhere_are_refused(tmp_path: Path, cell: str, message: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "in", [COMMON | {"images": cell}])
    assert "\n" not in str(caught.value)
