"""A disk that is full, or read-only: every command ends with code 2 and one sentence, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.storage.atomic import full_or_read_only
from tests.full_disk import files_of_at_most

COMMANDS = {
    "build": ["build", "--size", "2", "--tiers", "T", "--match", "none", "--out", "OUT"],
    "export": ["export", "BENCH", "--to", "lm-eval", "--out", "OUT"],
    "export-hub": ["export", "BENCH", "--to", "hub", "--out", "OUT"],
    "export-runs": ["export", "RUN", "--to", "csv", "--out", "OUT"],
    "report": ["report", "RUN", "--out", "OUT"],
    "eval": ["eval", "--model", "random", "--bench", "BENCH", "--limit", "2", "--out", "OUT"],
    "demo": ["demo", "--limit", "2", "--out", "OUT"],
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
    places = {"BENCH": bench.path, "RUN": majority_run, "OUT": tmp_path / "out"}
    words = [str(places.get(word, word)) for word in COMMANDS[command]]
    with files_of_at_most(size):
        assert "free some space" in refused(words, capsys)
    assert not list(tmp_path.rglob(".*")), "litter"
    assert not list(tmp_path.rglob("manifest.json")) and not list(tmp_path.rglob("index.html"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="no folder is closed to this user")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written_is_one_sentence(bench, majority_run, tmp_path, capsys, command):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    places = {"BENCH": bench.path, "RUN": majority_run, "OUT": closed / "out"}
    refused([str(places.get(word, word)) for word in COMMANDS[command]], capsys)


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
