"""`iit-bench verify` finds what is missing, changed or added in folders of every kind, and marks those of before seals."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from iit_bench.cli import main
from iit_bench.engine.lines import entry_line
from iit_bench.errors import UserError
from iit_bench.models.contract import ScoreResult
from iit_bench.storage import runs
from iit_bench.storage.atomic import unwritable
from iit_bench.storage.benchmark import BENCHMARK_FORMAT, Benchmark
from iit_bench.storage.runs import load_run_header, save_finished_header
from iit_bench.storage.tables import table_bytes
from iit_bench.storage.whole_folders import check_target
from iit_bench.types import SeenPrompt
from iit_bench.workflows.verifying import Verified, as_text, verify
from reports.folder import LIST, ReportFolder, sums
from tests.reliability.damage import Subject, subjects
from tests.resealed import change

pytestmark = pytest.mark.slow
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def made(bench: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of every kind by name, in one folder. Never changed: copy one to damage it."""
    found: list[Subject] = subjects(tmp_path_factory.mktemp("whole"), bench.path)
    return {one.name: one.folder for one in found}


@pytest.fixture
def copied(made: dict[str, Path], tmp_path: Path):
    return lambda name: shutil.copytree(made[name], tmp_path / name.replace(" ", "-"))


def faults(folder: Path) -> list[tuple[str, str]]:
    (found,) = verify([folder])
    return [(fault.file, fault.what) for fault in found.faults]


def test_all_folders_below_one_are_found_and_whole(made: dict[str, Path]) -> None:
    found = verify([made["run"].parent])
    kinds = {one.folder.name: one.kind for one in found}
    assert kinds == {"benchmark": "benchmark", "run": "run", "training": "training", "export": "export", "data": "data root",
                     "cells": "cells", "report": "report"}  # fmt: skip
    assert all(one.whole and one.sealed and one.finished and one.checked for one in found)
    assert as_text(found).endswith("7 folders, 0 of them not whole")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("benchmark", "questions/test-00000-of-00001.parquet"),
        ("run", "predictions.parquet"),
        ("run", "run.json"),
        ("run", "errors.jsonl"),
        ("run", "responses.jsonl"),
        ("export", "iit_T.yaml"),
        ("data root", "owner/a.parquet"),
        ("training", "log.jsonl"),
        ("report", "models/a.html"),
    ],
)
def test_a_missing_file_is_named(copied, kind: str, file: str) -> None:
    folder = copied(kind)
    (folder / file).unlink()
    assert faults(folder) == [(file, "missing")]


def test_a_cell_without_its_table_is_named(copied) -> None:
    folder = copied("cells of the experiment")
    (folder / "wings-2e-4-1.parquet").unlink()
    (found,) = verify([folder])
    assert found.faults[0].file == "wings-2e-4-1.json" and "its table wings-2e-4-1.parquet is missing" in found.faults[0].detail


@pytest.mark.parametrize(("kind", "file"), [("export", "iit_T.yaml"), ("training", "config.json"), ("report", "index.html")])
def test_a_changed_file_is_named(copied, kind: str, file: str) -> None:
    folder = copied(kind)
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")
    assert faults(folder) == [(file, "changed")]


def test_json_nested_deeply_is_a_fault_of_its_file(copied, made: dict[str, Path]) -> None:
    """It was an internal error where a log had such a line, or a folder to be replaced such a manifest."""
    for kind in made:
        folder = copied(kind)
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl")):
            whole = path.read_bytes()
            for begin in (b"", whole.partition(b"\n")[0] + b"\n" if path.suffix == ".jsonl" else b""):
                path.write_bytes(begin + b"[" * 100_000 + b"\n" + begin)
                with suppress(UserError):  # of the only file that says what a folder is
                    (found,) = verify([folder])
                    assert not found.whole, path
                with suppress(UserError):
                    check_target(folder, BENCHMARK_FORMAT, overwrite=True)
            path.write_bytes(whole)


def test_a_table_that_nobody_listed_is_named(copied) -> None:
    folder = copied("benchmark")
    shutil.copy(folder / "questions" / "test-00000-of-00001.parquet", folder / "questions" / "test-00001-of-00002.parquet")
    assert faults(folder) == [("questions/test-00001-of-00002.parquet", "added")]


def test_an_answer_that_contradicts_another_is_named_with_both_lines(copied) -> None:
    folder = copied("run")
    log = folder / "responses.jsonl"
    first = json.loads(log.read_bytes().splitlines()[1])["key"]
    n = len(log.read_bytes().splitlines())
    with log.open("ab") as file:
        file.write(entry_line(first, ScoreResult((-9.0, -8.0), (1, 1), (False, False), 3)))
    (found,) = verify([folder])
    assert [(one.file, one.what) for one in found.faults] == [("responses.jsonl", "damaged")]
    assert f"line 2 of responses.jsonl and line {n + 1} of responses.jsonl answer one request differently" in found.faults[0].detail


