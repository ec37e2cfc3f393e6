"""Measures what a second process brings: one evaluation by 1 process and by N, each process on one thread, in one run.

    python benchmarks/several_processes.py --bench demo/bench [--model base-llm] [--style cloze] [--limit 40] [--processes 2] [--json]

The time is net of loading: all processes load the benchmark and the model, then begin together; it ends when the last one has ended. Prints
seconds, the ratio (1 process / N processes; N is the best), whether the predictions have the same bytes, and how many answers are logged.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evaluators.runs.options import RunOptions

HERE = Path(__file__).parents[1]


def process(options: RunOptions, signs: Path) -> None:
    """One of the processes: load, say so, wait for the start, evaluate."""
    from evaluators.iit.evaluate import evaluate_model
    from iit_bench.errors import OthersAtWork
    from iit_bench.models.load import load_model
    from iit_bench.storage.benchmark import load_benchmark

    assert options.bench is not None
    benchmark, model = load_benchmark(options.bench), load_model(options.model, options.model_options)
    model.prepare(benchmark)
    (signs / f"ready-{os.getpid()}").touch()
    while not (signs / "go").exists():
        time.sleep(0.005)
    with contextlib.suppress(OthersAtWork):
        evaluate_model(model, benchmark, options, progress=False)


def seconds(words: list[str], out: Path, signs: Path, count: int) -> float:
    """Evaluate by `count` processes, and return the time from their common start to the last end."""
    signs.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count)}
    command = [sys.executable, __file__, *words, "--out", str(out), "--signs", str(signs)]
    started = [subprocess.Popen(command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]
    while len(list(signs.glob("ready-*"))) < count:
        if any(one.poll() for one in started):
            raise RuntimeError("a process has failed; its message is above")
        time.sleep(0.01)
    began = time.perf_counter()
    (signs / "go").touch()
    codes = [one.wait() for one in started]
    if any(codes):
        raise RuntimeError("a process has failed; its message is above")
    return time.perf_counter() - began


def main() -> None:
    """Run both and print the figures; with --signs, be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--model", default="base-llm")
    parser.add_argument("--style", default="cloze")
    parser.add_argument("--limit", type=int, default=None, help="groups")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--signs", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.signs:
        options = RunOptions(model=given.model, bench=given.bench, out=given.out, style=given.style, limit=given.limit, threads=1)
        process(options, given.signs)
        return
    words = ["--bench", str(given.bench), "--model", given.model, "--style", given.style]
    words += ["--limit", str(given.limit)] if given.limit else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        alone = seconds(words, root / "one", root / "signs-one", 1)
        together = seconds(words, root / "several", root / "signs-several", given.processes)
        tables = [hashlib.sha256((root / name / "predictions.parquet").read_bytes()).hexdigest() for name in ("one", "several")]
        answers = len((root / "several" / "responses.jsonl").read_bytes().splitlines()) - 1
    figures = {
        "processes": given.processes,
        "seconds_of_1": round(alone, 2),
        "seconds_of_all": round(together, 2),
        "ratio": round(alone / together, 3),
        "equal_bytes": tables[0] == tables[1],
        "answers": answers,
    }
    print(json.dumps(figures) if given.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
