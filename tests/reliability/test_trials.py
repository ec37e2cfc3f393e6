"""Evaluations whose processes are killed, stopped or preempted end with the same bytes, and ask nothing twice (docs/reliability.md).

Here three kills a suite; `make torture` sets TORTURE, the number of kills, to 100.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import warm_processes
from tests.reliability.tally import Tally

TRIAL, STOPPED = (Path(__file__).with_name(name) for name in ("trial.py", "stopped.py"))
KILLS = os.environ.get("TORTURE", "3")
NEEDS_KIT = pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
pytestmark = pytest.mark.slow


@pytest.fixture
def run(record_property: Callable[[str, object], None]) -> Callable[..., dict]:
    """Run a script and return the JSON object that it prints; what it survived is counted: kills, or one stop."""

    def run(trial: str, script: Path, *words: object) -> dict:
        tally = Tally(trial, record_property)
        done = warm_processes.run([sys.executable, script, *words], preload=warm_processes.MODELS)
        tally.add(internal_errors=int(done.returncode != 0))
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict = json.loads(done.stdout.splitlines()[-1])
        tally.add(survived=found.get("kills", 1))
        return found

    return run


@pytest.fixture(scope="module")
def text_data(tmp_path_factory) -> Path:
    """A data root with the snapshots that the trial's text tasks read."""
    import runpy

    root = tmp_path_factory.mktemp("text-snapshots")
    runpy.run_path(str(Path(__file__).parents[1] / "data" / "make_text_snapshots.py"))["write_text"](root, 20)
    return root


@pytest.mark.parametrize("suite", ["iit-gold", "iit-own", "iit-server"])
def test_killed_processes_of_suite_iit_leave_the_same_bytes(run, bench, tmp_path, suite):
    assert run(f"killed: {suite}", TRIAL, suite, tmp_path, KILLS, 0, bench.path)["kills"] >= int(KILLS)


def test_killed_processes_of_suite_text_leave_the_same_bytes(run, text_data, tmp_path):
    assert run("killed: text", TRIAL, "text", tmp_path, KILLS, 0, text_data)["kills"] >= int(KILLS)


@NEEDS_KIT
def test_killed_processes_of_suite_vqa_leave_the_same_bytes(run, tmp_path):
    assert run("killed: vqa", TRIAL, "vqa", tmp_path, KILLS, 0, tmp_path)["kills"] >= int(KILLS)


@pytest.mark.parametrize("how", ["hangs", "preempted", "clock", "counts"])
def test_a_process_that_stops_in_another_way_loses_only_what_it_had_in_hand(run, bench, tmp_path, how):
    assert run(f"stopped: {how}", STOPPED, how, tmp_path, bench.path)["how"] == how
