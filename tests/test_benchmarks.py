"""Measuring scripts run to their end on tiny shapes; what they measure is no test's business."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.warm_processes import MODELS, run

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_script_for_gpus_runs_dry_on_a_cpu() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--json"]
    ran = run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, preload=MODELS)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert [name for name in results if name not in ("device", "torch")] == ["limits", "parity", "wings", "tree", "growth", "throughput"]
    assert results["parity"]["largest difference of logits float32"] < 2e-5
    assert results["tree"]["largest difference of a reply"] < 1e-4
    assert results["tree"]["positions of plain passes / of the tree"] > 2


@pytest.mark.slow
def test_two_builds_are_measured_in_turn(bench, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "engine.py"), "--bench", str(bench.path), "--peer", str(ROOT), "--limit", "2"]
    ran = run([*command, "--pairs", "1", "--style", "cloze", "--json"], preload=MODELS)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)["cloze"]
    assert figures["largest difference of log-probabilities"] == 0.0  # the other build is this one
    assert figures["positions"]["this"] == figures["positions"]["other"] > 0
    assert figures["positions / nodes"]["this"] <= 1.1


@pytest.mark.slow
def test_replies_in_batches_are_measured_beside_one_at_a_time(bench) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "generation.py"), "--bench", str(bench.path), "--groups", "2", "--json"]
    ran = run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, preload=MODELS)
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert results["equal replies"] == results["requests"] > 1
    assert results["ratio"]["passes"] < 1


@pytest.mark.slow
def test_the_explorers_files_are_few_and_its_first_view_asks_for_little() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "explorer.py"), "--predictions", "6000", "--views", "1", "--json"]
    ran = run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, preload=MODELS)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["predictions"] == 6000
    assert found["files"] < 100 and found["largest file"] < 2**20 and found["bytes"] < 6000 * 1000
    assert found.get("first view bytes", 0) < 6000 * 15 + 400_000  # Chromium may not be here
