"""The seconds of a run: of every session, also of those that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.storage.runs import load_run_header, save_run_header

# A session that logs, and is killed before it counts its time.
KILLED = """
import os, signal
from iit_bench.engine.log import ResponseLog
append, count = ResponseLog.append, [0]
def append_and_die(log, answers):
    append(log, answers)
    count[0] += 1
    if count[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
ResponseLog.append = append_and_die
from iit_bench.cli import main
main({words})
"""


@pytest.fixture
def words(bench, tmp_path: Path) -> list[str]:
    return ["eval", "--model", "random", "--bench", str(bench.path), "--out", str(tmp_path / "run"), "--batch-size", "4", "--quiet"]


@pytest.mark.slow
def test_a_killed_session_counts_up_to_its_last_answer(words: list[str], tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "run" / "responses.jsonl"
    child = subprocess.run([sys.executable, "-c", KILLED.format(words=words)], check=False)
    assert child.returncode == -signal.SIGKILL
    begun = load_run_header(run)
    assert begun["seconds"] == 0
    since = datetime.fromisoformat(begun["session"]).timestamp()
    assert since - 1 < log.stat().st_mtime < time.time()
    os.utime(log, (since + 1000, since + 1000))  # as if the last answer had come after 1000 seconds
    assert main(words) == 0
    ended = load_run_header(run)
    assert 1000 <= ended["seconds"] < 1500 and ended["session"] == "" and ended["resumed"] == 1


def test_what_is_counted_is_not_counted_again_and_no_clock_takes_time_back(words: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words += ["--limit", "1"]
    assert main(words) == 0
    once = load_run_header(run)
    os.utime(run / "responses.jsonl", (time.time() + 5000, time.time() + 5000))
    assert main(words) == 0
    twice = load_run_header(run)
    assert once["seconds"] <= twice["seconds"] < 1000
    for session in ("2999-01-01T00:00:00.000+00:00", "soon", None):
        header = load_run_header(run)
        save_run_header(run, {name: value for name, value in header.items() if name not in ("format", "version")} | {"session": session})
        assert main(words) == 0
        assert twice["seconds"] <= load_run_header(run)["seconds"] < 1000
