"""The experiment run for real: tiny cells on the shipped base LLM and tower (iit_bench/lab/run.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.lab import cells
from iit_bench.lab.run import Experiment, run_lab
from iit_bench.training import checkpoint, peak_memory
from tests import warm_processes
from tests.lab.conftest import GRID
from tests.resealed import change

pytestmark = pytest.mark.slow
FULL = ("method=full",)


def test_a_cell_has_what_its_run_has(ran: Path) -> None:
    for result in cells.read(ran / "cells"):
        predictions = pd.read_parquet(ran / "work" / "runs" / result.cell.name / "predictions.parquet")
        own = cells.items_of(ran / "cells", result.cell)
        assert own["item"].tolist() == predictions["group"].tolist()
        right = predictions.groupby("tier")["outcome"].apply(lambda one: int((one == "correct").sum())).to_dict()
        assert {tier: count.correct for tier, count in result.scores.items()} == right
        assert (own["correct"] == (own["margin"] > 0)).all()


def test_a_cell_says_what_was_trained(ran: Path) -> None:
    base, full, wings = cells.read(ran / "cells")
    assert (base.cell.name, full.cell.name, wings.cell.name) == ("base-0-0", "full-2e-4-0", "wings-2e-4-0")
    assert set(base.scores) == {"T"}
    assert set(full.scores) == {"T", "V", "VT"}
    assert base.inputs == full.inputs
    assert full.parameters["trained"] < wings.parameters["trained"] <= wings.parameters["total"]
    assert full.tokens == wings.tokens > 0  # the same questions
    assert [point.step for point in full.path] == [4]
    assert full.path[-1].scores["V"].n == 4
    assert full.attention is not None
    assert len(full.attention.curves["image"]) == len(full.attention.layers)
    assert full.seconds["stage1"] == wings.seconds["stage1"] > 0  # trained once
    if peak_memory.RESET.exists():  # of Linux
        assert base.peak_memory is None and full.peak_memory is not None and 1e8 < full.peak_memory < 1e11


def test_cells_that_are_there_are_not_run_again(ran: Path, built: Path) -> None:
    from iit_bench.lab.run import LabOptions

    before = {path.name: path.stat().st_mtime_ns for path in (ran / "cells").iterdir()}
    standing = run_lab(LabOptions(grid=str(built / "grid.yaml"), out=ran), progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in (ran / "cells").iterdir()} == before
    assert standing.listing().splitlines()[-1] == "3 cells: 3 done"


def test_cells_that_were_brought_count_before_the_benchmark_is_built(ran: Path, make) -> None:
    options = make()
    shutil.rmtree(options.out / "bench")
    shutil.copytree(ran / "cells", options.out / "cells")
    assert Experiment(options).standing().listing().splitlines()[-1] == "3 cells: 3 done"
    other = make(grid={"rates": [2e-4], "stage": {**GRID["stage"], "optim": {**GRID["stage"]["optim"], "batch": 5}}})
    assert [state for _, state in Experiment(other).standing().states] == ["done", "other", "other"]


def test_a_killed_cell_resumes_from_its_checkpoint_to_the_same_answers(ran: Path, make, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    options = make(only=FULL)
    shutil.copytree(ran / "work" / "stages", options.out / "work" / "stages")
    stages = Experiment(options)
    _, folder = stage_folders_of(stages)
    shutil.rmtree(folder)
    save, steps = checkpoint.save, []

    def save_and_stop(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run_lab(options, progress=False)
    assert not (options.out / "cells").exists()
    monkeypatch.setattr(checkpoint, "save", lambda *arguments: (steps.append(arguments[3]["step"]), save(*arguments)))
    capfd.readouterr()
    run_lab(options, progress=False)
    assert steps == [4]  # begun at step 2
    assert capfd.readouterr() == ("", "")  # no bar of transformers either, which shows one per model that is loaded
    one, two = (Path(out) / "cells" / "full-2e-4-0.parquet" for out in (ran, options.out))
    assert one.read_bytes() == two.read_bytes()


def test_a_finished_stage_counts_however_much_of_its_checkpoint_a_killed_process_left(ran: Path, make, monkeypatch) -> None:
    """As an earlier version left it, whose removing of a checkpoint was more than one step."""
    options = make(only=FULL)
    shutil.copytree(ran / "work" / "stages", options.out / "work" / "stages")
    folder = stage_folders_of(Experiment(options))[-1]
    (folder / "cost.json").unlink()
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "state.json").write_text("{}")
    monkeypatch.setattr(checkpoint, "save", None)  # nothing is trained
    assert run_lab(dataclasses.replace(options, keep=True), progress=False).count("done") == 1
    assert not (folder / "checkpoint").exists()
    seconds = json.loads((folder / "training.json").read_text())["seconds"]
    (result,) = cells.read(options.out / "cells")
    assert result.seconds["train"] == pytest.approx(sum(seconds.values()))
    one, two = (Path(out) / "cells" / "full-2e-4-0.parquet" for out in (ran, options.out))
    assert one.read_bytes() == two.read_bytes()


def stage_folders_of(experiment: Experiment) -> list[Path]:
    from iit_bench.lab.one_cell import stage_folders

    inputs = experiment.inputs()
    assert inputs is not None
    return stage_folders(experiment.plan[-1], inputs, experiment.out / "work")


@contextlib.contextmanager
def another_with(name: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on a cell."""
    code = (
        "import sys; from pathlib import Path; from iit_bench.lab.locks import Locks\n"
        "with Locks(Path(sys.argv[1])).held(sys.argv[2]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(out / "work"), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.stdin.close()


def test_another_process_is_left_its_cell_and_named(make, capsys) -> None:
    options = make(only=("method=base",))
    words = ["lab", options.grid, "--out", str(options.out), "--only", "method=base"]
    with another_with("base-0-0", options.out) as other:
        who = rf"process {other.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d UTC"
        assert main([*words, "--dry-run"]) == 0
        assert re.fullmatch(rf"base-0-0  running \({who}\)\n1 cell: 1 running\n", capsys.readouterr().out)
        assert main([*words, "--quiet"]) == 0
        assert re.fullmatch(rf"base-0-0 is run by {who}\n1 cell: 1 running\n", capsys.readouterr().err)
    assert run_lab(options, progress=False).count("done") == 1


def test_the_cell_of_a_process_that_was_killed_is_free(make) -> None:
    options = make(only=("method=base",))
    with another_with("base-0-0", options.out) as other:
        other.kill()
        other.wait()
        assert Experiment(options).standing().listing() == "base-0-0  left\n1 cell: 1 left"
        assert run_lab(options, progress=False).count("done") == 1
    assert not any((options.out / "work" / "holders").iterdir())


def test_a_process_goes_on_where_another_was_killed(ran: Path, make) -> None:
    """Two real processes on one folder; what the killed one had begun is run by the other, to the same answers."""
    options = make(only=("method=base,full",))
    shutil.copytree(ran / "work" / "stages", options.out / "work" / "stages")
    shutil.rmtree(stage_folders_of(Experiment(options))[-1])
    code = (
        "import sys; from pathlib import Path; from iit_bench.lab.run import LabOptions, run_lab\n"
        "run_lab(LabOptions(grid=sys.argv[1], out=Path(sys.argv[2]), only=('method=base,full',)))"
    )
    command = [sys.executable, "-c", code, options.grid, str(options.out)]
    first, second = (warm_processes.WarmProcess(command, stderr=subprocess.PIPE, preload=warm_processes.MODELS) for _ in range(2))
    assert first.stderr is not None and second.stderr is not None
    begun = next(line for line in first.stderr if line.endswith(b": begun\n")).decode().partition(":")[0]
    first.kill()
    said = second.stderr.read().decode()
    assert second.wait() == 0 and "2 cells: 2 done" in said
    assert f"{begun}: begun" in said
    for name in ("base-0-0.parquet", "full-2e-4-0.parquet"):
        assert (options.out / "cells" / name).read_bytes() == (ran / "cells" / name).read_bytes()


def test_processes_of_a_launcher_work_on_cells_of_their_own(make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    options = make(only=("method=base",))
    assert run_lab(options, progress=False).count("done") == 1
    assert os.environ["RANK"] == "1"


def test_a_cell_is_evaluated_on_the_grids_own_sources_in_its_dtype(make, tmp_path: Path) -> None:
    bench = {"preset": "lab", "text": ["two-hop"], "visual": ["digits"], "size": 4, "tiers": "T,VT", "dtype": "bfloat16"}
    options = dataclasses.replace(make({"bench": bench}, only=("method=base",), keep=True), out=tmp_path / "own")
    assert run_lab(options, progress=False).count("done") == 1
    (result,) = cells.read(options.out / "cells")
    assert set(result.sources) == {"two-hop"}
    assert {"digits", "two-hop"} == set(json.loads((options.out / "bench" / "manifest.json").read_text())["sources"])
    assert json.loads((options.out / "work" / "runs" / "base-0-0" / "run.json").read_text())["model"]["dtype"] == "bfloat16"
    other = dataclasses.replace(make({"bench": bench | {"size": 5}}, only=("method=base",)), out=options.out)
    with pytest.raises(UserError, match=r"own/bench' was built with size 4, not 5 as in the grid; remove it"):
        run_lab(other, progress=False)


def test_results_of_other_recipes_are_refused_or_replaced(ran: Path, make) -> None:
    options = make(only=("method=base",))
    shutil.copytree(ran / "cells", options.out / "cells")
    path = options.out / "cells" / "base-0-0.json"
    change(path, identity="0" * 64)
    with pytest.raises(UserError, match="--replace runs them again"):
        run_lab(options, progress=False)
    run_lab(dataclasses.replace(options, replace=True), progress=False)
    assert cells.read_cell(path).identity == cells.read_cell(ran / "cells" / path.name).identity


def test_a_training_that_diverges_is_a_result(ran: Path, make) -> None:
    options = make({"rates": [1e30]}, only=FULL)
    shutil.copytree(ran / "work" / "stages", options.out / "work" / "stages")
    assert run_lab(options, progress=False).count("failed") == 1
    (result,) = cells.read(options.out / "cells")
    assert result.state == "failed"
    assert "diverged at step" in result.reason
    assert run_lab(options, progress=False).count("failed") == 1  # and is not tried again
