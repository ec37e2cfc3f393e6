"""Measuring scripts run to their end on tiny shapes; what they measure is no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_script_for_gpus_runs_dry_on_a_cpu() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert [name for name in results if name not in ("device", "torch")] == ["limits", "parity", "wings", "tree", "growth", "throughput"]
    assert results["parity"]["largest difference of logits float32"] < 2e-5
    assert results["tree"]["largest difference of a reply"] < 1e-4
    assert results["tree"]["positions of plain passes / of the tree"] > 2