@pytest.mark.parametrize(
    ("kept", "said"),
    [(lambda n: range(1), "it has 0 of the {n} answers"), (lambda n: [*range(5), *range(6, n)], "it has {less} of the {n}")],
)
def test_answers_that_a_finished_run_no_longer_has_are_missed(copied, kept, said: str) -> None:
    """A log is read line by line, and any number of whole lines were whole."""
    folder = copied("run")
    log = folder / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[number] for number in kept(len(lines))))
    (found,) = verify([folder])
    assert [(one.file, one.what) for one in found.faults] == [("responses.jsonl", "damaged")]
    assert said.format(n=len(lines) - 1, less=len(lines) - 2) in found.faults[0].detail


def test_as_many_answers_to_other_requests_are_not_a_runs_own(copied) -> None:
    folder = copied("run")
    log = folder / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    answer = ScoreResult((-9.0, -8.0), (1, 1), (False, False), 3)
    log.write_bytes(b"".join([*lines[:-1], entry_line("0" * 64, answer)]))
    (found,) = verify([folder])
    assert "its answers are to other requests than the run had made" in found.faults[0].detail


def test_a_file_outside_the_folder_is_not_read(copied, tmp_path: Path) -> None:
    folder = copied("export")
    (tmp_path / "secret").write_text("x")
    (folder / "iit_T.yaml").unlink()
    (folder / "iit_T.yaml").symlink_to(tmp_path / "secret")
    (found,) = verify([folder])
    assert [(one.file, one.what) for one in found.faults] == [("iit_T.yaml", "damaged")]
    assert "leads out of" in found.faults[0].detail


def test_a_run_that_was_stopped_is_whole_and_not_finished(copied) -> None:
    folder = copied("run")
    change(folder / "run.json", ended=None, files={})  # as it was until the run ended
    (folder / "results.json").unlink()
    log = folder / "responses.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # killed while it wrote the last line
    (found,) = verify([folder])
    assert found.whole and not found.finished


