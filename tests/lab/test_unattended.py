"""A grid that nobody watches: cells that cannot be run, a full disk, unusable inputs, killed processes (iit_bench/lab/run.py)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.lab.failures import Failures
from iit_bench.lab.run import LabOptions, run_lab
from iit_bench.storage import litter
from iit_bench.training.assets import models
from tests.full_disk import files_of_at_most
from tests.reliability.steps import Steps
from tests.reliability.tally import Tally

slow = pytest.mark.slow
BASE = ("--only", "method=base")


@pytest.fixture
def worked(ran: Path, make) -> LabOptions:
    """An experiment whose models and runs are there, and none of whose results."""
    options = make()
    shutil.copytree(ran / "work", options.out / "work")
    return options


def words(options: LabOptions, *more: str) -> list[str]:
    return ["lab", options.grid, "--out", str(options.out), *more]


@slow
def test_a_cell_that_cannot_be_run_is_told_and_the_others_are_run(worked: LabOptions, ran: Path, capsys) -> None:
    damaged = worked.out / "work" / "runs" / "full-2e-4-0" / "run.json"
    whole = damaged.read_bytes()
    damaged.write_text("{")
    assert main(words(worked)) == 1
    *_, told, counts = capsys.readouterr().err.splitlines()
    assert told.startswith("full-2e-4-0 could not be run: ") and str(damaged) in told
    assert counts.startswith("3 cells: 2 done, 1 error; ")
    assert main(words(worked, "--dry-run")) == 0
    assert f"full-2e-4-0   error ({told.partition(': ')[2]})\n" in capsys.readouterr().out
    damaged.write_bytes(whole)
    assert main(words(worked, "--quiet")) == 0
    assert capsys.readouterr().err == "3 cells: 3 done\n"
    for name in ("base-0-0", "full-2e-4-0", "wings-2e-4-0"):
        assert (worked.out / "cells" / f"{name}.parquet").read_bytes() == (ran / "cells" / f"{name}.parquet").read_bytes()


def test_a_cell_that_failed_is_tried_once_by_all_processes_of_a_call_and_again_by_the_next(tmp_path: Path) -> None:
    one, other, later = (Failures(tmp_path / "errors") for _ in range(3))
    one.begin()
    other.begin()
    one.record("base-0-0", "it is damaged")
    assert one.is_new("base-0-0") and other.is_new("base-0-0")
    later.begin()
    assert not later.is_new("base-0-0") and later.reason("base-0-0") == "it is damaged"
    later.record("base-0-0", "it is still damaged")
    assert later.is_new("base-0-0")
    later.forget("base-0-0")
    assert not later.is_new("base-0-0") and later.reason("base-0-0") == ""


@slow
def test_inputs_that_no_cell_can_start_from_are_refused_before_any_is_run(make, tmp_path: Path, capsys) -> None:
    options = make()
    llm = tmp_path / "llm"
    shutil.copytree(models() / "base-llm", llm)
    (llm / "tokenizer.json").write_text("{}")
    assert main(words(options, "--llm", str(llm))) == 2
    error = capsys.readouterr().err
    assert str(llm) in error and "begun" not in error and len(error.splitlines()) == 1
    assert not (options.out / "work" / "errors").exists()


@slow
@pytest.mark.parametrize("size", [0, 300, 3000])
def test_a_full_disk_ends_the_process_and_the_same_command_goes_on(worked: LabOptions, ran: Path, capsys, size: int) -> None:
    shutil.rmtree(worked.out / "work" / "runs")
    with files_of_at_most(size):
        assert main(words(worked)) == 2
    *_, last = captured = capsys.readouterr().err.splitlines()
    assert "free some space" in last and sum(": begun" in line for line in captured) == (
        0 if size == 0 else 1
    )  # seen before the first cell
    assert main(words(worked, *BASE, "--quiet")) == 0
    assert (worked.out / "cells" / "base-0-0.parquet").read_bytes() == (ran / "cells" / "base-0-0.parquet").read_bytes()


@slow
def test_a_full_disk_in_a_training_ends_the_process(worked: LabOptions, capsys) -> None:
    shutil.rmtree(worked.out / "work" / "stages")
    with files_of_at_most(3000):
        assert main(words(worked, "--only", "method=full,wings")) == 2
    *_, last = captured = capsys.readouterr().err.splitlines()
    assert "free some space" in last and sum(": begun" in line for line in captured) == 1
    assert not (worked.out / "work" / "errors").exists()


@slow
@pytest.mark.parametrize("keep", [False, True])
def test_what_a_killed_process_left_of_a_finished_cell_is_cleared_unless_it_is_kept(ran: Path, make, keep: bool) -> None:
    options = make()
    for part in ("work", "cells"):
        shutil.copytree(ran / part, options.out / part)
    note = options.out / "work" / "holders" / "full-2e-4-0.json"
    note.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-11-30 12:00", "keep": keep}))
    before = {path.name for path in (options.out / "work" / "stages").iterdir()}
    places = [options.out / name for name in ("cells", "work", "work/runs", "work/stages")]
    unfinished = [litter.unfinished(place / "base-0-0") for place in places]
    unfinished = [path.with_name(path.name.replace(str(os.getpid()), "999999999")) for path in unfinished]  # of no process
    for path in unfinished:
        path.touch()
    run_lab(options, progress=False)
    assert not note.exists() and not any(path.exists() for path in unfinished)
    assert (options.out / "work" / "runs" / "full-2e-4-0").exists() == keep
    assert (options.out / "work" / "runs" / "base-0-0").exists()
    gone = before - {path.name for path in (options.out / "work" / "stages").iterdir()}
    assert len(gone) == (0 if keep else 2)  # the model of stage 2, and its recipe


@slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_killed_before_a_change_of_the_file_system_the_same_command_leaves_what_an_undisturbed_one_does(
    built: Path, tmp_path: Path, record_property
) -> None:
    """Its run is cleared, too."""
    begin = tmp_path / "begin"
    shutil.copytree(built / "bench", begin / "out" / "bench")
    command = ["lab", str(built / "grid.yaml"), "--out", str(tmp_path / "work" / "out"), *BASE, "--quiet"]
    steps = Steps(tmp_path / "work", command, begin=begin, tally=Tally("killed at a call: lab", record_property))
    assert steps.check(None if "TORTURE" in os.environ else 2)


@slow
@pytest.mark.skipif("TORTURE" not in os.environ or not hasattr(os, "fork"), reason="takes minutes; what it found is held by test_run.py")
def test_killed_while_it_trains_the_same_command_ends_with_the_same_cell(built: Path, tmp_path: Path, record_property) -> None:
    """The stage that cells share is trained before; the rest of a cell is killed at every call."""
    begin = tmp_path / "begin"
    shutil.copytree(built / "bench", begin / "out" / "bench")
    command = ["lab", str(built / "grid.yaml"), "--quiet", "--only"]
    assert main([*command, "method=full", "--out", str(begin / "out")]) == 0
    command += ["method=wings", "--out", str(tmp_path / "work" / "out")]
    assert Steps(tmp_path / "work", command, begin=begin, tally=Tally("killed at a call: lab, a cell", record_property)).check()
