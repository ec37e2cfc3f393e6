"""A disk that is full, or read-only: every command ends with code 2 and one sentence, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from iit_bench.cli import commands, main
from iit_bench.storage.atomic import full_or_read_only
from tests.full_disk import files_of_at_most, permissions_that_count
from tests.reliability.steps import litter, said

OF_RANDOM = ["eval", "--model", "random", "--bench", "BENCH", "--out"]
COMMANDS = {
    "build": ["build", "--size", "2", "--tiers", "T", "--match", "none", "--out", "OUT"],
    "export": ["export", "BENCH", "--to", "lm-eval", "--out", "OUT"],
    "export-hub": ["export", "BENCH", "--to", "hub", "--out", "OUT"],
    "export-runs": ["export", "RUN", "--to", "csv", "--out", "OUT"],
    "report": ["report", "RUN", "--out", "OUT"],
    "eval": ["eval", "--model", "random", "--bench", "BENCH", "--limit", "2", "--out", "OUT"],
    "demo": ["demo", "--limit", "2", "--out", "OUT"],
    "submit": ["submit", "--cluster", "local", "--logs", "OUT", *OF_RANDOM, "NEW"],
}


@pytest.fixture(scope="module")
def majority_run(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "majority"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(out), "--limit", "4", "--quiet"]) == 0
    return out


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that a command ends with, code 2."""
    capsys.readouterr()
    code = main(words)
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and last.startswith("iit-bench: cannot write "), last
    return last


@pytest.mark.parametrize(("command", "size"), [(name, size) for name in COMMANDS for size in (0, 40) if (name, size) != ("demo", 40)])
def test_a_full_disk_is_one_sentence_and_nothing_is_half_written(bench, majority_run, tmp_path, capsys, command, size):
    places = {"BENCH": bench.path, "RUN": majority_run, "OUT": tmp_path / "out", "NEW": tmp_path / "new"}
    words = [str(places.get(word, word)) for word in COMMANDS[command]]
    with files_of_at_most(size):
        assert "free some space" in refused(words, capsys)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_no_place_for_temporary_files_is_one_sentence(bench, tmp_path):
    """Where /tmp is full too, tempfile ended the import of torch in an internal error."""
    words = ["eval", "--model", "base-llm", "--bench", str(bench.path), "--tiers", "T", "--limit", "1", "--out", str(tmp_path / "out")]
    with files_of_at_most(0):  # which a process hands on to those that it starts
        ended = subprocess.run(
            [sys.executable, "-c", "import sys; from iit_bench.cli import main; sys.exit(main(sys.argv[1:]))", *words],
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("iit-bench: no folder for temporary files can be written"), ended.stderr


ALSO = {
    "fetch": ["fetch", "POPE", "--data-root", "OUT"],
    "lab": ["lab", "quick", "--out", "OUT"],
    "watch": ["watch", "EMPTY", "--bench", "BENCH", "--once", "--out", "OUT"],
    "attention-of-a-run": ["attention", "CLOSED"],
    "arms": ["arms", "CLOSED"],
    "merge": ["merge", "CLOSED"],
    "train": ["train", "lab2-base", "--out", "OUT"],
    "submit-of-a-run": ["submit", "--cluster", "local", "--logs", "LOGS", *OF_RANDOM, "OUT"],
}
NOTHING = {"plan", "compare", "show", "diff", "explain", "verify", "list"}  # is written by these


def test_every_command_that_writes_is_tried() -> None:
    assert {words[0] for words in (COMMANDS | ALSO).values()} == set(commands.COMMANDS) - NOTHING


@pytest.mark.parametrize("command", ALSO)
def test_where_the_disk_is_full_from_the_start_nothing_is_begun(bench, majority_run, tmp_path, capsys, command):
    run = shutil.copytree(majority_run, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    places = {"BENCH": bench.path, "OUT": tmp_path / "out", "CLOSED": run, "EMPTY": tmp_path / "empty", "LOGS": tmp_path / "logs"}
    with files_of_at_most(0):
        assert "free some space" in refused([str(places.get(word, word)) for word in ALSO[command]], capsys)
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="root is asked to give up what opens every folder")
@pytest.mark.parametrize("command", COMMANDS | ALSO)
def test_a_folder_that_cannot_be_written_is_one_sentence(bench, majority_run, tmp_path, capsys, command):
    closed = tmp_path / "closed"
    shutil.copytree(majority_run, closed)
    (tmp_path / "empty").mkdir()
    before = contents(closed)
    closed.chmod(0o555)
    places = {"BENCH": bench.path, "RUN": majority_run, "OUT": closed / "out", "CLOSED": closed, "EMPTY": tmp_path / "empty"}
    places |= {"NEW": tmp_path / "new", "LOGS": tmp_path / "logs"}
    with permissions_that_count():
        assert "permissions" in refused([str(places.get(word, word)) for word in (COMMANDS | ALSO)[command]], capsys)
    assert contents(closed) == before


GO_ON = {
    "arms": ("arms WORK/run --arms blind --quiet", (0, 50, 1000)),
    "attention": ("attention --bench BENCH --model wings --tiers VT --limit 1 --out WORK/out --quiet", (0, 50)),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", GO_ON)
def test_what_a_full_disk_stopped_goes_on_by_the_same_command(bench, majority_run, tmp_path, capsys, command):
    work, whole = tmp_path / "work", tmp_path / "whole"
    line, sizes = GO_ON[command]
    words = [word.replace("WORK", str(work)).replace("BENCH", str(bench.path)) for word in line.split()]
    shutil.copytree(majority_run, work / "run")
    assert main(words) == 0
    work.rename(whole)
    shutil.copytree(majority_run, work / "run")
    for size in sizes:
        with files_of_at_most(size):
            assert "free some space" in refused(words, capsys)
        assert not litter(contents(work))
    assert main(words) == 0
    assert contents(work) == contents(whole)


def contents(folder: Path) -> dict[str, object]:
    """The files of a folder; of JSON files what does not belong to one run."""
    return {path.relative_to(folder).as_posix(): said(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["build", "export", "report", "eval"])
def test_a_place_where_nothing_can_be_made_is_one_sentence(bench, majority_run, capsys, command):
    places = {"BENCH": bench.path, "RUN": majority_run, "OUT": Path("/proc/iit-bench/out")}
    refused([str(places.get(word, word)) for word in COMMANDS[command]], capsys)


def test_a_folder_that_is_replaced_on_a_full_disk_stays_what_it_was(bench, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(bench.path, out)
    before = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with files_of_at_most(3000):
        refused(["build", "--size", "2", "--tiers", "T", "--match", "none", "--out", str(out), "--overwrite"], capsys)
    assert {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


# ---------------------------------------------------------------- what libraries raise


def test_the_disks_error_is_found_behind_a_librarys():
    try:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/model.bin")
        except OSError as error:
            raise RuntimeError("serialisation failed") from error
    except RuntimeError as error:
        assert str(full_or_read_only(error)) == (
            "cannot write '/data/model.bin': No space left on device; free some space and repeat the command"
        )
    rust = Exception("No space left on device (os error 28)")  # as tokenizers raises it
    assert str(full_or_read_only(rust)).startswith("a file cannot be written: No space left on device; free some space")
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/x")
    assert "Read-only file system; mount its file system so that it can be written" in str(full_or_read_only(read_only))


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no"), ValueError("28"), RuntimeError("os error")])
def test_other_errors_are_none_of_the_disk(error):
    assert full_or_read_only(error) is None
