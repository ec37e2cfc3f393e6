from __future__ import annotations

import ast
import base64
import csv
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from builders.sources import vlmeval
from builders.sources.base import SourceOptions, SourceQuestions, load_source
from builders.sources.vlmeval import rows
from iit_bench.asking import question_parts
from iit_bench.errors import UserError
from iit_bench.tools import vlmevalkit
from iit_bench.types import Image

Load = Callable[[str], SourceQuestions]

needs_vlmeval = pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")


@pytest.fixture
def load(snapshots: Path) -> Load:
    return lambda name: load_source(f"vlmeval:{name}", SourceOptions(data_root=snapshots))


def test_rows_are_what_pandas_reads(snapshots: Path) -> None:
    for path in (snapshots / "LMUData/MMBench_DEV_EN.tsv", snapshots / "MMMU_DEV_VAL.tsv"):
        expected = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).to_dict("records")
        assert [dict(cells) for _, cells in rows(path)] == expected


def test_images_are_the_tables_bytes_and_are_read_when_asked_for(load: Load, snapshots: Path) -> None:
    frame = pd.read_csv(snapshots / "AI2D_TEST.tsv", sep="\t", dtype=str)
    source = load("AI2D_TEST")
    assert len(source.questions) == len(frame)
    for made, cell in zip(source.questions, frame["image"], strict=True):
        (image,) = made.images
        assert image.data == base64.b64decode(cell)
        assert image.sha256 == hashlib.sha256(image.data).hexdigest()


def test_questions_over_one_image_are_one_cluster(load: Load) -> None:
    clusters = [made.cluster for made in load("AI2D_TEST").questions]
    assert clusters[0::2] == clusters[1::2]
    assert len(set(clusters)) == 12


def test_circular_copies_count_once_and_hints_precede_the_question(load: Load, makers: dict[str, Any]) -> None:
    source = load("MMBench_DEV_EN")
    assert len(source.questions) == 12
    assert source.left_out == {"circular copy": 4 * 1 + 8 * 3}
    first, second = source.questions[:2]
    assert first.choices == tuple(makers["choices"](100, 2))
    assert second.question == f"Taken\nin spring 1.\n{makers['question'](1, 'photo album')}"
    assert all(made.answer == 0 for made in source.questions)


def test_an_image_may_stand_in_another_row(tmp_path: Path, makers: dict[str, Any]) -> None:
    shared = {"question": "What?", "A": "one", "B": "two", "answer": "A"}
    makers["table"](
        tmp_path / "T.tsv",
        [
            {"index": 1, **shared, "image": "2"},
            {"index": 2, **shared, "image": makers["picture"](1)},
            {"index": 3, **shared, "image": "9"},
            {"index": 4, **shared, "image": ""},
        ],
    )
    source = load_source("vlmeval:T", SourceOptions(data_root=tmp_path))
    assert [made.id for made in source.questions] == ["vlmeval:T/1", "vlmeval:T/2", "vlmeval:T/4"]
    assert source.questions[0].images == source.questions[1].images
    assert source.questions[2].modality == "T"
    assert source.left_out == {"refers to the image of a row that is not there": 1}


def test_mmmu_keeps_validation_rows_and_places_its_images(load: Load, snapshots: Path) -> None:
    source = load("MMMU_DEV_VAL")
    assert source.split == "validation"
    assert source.left_out == {"of another split (dev)": 3, "open question without choices": 1, "images as choices": 1}
    both = next(made for made in source.questions if made.id.endswith("/101"))
    frame = pd.read_csv(snapshots / "MMMU_DEV_VAL.tsv", sep="\t", dtype=str).set_index("index")
    one, two = (Image(base64.b64decode(text)) for text in ast.literal_eval(frame.loc["101", "image"]))
    assert question_parts(both) == ("Compare ", both.images[0], " with ", both.images[1], ".")
    assert [image.sha256 for image in both.images] == [two.sha256, one.sha256]  # "<image 2> with <image 1>"


def test_marks_that_repeat_or_miss_images(tmp_path: Path, makers: dict[str, Any]) -> None:
    cells = {"A": "one", "B": "two", "answer": "B"}
    two = str([makers["picture"](1), makers["picture"](2)])
    makers["table"](
        tmp_path / "T.tsv",
        [
            {"index": 1, "question": "Is <image 1> like <image 1>?", **cells, "image": two},
            {"index": 2, "question": "Is <image 3> there?", **cells, "image": two},
            {"index": 3, "question": "No marks?", **cells, "image": two},
        ],
    )
    source = load_source("vlmeval:T", SourceOptions(data_root=tmp_path))
    repeated, plain = source.questions
    assert repeated.question == "<image>\nIs <image> like <image>?"
    assert [image.sha256 for image in repeated.images] == [plain.images[i].sha256 for i in (1, 0, 0)]
    assert source.left_out == {"image marks do not fit the images": 1}


def test_broken_records_are_counted_by_reason(load: Load) -> None:
    assert load("SEEDBench_IMG").left_out == {"answer outside the choices": 1, "no answer": 1, "unreadable image": 1}


def test_yes_no_tables_have_no_option_columns(load: Load) -> None:
    source = load("POPE")
    assert {made.choices for made in source.questions} == {("Yes", "No")}
    assert [made.answer_text for made in source.questions[:3]] == ["No", "Yes", "Yes"]


