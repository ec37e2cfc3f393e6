"""Measures how builds, the response log, comparisons and reports grow, up to a million requests and 200,000 questions.

    python benchmarks/load.py [--parts build,log,asked,compare,report,samples] [--sizes 62500,250000,1000000] [--folder DIR] [--json]

Parts, each in new processes on one thread, CPU time and memory above what the process has before:

- `build`: a benchmark of three tiers out of a fifth as many questions, all of them targets (`build.py`).
- `log`: answers to four choices are written, 64 at a time, and the log is opened again.
- `asked`: so many one-turn requests to the model `random` through the engine, then again from the finished log (a run that is resumed).
- `compare`, `report`: `iit-bench compare` of two run folders of so many predictions, and `iit-bench report` of both (`large_runs.py`),
  with the files that it writes. `samples` is the same report with every dialogue (`--samples`), of runs whose benchmark is not at hand.

Exponents are fitted over the sizes: 1 is linear. `bytes each` is the slope of the memory. Inputs are made line by line in processes of
their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from costs import cost_of, growth_exponent, slope
from printed import as_table

MAIN = "import sys; from iit_bench.cli import main; sys.exit(main(sys.argv[1:]))"
MAKE = "import sys; from pathlib import Path; from large_runs import make_runs; make_runs(Path(sys.argv[1]), 2, int(sys.argv[2]))"
BUILD = "import json, sys; from build import measure; print(json.dumps(measure(int(sys.argv[1]), 'tfidf')))"
QUESTIONS = 5  # requests per question of a build
CPU, MEMORY = "CPU, s", "memory, MB"
MEASURED = """
import hashlib, json, random, resource, sys, time
from pathlib import Path
from iit_bench.engine.log import ResponseLog
from iit_bench.models.contract import ScoreResult
path, n = Path(sys.argv[1]), int(sys.argv[2])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
def measured(work):
    before, started = peak(), time.process_time()
    work()
    print(json.dumps([time.process_time() - started, peak() - before]))
"""
WRITE = """
draw = random.Random(0)
def answer():
    return ScoreResult(tuple(-9 * draw.random() for _ in range(4)), tuple(draw.randint(1, 9) for _ in range(4)), (False,) * 4, 300)
def work():
    with ResponseLog(path, fresh=True) as log:
        for start in range(0, n, 64):
            log.append({hashlib.sha256(b"%d" % i).hexdigest(): answer() for i in range(start, min(n, start + 64))})
measured(work)
"""
OPEN = """
def work():
    with ResponseLog(path) as log:
        assert len(log.responses) == n
measured(work)
"""
ASK = """
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.types import Message
model = load_model("random", ModelOptions())
replies = ("one reply", "another reply", "a third", "none of these")
def work():
    requests = [ScoreRequest((Message("user", (f"Question {i}: which one is right?",)),), replies) for i in range(n)]
    with ResponseLog(path) as log:
        assert answer(model, requests, log, BatchLimits(64, 4096)).distinct == n
measured(work)
"""
Row = dict[str, dict[str, float]]  # what was done → its figures by name


def of_building(folder: Path, size: int) -> Row:
    """A benchmark built."""
    found = json.loads(cost_of(BUILD, [str(size // QUESTIONS)]).output)
    return {"build": {CPU: found["seconds"], MEMORY: (found["memory"] - found["memory before"]) / 1e6}}


def of_log(folder: Path, size: int) -> Row:
    """A log written and opened."""
    path = folder / f"log-{size}.jsonl"
    return _of_engine(path, size, {"written": WRITE, "opened": OPEN})


def of_asking(folder: Path, size: int) -> Row:
    """Requests asked, and found answered."""
    path = folder / f"asked-{size}.jsonl"
    path.unlink(missing_ok=True)
    return _of_engine(path, size, {"asked": ASK, "resumed": ASK})


def _of_engine(path: Path, size: int, parts: dict[str, str]) -> Row:
    found = {}
    for name, code in parts.items():
        seconds, memory = json.loads(cost_of(MEASURED + code, [str(path), str(size)]).output)
        found[name] = {CPU: seconds, MEMORY: memory / 1e6, "log, MB": path.stat().st_size / 1e6}
    path.unlink()
    return found


def of_comparing(folder: Path, size: int) -> Row:
    """Two runs compared."""
    return {"compare": _of_runs(folder, size, ["compare"], [])}


def of_reporting(folder: Path, size: int) -> Row:
    """Two runs reported, without their dialogues."""
    return {"report": _of_report(folder, size, "--no-samples")}


def of_samples(folder: Path, size: int) -> Row:
    """Two runs reported, with their dialogues."""
    return {"report --samples": _of_report(folder, size, "--samples")}


def _of_report(folder: Path, size: int, option: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        out = Path(temporary) / "report"
        found = _of_runs(folder, size, ["report"], [option, "--out", str(out)])
        files = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return found | {"files": float(len(files)), "all files, MB": sum(files) / 1e6, "largest file, MB": max(files) / 1e6}


def _of_runs(folder: Path, size: int, command: list[str], more: list[str]) -> dict[str, float]:
    runs = folder / f"runs-{size}"
    if not runs.is_dir():
        cost_of(MAKE, [str(runs), str(size)])
    empty = cost_of(MAIN, [*command, "--help"])
    cost = cost_of(MAIN, [*command, *map(str, sorted(runs.iterdir())), *more])
    return {CPU: cost.cpu, MEMORY: (cost.peak - empty.peak) / 1e6}


PARTS: dict[str, Callable[[Path, int], Row]] = {
    "build": of_building,
    "log": of_log,
    "asked": of_asking,
    "compare": of_comparing,
    "report": of_reporting,
    "samples": of_samples,
}


def grown(sizes: list[int], rows: list[Row], each: int) -> dict[str, Any]:
    """The figures by size, the exponent of the CPU time and the slope of the memory; `each` is the requests per item."""
    found: dict[str, Any] = {}
    for name in rows[0]:
        figures = [row[name] for row in rows]
        items = [size // each for size in sizes]
        found[name] = {f"{n:,}": one for n, one in zip(items, figures, strict=True)}
        if len(sizes) > 1:
            exponent = growth_exponent(items, [one[CPU] for one in figures])
            memory = [1e6 * one[MEMORY] for one in figures]
            found[name] |= {"exponent of CPU time": exponent, "bytes each": slope(items, memory)}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--sizes", default="62500,250000,1000000")
    parser.add_argument("--folder", type=Path, help="where run folders are kept; those that are there are used again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for part in arguments.parts.split(","):
            rows = [PARTS[part](folder, size) for size in sizes]
            result |= grown(sizes, rows, QUESTIONS if part == "build" else 1)
    print(json.dumps(result, indent=2) if arguments.json else as_table(result))


if __name__ == "__main__":
    main()
