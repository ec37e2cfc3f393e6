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
NEVER = 10**9


class SlowModel(CompanyModel):
    batches_left = NEVER

    def score(self, batch):
        self.batches_left -= 1
        time.sleep(0.005 if self.batches_left >= 0 else 600)
        return super().score(batch)


def start(benchmark: Benchmark, out: Path, history: str, batches: int = NEVER) -> int:
    """A child that evaluates; after so many batches it waits to be killed."""
    if child := os.fork():
        return child
    code = 1
    try:
        options = RunOptions(model="company", bench=benchmark.path, out=out, history=history, batch_size=3)
        model = SlowModel()
        model.batches_left = batches
        evaluate_model(model, benchmark, options, progress=False)
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
        if attempt < IN_SCORING:  # however slow the machine is
            more = draw.randint(1, 8)
            child = start(benchmark, out, history, more + 3)  # a batch has an answer at least
            wait_for(child, out, answered(out) + more)
            time.sleep(draw.uniform(0, 0.01))
        else:  # at any moment: starting, scoring, summing up, done
            child = start(benchmark, out, history)
            time.sleep(draw.uniform(0, duration))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL), "the evaluation did not resume"
        print(answered(out))
    assert os.waitpid(start(benchmark, out, history), 0)[1] == 0, "the last evaluation did not resume"


if __name__ == "__main__":
    main(load_benchmark(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