def test_a_run_whose_last_write_met_a_full_disk_is_not_finished_and_its_command_finishes_it(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was called whole and unsealed, as if an earlier version had written it."""
    folder = tmp_path / "run"
    command = ["eval", "--model", "majority", "--bench", str(bench.path), "--limit", "2", "--quiet", "--out", str(folder)]
    with monkeypatch.context() as patch:
        full = unwritable(folder / "run.json", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        patch.setattr(runs, "save_run_header", Mock(side_effect=full))  # as the end of an evaluation calls it; its start does otherwise
        assert main(command) != 0
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 0
    line, note, _ = capsys.readouterr().out.splitlines()
    assert "run, whole, not finished (" in line
    assert "its run.json does not record its end" in note and note.endswith(load_run_header(folder)["command"])
    assert main(command) == 0
    (found,) = verify([folder])
    assert found.whole and found.sealed and found.finished and not found.notes


def test_how_to_finish_is_said_of_whatever_was_stopped(copied) -> None:
    training, run = copied("training"), copied("run")
    (training / "training.json").unlink()
    (training / "checkpoint").mkdir()  # until its end
    change(run / "run.json", ended=None, files={})
    (run / "results.json").unlink()
    for folder, said in ((training, "it has no training.json"), (run, "it has no results.json")):
        (found,) = verify([folder])
        assert not found.finished and said in found.notes[0] and "to finish it, repeat its command" in as_text([found])


@pytest.mark.parametrize(
    "left",
    [
        {".lock": "", "log.jsonl": ""},
        {"log.jsonl": ""},
        {"log.jsonl": '{"step": 1}\n'},
        {".lock": "", "recipe.yaml": "kind: merge"},
        {"recipe.yaml": "kind: merge\n", "config.json": "{}"},
    ],
)
def test_a_training_that_was_stopped_before_its_first_checkpoint_is_not_finished(left: dict[str, str], tmp_path: Path) -> None:
    """Its folder held nothing that iit-bench wrote, it was said. A merge has no log."""
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    (found,) = verify([tmp_path])
    assert (found.kind, found.whole, found.finished) == ("training", True, False)
    assert "it has no training.json" in found.notes[0] and "to finish it, repeat its command" in found.notes[0]


@pytest.mark.parametrize("left", [{"log.jsonl": '{"epoch": 1}\n'}, {"recipe.yaml": "kind: merge"}])
def test_a_log_or_recipe_of_somebody_elses_is_no_training(left: dict[str, str], tmp_path: Path) -> None:
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="holds nothing that iit-bench wrote"):
        verify([tmp_path])


def test_folders_of_before_seals_are_whole_and_unsealed(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "run_version_1" / "iit", tmp_path / "run")
    (folder / "responses.jsonl").write_text('{"format":"iit-bench/responses","version":1}\n')
    (found,) = verify([folder])
    assert found.whole and not found.sealed and "unsealed" in found.line()


def test_a_report_that_was_stopped_is_not_whole(copied) -> None:
    folder = copied("report")
    ReportFolder(folder).write("models/new.html", "<p>")
    assert faults(folder) == [(LIST, "damaged")]


def test_a_report_that_was_stopped_after_its_index_is_not_finished(copied, tmp_path: Path) -> None:
    """It was called whole and unsealed. One over an earlier report, with the same files, had files that were `changed`."""
    first, second = ReportFolder(tmp_path / "first"), ReportFolder(copied("report"))
    for report in (first, second):
        for name in ("models/a.html", "index.html"):
            report.write(name, "<p>new")
        (found,) = verify([report.path])
        assert not found.finished and found.sealed
        assert found.notes == ["a report is under way, or was stopped; to finish it, repeat its command"]
    assert "report, whole, not finished (" in verify([first.path])[0].line()
    assert faults(second.path) == [(LIST, "damaged")]  # pages of two reports
    for report in (first, second):
        report.tidy()
        (found,) = verify([report.path])
        assert found.whole and found.finished and found.sealed


@pytest.mark.parametrize("file", ["index.html", "models/a.html"])
def test_a_first_report_that_was_stopped_is_not_finished(copied, file: str) -> None:
    """Of an earlier version, which marked no list: it was called whole and unsealed. Its list has no sums until its end."""
    folder = copied("report")
    without_sums(folder)
    (folder / file).unlink()  # listed before it is written
    (found,) = verify([folder])
    assert [(fault.file, fault.what) for fault in found.faults] == [(file, "missing")]
    assert "report, 1 fault, not finished (" in found.line()
    assert f"it has no {file}" in found.notes[0] and "repeat its command" in found.notes[0]


def test_a_first_report_that_was_stopped_before_its_index_was_listed_is_not_finished(tmp_path: Path) -> None:
    ReportFolder(tmp_path).write("models/a.html", "<p>")
    (found,) = verify([tmp_path])
    assert not found.finished and faults(tmp_path) == [("index.html", "missing")]


def test_a_report_of_before_sums_is_whole_and_unsealed(copied) -> None:
    folder = copied("report")
    without_sums(folder)
    (found,) = verify([folder])
    assert found.whole and found.finished and found.line().startswith(f"{folder}: report, whole, unsealed (")
    assert set(found.unchecked) >= {"index.html", "models/a.html"}


def without_sums(folder: Path) -> None:
    """Leave the names in a report's list, as earlier versions wrote it."""
    (folder / LIST).write_text("# Files\n" + "".join(f"{name}\n" for name in sums(folder) or {}))


def test_a_folder_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(UserError, match="holds nothing that iit-bench wrote"):
        verify([tmp_path])
    with pytest.raises(UserError, match="is not a folder"):
        verify([tmp_path / "nowhere"])


def test_the_command_ends_with_1_and_names_the_file(copied, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("training")
    assert main(["verify", str(folder)]) == 0
    (folder / "config.json").write_text("{}")
    capsys.readouterr()
    assert main(["verify", str(folder), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["faults"] == [{"file": "config.json", "what": "changed", "detail": "its sha256 is not the one on record"}]
    assert (found["kind"], found["whole"]) == ("training", False)
    assert main(["verify", str(folder / "nowhere")]) == 2


def test_what_nothing_covers_is_listed(copied) -> None:
    folder = copied("run")
    (folder / "notes.txt").write_text("mine")
    (found,) = verify([folder])
    assert isinstance(found, Verified) and found.unchecked == ["notes.txt"] and found.whole


def test_another_run_json_and_changed_prompts_and_tool_files_are_named(bench: Benchmark, tmp_path: Path) -> None:
    """run.json is written last, with the hashes of what was written before it: an intact one of another run does not fit."""
    made = {}
    for name, chat_model in (("a", "majority"), ("b", "random")):
        made[name] = tmp_path / name
        arguments = ["--model", chat_model, "--bench", str(bench.path), "--limit", "2", "--quiet", "--out", str(made[name])]
        assert main(["eval", *arguments]) == 0
    assert faults(made["a"]) == []
    whole = (made["a"] / "run.json").read_bytes()
    shutil.copy(made["b"] / "run.json", made["a"])
    assert faults(made["a"]) == [("results.json", "changed"), ("responses.jsonl", "damaged")]
    (made["a"] / "run.json").write_bytes(whole)
    folder, tool = made["a"], made["a"] / "lm_eval"
    tool.mkdir()
    for name in ("prompts.parquet", "lm_eval/results.json"):
        (folder / name).write_bytes(table_bytes(SeenPrompt, []))
    save_finished_header(folder, load_run_header(folder), "lm_eval")
    (found,) = verify([folder])
    assert found.whole and found.unchecked == []
    (tool / "results.json").write_text("changed")
    (folder / "prompts.parquet").unlink()
    assert sorted(faults(folder)) == [("lm_eval/results.json", "changed"), ("prompts.parquet", "missing")]


def test_files_of_a_run_from_before_their_hashes_are_listed_as_unchecked(copied) -> None:
    folder = copied("run")
    (folder / "lm_eval").mkdir()
    change(folder / "run.json", lambda body: body.pop("files"))
    (found,) = verify([folder])
    assert found.whole and found.unchecked == ["lm_eval/"]


def test_a_finished_run_without_its_results_is_not_whole(copied) -> None:
    """As a run that is not finished it was called whole, and no reader took it."""
    folder = copied("run")
    (folder / "results.json").unlink()
    assert faults(folder) == [("results.json", "missing")]
