"""An evaluation killed again and again (SIGKILL, at random moments) ends with the very predictions of one that was left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iit_bench.storage.runs import load_run
from tests.warm_processes import MODELS, run

SCRIPT = Path(__file__).with_name("killed_evaluation.py")


@pytest.mark.slow
@pytest.mark.parametrize("history", ["gold", "own"])
def test_killed_evaluation_resumes_to_identical_predictions(bench, tmp_path, history):
    done = run([sys.executable, SCRIPT, bench.path, tmp_path, history], preload=MODELS)
    assert done.returncode == 0, done.stderr
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    answers = (whole / "responses.jsonl").read_bytes().count(b"\n") - 1
    logged = [int(line) for line in done.stdout.split()]
    assert len({count for count in logged if 0 < count < answers}) >= 2, f"no kill came in the middle: {logged} of {answers}"
    assert (killed / "predictions.parquet").read_bytes() == (whole / "predictions.parquet").read_bytes()
    assert (killed / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert load_run(killed).run["resumed"] >= 2
    assert not [path.name for path in killed.iterdir() if path.name.startswith(".")]
