"""Run by test_kill.py: evaluate in child processes that are killed at random moments, until one comes to its end.

Arguments: benchmark folder, folder for the runs, history. Prints one number a kill: how many answers were in the log by then.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from conftest import CompanyModel  # of this folder: the script's own folder is on sys.path

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark

KILLS = 10
IN_SCORING = 7  # of them in the midst of scoring


class SlowModel(CompanyModel):
    def score(self, batch):
        time.sleep(0.005)
        return super().score(batch)


def start(benchmark: Benchmark, out: Path, history: str) -> int:
    if child := os.fork():
        return child
    code = 1
    try:
        options = RunOptions(model="company", bench=benchmark.path, out=out, history=history, batch_size=3)
        evaluate_model(SlowModel(), benchmark, options, progress=False)
        code = 0
    finally:
        os._exit(code)


def answered(out: Path) -> int:
    log = out / "responses.jsonl"
    return max(log.read_bytes().count(b"\n") - 1, 0) if log.exists() else 0


def wait_for(child: int, out: Path, answers: int) -> None:
    """Until so many answers are in the log, or the child has come to its end (it is left to be waited for)."""
    while answered(out) < answers and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.001)


def main(benchmark: Benchmark, runs: Path, history: str) -> None:
    began = time.monotonic()
    assert os.waitpid(start(benchmark, runs / "whole", history), 0)[1] == 0
    duration = time.monotonic() - began
    draw, out = random.Random(0), runs / "killed"
    for attempt in range(KILLS):
        child = start(benchmark, out, history)
        if attempt < IN_SCORING:  # however slow the machine is
            wait_for(child, out, answered(out) + draw.randint(1, 8))
            time.sleep(draw.uniform(0, 0.01))
        else:  # at any moment: starting, scoring, summing up, done
            time.sleep(draw.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL), "the evaluation did not resume"
        print(answered(out))
    assert os.waitpid(start(benchmark, out, history), 0)[1] == 0, "the last evaluation did not resume"


if __name__ == "__main__":
    main(load_benchmark(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
