"""A benchmark described in Croissant, and as a folder for the Hub: others read every record of it as it is."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image as PillowImage

from builders.card import card
from builders.export.croissant import croissant
from builders.export.export import ExportOptions, export
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import load_benchmark


@pytest.fixture(scope="module")
def published(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("published") / "hub"
    export(ExportOptions(bench=bench.path, out=out, to="hub", dataset="lab/iit"), progress=False)
    return out


@pytest.fixture(scope="module")
def read(published):
    """The folder as mlcroissant reads it; without the network, from the files beside croissant.json."""
    mlc = pytest.importorskip("mlcroissant")
    return mlc.Dataset(jsonld=published / "croissant.json")


def plain(value):
    """A value as mlcroissant gives it, in the project's types."""
    if isinstance(value, list):
        return tuple(plain(one) for one in value)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.oracle
@pytest.mark.slow
def test_croissants_own_reader_finds_no_error(read):
    assert list(read.metadata.issues.errors) == []
    assert read.metadata.name == "IIT-lab"


@pytest.mark.oracle
@pytest.mark.slow
def test_croissants_own_reader_gives_every_record_and_every_image(read, bench):
    questions = {plain(one["questions/id"]): one for one in read.records("questions")}
    assert list(questions) == list(bench.questions)
    for key, question in bench.questions.items():
        record = {name.partition("/")[2]: value for name, value in questions[key].items()}
        pictures = record.pop("images") or []
        expected = {field.name: getattr(question, field.name) for field in dataclasses.fields(question) if field.name != "images"}
        assert {name: plain(value) for name, value in record.items()} == expected
        assert len(pictures) == len(question.images)
        for picture, image in zip(pictures, question.images, strict=True):
            assert picture.tobytes() == PillowImage.open(io.BytesIO(image.data)).convert(picture.mode).tobytes()
    dialogues = [{name.partition("/")[2]: plain(value) for name, value in one.items()} for one in read.records("dialogues")]
    assert [one["id"] for one in dialogues] == [one.id for one in bench.dialogues]
    assert [(one["turns"], one["tier"], one["target"]) for one in dialogues] == [(d.turns, d.tier, d.target) for d in bench.dialogues]


@pytest.mark.oracle
@pytest.mark.slow
def test_every_rai_field_is_one_that_croissants_reader_knows(read, published):
    """A name that it does not know passes unnoticed: it is written again, but no field of the reader has it."""
    written = {name: value for name, value in json.loads((published / "croissant.json").read_text()).items() if name.startswith("rai:")}
    assert len(written) == 13
    for name, value in written.items():
        known = getattr(read.metadata, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix("rai:")).lower())
        assert (known if isinstance(known, list) else [known]) == (value if isinstance(value, list) else [value]), name


@pytest.mark.oracle
def test_the_context_is_the_specifications(bench):
    pytest.importorskip("mlcroissant")
    from mlcroissant._src.core.rdf import make_context

    assert json.loads(croissant(bench.manifest))["@context"] == make_context()


@pytest.mark.oracle
@pytest.mark.slow
def test_datasets_loads_the_folder_by_its_card(published, bench, tmp_path):
    from datasets import load_dataset

    questions = load_dataset(str(published), "questions", split="test", cache_dir=str(tmp_path))
    assert questions["id"] == list(bench.questions)
    assert load_dataset(str(published), "dialogues", split="test", cache_dir=str(tmp_path)).num_rows == len(bench.dialogues)


def test_the_folder_is_a_benchmark_folder_with_the_same_content(published, bench):
    again = load_benchmark(published)
    assert again.rows_sha256 == bench.rows_sha256 and again.manifest == bench.manifest


def test_the_card_names_the_repository_and_the_licences(published, bench):
    text = (published / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert (header["license"], header["license_link"]) == ("other", "LICENSES.md")
    assert 'load_dataset("lab/iit", "questions"' in text
    licences = (published / "LICENSES.md").read_text(encoding="utf-8")
    assert all(f"## {name}" in licences and source["sha256"] in licences for name, source in bench.manifest["sources"].items())
    assert 'load_dataset("DIR"' in card(bench.manifest, list(bench.questions.values()), bench.dialogues)


def test_a_licence_that_is_not_known_is_named(bench, tmp_path, capsys):
    from iit_bench.storage.benchmark import save_benchmark

    manifest = {name: value for name, value in bench.manifest.items() if name not in ("format", "version", "files", "rows_sha256")}
    manifest["sources"] = {name: source | {"licence": "unknown"} for name, source in manifest["sources"].items()}
    save_benchmark(tmp_path / "bench", list(bench.questions.values()), bench.dialogues, manifest, "card")
    assert main(["export", str(tmp_path / "bench"), "--to", "hub", "--out", str(tmp_path / "out")]) == 0
    assert "licence not known: source facts" in capsys.readouterr().out
    assert "**not known**" in (tmp_path / "out/LICENSES.md").read_text()


def test_what_does_not_fit_is_refused(bench, tmp_path):
    for options, message in (
        ({"tiers": ("T",)}, "publishes the whole benchmark"),
        ({"dataset": "iit"}, "OWNER/NAME"),
        ({"out": bench.path}, "is the benchmark itself"),
    ):
        with pytest.raises(UserError, match=message):
            export(ExportOptions(**{"bench": bench.path, "out": tmp_path / "out", "to": "croissant", **options}), progress=False)
    assert not (tmp_path / "out").exists()


def test_writing_it_needs_no_package_of_croissant(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    export(ExportOptions(bench=bench.path, out=tmp_path / "out", to="croissant"), progress=False)
    assert (tmp_path / "out/croissant.json").is_file() and not (tmp_path / "out/LICENSES.md").exists()