def test_images_may_lie_beside_the_table(tmp_path: Path, makers: dict[str, Any]) -> None:
    (tmp_path / "images/T").mkdir(parents=True)
    (tmp_path / "images/T/a.png").write_bytes(makers["png"]((9, 9, 9)))
    cells = {"question": "What?", "A": "one", "B": "two", "answer": "one"}  # the answer as a text
    makers["table"](tmp_path / "T.tsv", [{"index": i, **cells, "image_path": path} for i, path in enumerate(["a.png", "lost.png"])])
    source = load_source("vlmeval:T", SourceOptions(data_root=tmp_path))
    assert [image.data for made in source.questions for image in made.images] == [(tmp_path / "images/T/a.png").read_bytes()]
    assert source.left_out == {"unreadable image": 1}


def test_the_limit_of_the_csv_module_is_left_as_it_was(load: Load, tmp_path: Path, makers: dict[str, Any]) -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image as Pillow

    before = csv.field_size_limit()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)

    out = BytesIO()
    Pillow.fromarray(noise).save(out, "PNG")
    big = base64.b64encode(out.getvalue()).decode()
    assert len(big) > before  # csv alone would refuse this cell
    makers["table"](tmp_path / "T.tsv", [{"index": 1, "question": "What?", "A": "one", "B": "two", "answer": "A", "image": big}])
    (made,) = load_source("vlmeval:T", SourceOptions(data_root=tmp_path)).questions
    assert made.images[0].data == out.getvalue()
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tquestion\tA\tB\timage\n1\tWhat?\tone\ttwo\tx\n", "has no 'answer' column .* choose a table that has one"),
        ("index\tanswer\n1\tA\n", "has no 'question' column"),
        ("index\tquestion\tanswer\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "T.tsv").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_source("vlmeval:T", SourceOptions(data_root=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "T.tsv").write_bytes("index\tquestion\tanswer\n1\tÜber?\tA\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not a tab-separated table in UTF-8"):
        load_source("vlmeval:T", SourceOptions(data_root=tmp_path))


def test_a_table_that_is_not_there_is_one_sentence(load: Load) -> None:
    with pytest.raises(UserError, match=r"no table MMStar\.tsv in"):
        load("MMStar")


# ---------------------------------------------------------------- VLMEvalKit's own addresses and download


@needs_vlmeval
def test_addresses_come_from_vlmevalkits_classes_and_nothing_stays_imported() -> None:
    with vlmevalkit.shells() as root:
        url, md5 = vlmevalkit._address("MMMU_DEV_VAL", root)
        assert url.endswith("/MMMU_DEV_VAL.tsv")
        assert len(md5) == 32
        assert vlmevalkit._address("POPE", root)[0].endswith("/POPE.tsv")
        with pytest.raises(UserError, match="no multiple-choice or yes/no table called 'MMVet'"):
            vlmevalkit._address("MMVet", root)  # open answers
    assert not [name for name in sys.modules if name.split(".")[0] == "vlmeval"]


@needs_vlmeval
def test_a_table_is_fetched_once_and_its_checksum_is_looked_at(tmp_path: Path, snapshots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LMUData", str(tmp_path / "data"))
    content = (snapshots / "POPE.tsv").read_bytes()
    address = (snapshots / "POPE.tsv").as_uri()
    monkeypatch.setattr(vlmevalkit, "_address", lambda name, root: (address, hashlib.md5(content).hexdigest()))
    source = load_source("vlmeval:POPE", SourceOptions())
    assert len(source.questions) == 12
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["POPE.tsv"]
    monkeypatch.setattr(vlmevalkit, "_address", lambda name, root: ("file:///nowhere.tsv", hashlib.md5(content).hexdigest()))
    assert vlmevalkit.fetch("POPE").read_bytes() == content  # there already
    monkeypatch.setattr(vlmevalkit, "_address", lambda name, root: (address, "0" * 32))
    with pytest.raises(UserError, match="does not have the checksum"):
        vlmevalkit.fetch("POPE")
    monkeypatch.setattr(vlmevalkit, "_address", lambda name, root: ("file:///nowhere.tsv", "0" * 32))
    with pytest.raises(UserError, match=r"cannot download 'POPE' from file:///nowhere\.tsv"):
        vlmevalkit.fetch("POPE")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["POPE.tsv"]


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "a/../../secret.png"])
def test_a_table_cannot_read_images_outside_its_folder(tmp_path: Path, makers: dict[str, Any], path: str) -> None:
    (tmp_path / "secret.png").write_bytes(makers["png"]((9, 9, 9)))
    (tmp_path / "data").mkdir()
    cells = {"index": 1, "question": "What?", "A": "one", "B": "two", "answer": "A", "image_path": path}
    makers["table"](tmp_path / "data/T.tsv", [cells])
    with pytest.raises(UserError, match=r"outside its folder .*; put the images below the table's folder"):
        load_source("vlmeval:T", SourceOptions(data_root=tmp_path / "data"))


def test_an_index_of_superscripts_is_no_number():
    """int("²") is an error, though "²".isdigit() is true."""
    row = vlmeval._Row(index="²", offset=0, cells={}, images=(), reference="")
    assert not vlmeval._is_copy(row, {"1"})
