"""Measures the peak memory of an evaluation, and fits its slope: bytes per dialogue that is asked.

    python benchmarks/memory.py [--models random,base-llm,wings] [--sizes 1000,2000,4000,8000,16000] [--folder DIR] [--json]

Builds the lab benchmark in every size, once, and evaluates every model on each in a new process. The line is fitted by least squares; its
constant is what interpreter, libraries and model take, and `largest deviation` is that of a size from the line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from costs import cost_of, slope
from printed import as_table

MAIN = "import sys; from iit_bench.cli import main; sys.exit(main(sys.argv[1:]))"
TIERS = 14
MOST = 1187  # text questions of the lab


def benchmark(folder: Path, dialogues: int) -> Path:
    """A lab benchmark of about so many dialogues, built if it is not there."""
    size = min(MOST, round(dialogues / TIERS))
    path = folder / f"bench-{size}"
    if not path.is_dir():
        cost_of(MAIN, ["build", "--size", str(size), "--out", str(path)])
    return path


def evaluated(model: str, bench: Path, out: Path) -> tuple[int, int]:
    """Dialogues asked, and the peak memory in bytes."""
    cost = cost_of(MAIN, ["eval", "--model", model, "--bench", str(bench), "--out", str(out), "--quiet", "--fresh"])
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return results["n_dialogues"], cost.peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="random,base-llm")
    parser.add_argument("--sizes", default="1000,2000,4000,8000,16000", help="dialogues of the benchmark; the lab has up to 16,618")
    parser.add_argument("--folder", type=Path, help="where the benchmarks are kept; those that are there are used again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        benches = [benchmark(folder, int(size)) for size in arguments.sizes.split(",")]
        for model in arguments.models.split(","):
            asked, peaks = zip(*(evaluated(model, bench, folder / "run" / model / bench.name) for bench in benches), strict=True)
            found[model] = fitted(asked, peaks)
    print(json.dumps(found, indent=2) if arguments.json else as_table(found))


def fitted(asked: tuple[int, ...], peaks: tuple[int, ...]) -> dict[str, Any]:
    """The peaks, and the line through them."""
    per_dialogue = slope(asked, peaks)
    constant = sum(peaks) / len(peaks) - per_dialogue * sum(asked) / len(asked)
    off = max(abs(peak - constant - per_dialogue * n) for n, peak in zip(asked, peaks, strict=True))
    line = {"kB per dialogue": per_dialogue / 1e3, "constant, MB": constant / 1e6, "largest deviation, MB": off / 1e6}
    return {f"{n:,} dialogues, MB": peak / 1e6 for n, peak in zip(asked, peaks, strict=True)} | line


if __name__ == "__main__":
    main()
