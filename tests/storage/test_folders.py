"""Benchmark and run folders: what is written is read back, what is damaged or foreign is refused, nothing half-written remains."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from safetensors import SafetensorError
from safetensors.numpy import save_file

from evaluators.iit.results import summarise
from iit_bench.errors import UserError
from iit_bench.storage import format as formats
from iit_bench.storage import runs as run_folders
from iit_bench.storage.atomic import check_writable, fix_for, unwritable, write_atomic
from iit_bench.storage.benchmark import load_benchmark, save_benchmark
from iit_bench.storage.format import BENCHMARK_FORMAT
from iit_bench.storage.runs import load_run, save_run_header
from iit_bench.storage.whole_folders import check_target
from iit_bench.types import Dialogue, Prediction, Question
from tests.full_disk import files_of_at_most
from tests.resealed import reseal, save_run_outcome

QUESTIONS_TABLE = "questions/test-00000-of-00001.parquet"


@pytest.fixture
def questions(make_image) -> list[Question]:
    pictures = (make_image(1), make_image(2))
    text = Question("t/1", "T", "facts", "capital", "fact-1", "en", "Capital of Peru?", (), ("Lima", "Quito", "日本"), 0, "Lima")
    visual = Question("v/1", "V", "vqa", "colour", "image-1", "en", "<image> or <image>?", pictures, ("yes", "no"), 1, "no", True)
    return [text, visual]


DIALOGUES = [
    Dialogue("t/1:T", "T", 0.0, "t/1", ("t/1",), "t/1"),
    Dialogue("v/1:TV", "TV", 0.5, "v/1", ("t/1", "v/1"), "v/1", ("", "Now look.")),
]


def save(out: Path, questions: list[Question], **more) -> Path:
    known = {one.id for one in questions}
    dialogues = [one for one in DIALOGUES if set(one.turns) <= known]
    return save_benchmark(out, questions, dialogues, {"name": "mine", "seed": 3}, "# card\n", **more)


def everything_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# ---------------------------------------------------------------- benchmark folders


def test_benchmark_round_trip_gives_equal_records_and_images(tmp_path, questions):
    found = load_benchmark(save(tmp_path / "bench", questions))
    assert list(found.questions.values()) == questions
    assert list(found.dialogues) == DIALOGUES
    assert found.questions["v/1"].images[1].data == questions[1].images[1].data
    assert (found.manifest["name"], found.manifest["seed"], found.tiers) == ("mine", 3, ("T", "TV"))


def test_rows_sha256_follows_content_not_storage(tmp_path, questions):
    first = load_benchmark(save(tmp_path / "a", questions)).rows_sha256
    assert load_benchmark(save(tmp_path / "b", questions)).rows_sha256 == first
    assert load_benchmark(save(tmp_path / "c", questions[::-1])).rows_sha256 != first


def test_benchmark_of_another_version_is_refused(tmp_path, questions):
    bench = save(tmp_path / "bench", questions)
    manifest = json.loads((bench / "manifest.json").read_text())
    (bench / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(UserError, match="format version 99, this iit-bench reads 1"):
        load_benchmark(bench)


def test_changed_table_is_refused(tmp_path, questions):
    bench = save(tmp_path / "bench", questions)
    data = bytearray((bench / QUESTIONS_TABLE).read_bytes())
    data[len(data) // 2] ^= 1
    (bench / QUESTIONS_TABLE).write_bytes(data)
    with pytest.raises(UserError, match=f"{QUESTIONS_TABLE!r} in benchmark .* was changed"):
        load_benchmark(bench)


def test_missing_table_is_refused(tmp_path, questions):
    bench = save(tmp_path / "bench", questions)
    (bench / QUESTIONS_TABLE).unlink()
    with pytest.raises(UserError, match="lacks its file"):
        load_benchmark(bench)


def test_table_that_the_manifest_does_not_name_is_not_read(tmp_path, questions):
    bench = save(tmp_path / "bench", questions)
    other = save(tmp_path / "other", [questions[0]])
    shutil.copy(other / QUESTIONS_TABLE, bench / "questions" / "test-00000-of-00002.parquet")
    assert list(load_benchmark(bench).questions.values()) == questions


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "not a benchmark folder"),
        ("{", "not a file that iit-bench wrote"),
        ("[]", "not a file that iit-bench wrote"),
        ('{"name": "x"}', "not a file that iit-bench wrote"),
        ('{"format": "other", "version": 1}', "not a benchmark folder"),
    ],
)
def test_empty_or_foreign_folder_is_no_benchmark(tmp_path, manifest, message):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=message):
        load_benchmark(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        load_benchmark(tmp_path / "nowhere")
    (tmp_path / "a file").write_text("x")
    with pytest.raises(UserError, match="a file' is a file, not a folder; "):
        load_benchmark(tmp_path / "a file")


def test_manifest_without_its_list_of_files_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": formats.BENCHMARK_FORMAT, "version": 1}))
    with pytest.raises(UserError, match="it lacks the field 'files'"):
        load_benchmark(tmp_path)


def test_built_benchmark_loads_with_datasets_and_its_images_decode(bench, tmp_path):
    from datasets import load_dataset

    # A cache of its own: datasets takes two folders of the same name for the same data.
    loaded = load_dataset(str(bench.path), "questions", split="test", cache_dir=str(tmp_path))
    assert loaded["id"] == list(bench.questions)
    visual = next(row for row in loaded if row["modality"] == "V")
    data = bench.questions[visual["id"]].images[0].data
    with PillowImage.open(io.BytesIO(data)) as expected:
        assert visual["images"][0].tobytes() == expected.tobytes()
    turns = load_dataset(str(bench.path), "dialogues", split="test", cache_dir=str(tmp_path))
    assert [tuple(row["turns"]) for row in turns] == [dialogue.turns for dialogue in bench.dialogues]


# ---------------------------------------------------------------- obstacles


def test_file_or_foreign_files_in_the_way_are_kept(tmp_path, questions):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(UserError, match="is a file, not a folder"):
        save(taken, questions)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a benchmark"):
        save(foreign, questions, overwrite=True)
    assert (foreign / "thesis.tex").read_text() == taken.read_text() == "mine"


def test_benchmark_is_replaced_only_on_request(tmp_path, questions):
    bench = save(tmp_path / "bench", questions)
    with pytest.raises(UserError, match="--overwrite"):
        save(bench, questions[:1])
    assert len(load_benchmark(bench).questions) == 2
    save(bench, questions[:1], overwrite=True)
    assert len(load_benchmark(bench).questions) == 1
    assert everything_under(tmp_path) == {"bench"} | {f"bench/{name}" for name in everything_under(bench)}


def test_no_permission_is_one_sentence_and_leaves_nothing(tmp_path, questions):
    (tmp_path / "file").write_text("")  # nobody, not even root, can write below a file
    for fails in (
        lambda: save(tmp_path / "file" / "bench", questions),
        lambda: write_atomic(tmp_path / "file" / "run.json", "{}"),
        lambda: check_writable(tmp_path / "file" / "run"),
        lambda: check_target(Path("/proc/iit-bench"), BENCHMARK_FORMAT),
    ):
        with pytest.raises(UserError, match=r"^cannot write "):
            fails()
    assert everything_under(tmp_path) == {"file"}


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("{tmp}/file/run", "'{tmp}/file' is a file, not a folder; choose another folder"),
        ("{tmp}/file/deep/run", "'{tmp}/file' is a file, not a folder; choose another folder"),
        ("/proc/x", "no file can be made in '/proc' (No such file or directory); choose another folder, or change that one's permissions"),
        ("/proc/x/y/z", "no file can be made in '/proc' (No such file or directory)"),
        ("{tmp}/" + "n" * 300, "File name too long; choose a shorter name"),
    ],
)
def test_the_advice_fits_what_is_wrong_with_the_place(tmp_path, place: str, advice: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        check_writable(Path(place.format(tmp=tmp_path)))
    assert advice.format(tmp=tmp_path) in str(caught.value) and "free some space" not in str(caught.value)
    assert everything_under(tmp_path) == {"file"}


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "mount its file system so that it can be written"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "check its disk, or the connection to it,"),
        (errno.ESTALE, "check its disk, or the connection to it,"),
    ],
)
def test_the_advice_fits_the_number_of_the_error(tmp_path, number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number))
    for sentence in (str(unwritable(tmp_path / "file", error)), fix_for(error)):
        assert advice in sentence and ("free some space" in sentence) == (advice == "free some space")


def test_the_advice_for_an_error_of_safetensors_goes_by_the_systems_number_in_it(tmp_path) -> None:
    with pytest.raises((SafetensorError, OSError)) as caught, files_of_at_most(1000):
        save_file({"weight": np.zeros(1000, dtype=np.float32)}, tmp_path / "model.safetensors")
    assert fix_for(caught.value) == "free some space"
    assert fix_for(SafetensorError("I/O error: Read-only file system (os error 30)")) == "mount its file system so that it can be written"
    assert fix_for(SafetensorError("no number")) == "check its folder"


def test_a_check_of_a_place_that_can_be_written_makes_nothing(tmp_path) -> None:
    check_writable(tmp_path / "not" / "there" / "yet")
    assert everything_under(tmp_path) == set()


@pytest.mark.parametrize("size", [0, 5, 1000, 6000])
def test_write_that_stops_half_way_leaves_nothing(tmp_path, questions, size):
    with pytest.raises(UserError, match=r"^cannot write .* free some space"), files_of_at_most(size):
        save(tmp_path / "bench", questions)
    assert everything_under(tmp_path) == set()
    if size == 0:
        with pytest.raises(UserError, match=r"^cannot write "), files_of_at_most(size):
            check_writable(tmp_path / "run")
        assert everything_under(tmp_path) == set()


class FullDisk:
    """Replaces os.fsync or os.replace; the n-th call meets a full disk."""

    def __init__(self, real, n: int) -> None:
        self.real, self.left = real, n

    def __call__(self, *arguments):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*arguments)


# Four files, each synced and moved into place; then, where folders cannot change places in one step, the old one is moved aside and the
# new one into its place.
STEPS = [("fsync", n) for n in range(1, 5)] + [("replace", n) for n in range(1, 7)]


@pytest.mark.parametrize(("function", "n"), STEPS)
@pytest.mark.parametrize("old", [False, True], ids=["new", "over an old one"])
def test_failure_at_any_step_keeps_the_old_benchmark_and_nothing_else(tmp_path, monkeypatch, questions, function, n, old):
    out = tmp_path / "bench"
    if old:
        save(out, questions[:1])
    before = everything_under(tmp_path)
    monkeypatch.setattr(sys, "platform", "one without renameat2")
    monkeypatch.setattr(os, function, FullDisk(getattr(os, function), n))
    if (function, n) == ("replace", 6) and not old:
        save(out, questions)  # one step fewer where nothing is there to be moved aside
        return
    with pytest.raises(UserError, match="No space left on device"):
        save(out, questions, overwrite=old)
    assert everything_under(tmp_path) == before
    if old:
        assert len(load_benchmark(out).questions) == 1


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, function):
    target = tmp_path / "results.json"
    write_atomic(target, "old")
    monkeypatch.setattr(os, function, FullDisk(getattr(os, function), 1))
    with pytest.raises(UserError, match="No space left"):
        write_atomic(target, "new")
    assert everything_under(tmp_path) == {"results.json"}
    assert target.read_text() == "old"


# ---------------------------------------------------------------- run folders


def predictions() -> list[Prediction]:
    common = ("facts", "capital")
    done = Prediction(
        "t/1:T", 0, True, "T", "t/1", "t/1", *common, "c1", "T", ("a", "bé"), 1, (-0.1, -2.5), (1, 2), 0, 1, 0, "wrong", "a", 9, 3
    )
    failed = Prediction("t/2:T", 0, True, "T", "t/2", "t/2", *common, "c2", "T", ("a", "b"), 0, (), (), -1, -1, -1, "error", "", 0, 0)
    return [done, failed]


ERROR = {
    "dialogue": "t/2:T",
    "position": 0,
    "tier": "T",
    "question": "t/2",
    "kind": "item",
    "reason": "context overflow",
    "detail": "9 > 8",
}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    save_run_header(folder, {"name": "r", "command": "iit-bench eval --model x"})
    save_run_outcome(folder, predictions(), summarise(predictions(), {"V": "no images"}, complete=True), [ERROR])
    return folder


def test_run_round_trip_gives_equal_records(run):
    found = load_run(run)
    assert found.predictions == predictions()
    assert found.results == summarise(predictions(), {"V": "no images"}, complete=True)
    assert list(found.errors) == [ERROR]
    assert found.run["name"] == "r"


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(("name", "known"), [("run.json", "1 and 2 and 3"), ("results.json", "1 and 2 and 3 and 4")])
def test_run_of_another_version_is_refused(run, name, known):
    change(run / name, version=5)
    with pytest.raises(UserError, match=f"format version 5, this iit-bench reads {known};"):
        load_run(run)


def test_changed_predictions_are_refused(run):
    with (run / "predictions.parquet").open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match=r"'predictions.parquet' .* missing or was changed; repeat its command: iit-bench eval --model x"):
        load_run(run)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("run.json", "not a run folder"),
        ("results.json", "is not finished"),
        ("predictions.parquet", "missing or was changed"),
        ("errors.jsonl", "is damaged"),
    ],
)
def test_run_without_one_of_its_files_is_refused(run, gone, message):
    (run / gone).unlink()
    with pytest.raises(UserError, match=message):
        load_run(run)


def test_results_with_a_field_missing_are_refused(run):
    body = json.loads((run / "results.json").read_text())
    del body["tiers"]
    reseal(run / "results.json", body)
    with pytest.raises(UserError, match=r"is damaged .*it lacks the field 'tiers'"):
        load_run(run)


def test_benchmark_folder_is_no_run_folder(bench):
    with pytest.raises(UserError, match="not a run folder"):
        load_run(bench.path)


def test_every_file_of_a_folder_goes_through_the_atomic_writer(run, monkeypatch):
    monkeypatch.setattr(os, "replace", FullDisk(os.replace, 3))
    changed = predictions()[:1]
    with pytest.raises(UserError, match="No space left"):
        save_run_outcome(run, changed, summarise(changed, {}, complete=True), [])
    assert everything_under(run) == {"run.json", "results.json", "predictions.parquet", "errors.jsonl"}
    with pytest.raises(UserError, match="was changed"):  # new predictions beside old results are never shown together
        load_run(run)
    assert run_folders.load_run_header(run)["name"] == "r"
