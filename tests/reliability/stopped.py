"""One process of an evaluation hangs, is preempted, or finds its clock set back; or the number of processes changes.

    python tests/reliability/stopped.py HOW RUNS BENCH

HOW is hangs, preempted, clock or counts. Prints one JSON object, ends with 1 at the first thing that is wrong.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

from trial import DONE, ELSEWHERE, Trial, answered, check_asked, ended, finished

from evaluators.runs import header, session


def in_midst(trial: Trial, out: Path, asked: Path, rank: int, of: int, **more) -> int:
    """Start a process and wait until it has asked something."""
    before = set(asked.iterdir()) if asked.exists() else set()
    child = trial.start(out, asked, rank, of, **more)
    while not set(asked.iterdir()) - before:
        assert not os.waitpid(child, os.WNOHANG)[0], "the process ended before it asked anything"
        time.sleep(0.001)
    return child


def hangs(trial: Trial, out: Path, asked: Path) -> dict:
    """The others finish everything else and end; what the hanging process has in hand is asked again when it is killed."""
    hanging = in_midst(trial, out, asked, 0, 2)
    os.kill(hanging, signal.SIGSTOP)
    assert ended(trial.start(out, asked, 1, 2)) == ELSEWHERE
    assert not (out / "results.json").exists()
    left = answered(trial.runs / "whole") - 1 - (answered(out) - 3)  # without the first lines of three logs
    assert 0 < left <= 3, f"{left} answers are left, not those of one batch"
    os.kill(hanging, signal.SIGKILL)
    ended(hanging)
    assert ended(trial.start(out, asked)) == DONE
    return {"asked again": check_asked(asked, {hanging})}


def preempted(trial: Trial, out: Path, asked: Path) -> dict:
    """SIGTERM ends a process at once."""
    cut = set()
    for rank in range(2):
        child = in_midst(trial, out, asked, rank, 2)
        os.kill(child, signal.SIGTERM)
        assert ended(child) == -signal.SIGTERM
        cut.add(child)
    assert ended(trial.start(out, asked, 0, 3)) == DONE
    return {"asked again": check_asked(asked, cut)}


def clock(trial: Trial, out: Path, asked: Path) -> dict:
    """Each session begins years before or after the last one."""
    cut = set()
    for year in (2030, 1999, 2041):
        child = in_midst(trial, out, asked, 0, 2, before=lambda year=year: set_clock(year))
        os.kill(child, signal.SIGKILL)
        ended(child)
        cut.add(child)
    assert ended(trial.start(out, asked, 0, 2, before=lambda: set_clock(1980))) == DONE
    return {"asked again": check_asked(asked, cut)}


def set_clock(year: int) -> None:
    """Set the clock of this process, as far as an evaluation reads it."""
    there = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return there

    time.time = lambda: there.timestamp()
    header.datetime = session.datetime = Clock  # type: ignore[attr-defined]


def counts(trial: Trial, out: Path, asked: Path) -> dict:
    """1, 2, 4 and 8 processes at once give the same bytes."""
    for of in (1, 2, 4, 8):
        here = out.with_name(f"of-{of}")
        codes = [ended(child) for child in [trial.start(here, asked / str(of), rank, of) for rank in range(of)]]
        assert set(codes) <= {DONE, ELSEWHERE} and finished(here), codes
        check_asked(asked / str(of), set())
        check_equal(trial, here)
    here.rename(out)
    return {}


def check_equal(trial: Trial, out: Path) -> None:
    """The results have the bytes of an evaluation by one process."""
    for name in (trial.table, "results.json"):
        assert (out / name).read_bytes() == (trial.runs / "whole" / name).read_bytes(), f"{out / name} is another"


def main(how: str, runs: Path, bench: Path) -> dict:
    """One trial."""
    trial = Trial("iit-gold", runs, bench)
    assert ended(trial.start(runs / "whole", runs / "asked-whole")) == DONE
    (runs / "asked").mkdir()
    found = {"hangs": hangs, "preempted": preempted, "clock": clock, "counts": counts}[how](trial, runs / "out", runs / "asked")
    check_equal(trial, runs / "out")
    assert answered(runs / "out") == answered(runs / "whole")
    return {"how": how, **found}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
