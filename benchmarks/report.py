"""Measures the time and memory of `iit-bench report` over large runs, and of the figures at the end of an evaluation.

    python benchmarks/report.py [--runs 10] [--predictions 100000] [--sizes 12500,25000,50000] [--history-clusters 49] [--against TREE]
        [--folder DIR] [--json]

Makes run folders with made-up answers (`large_runs.py`), and reports them in a process of its own: wall time, CPU time, peak memory, size
of the page. `--sizes` are further numbers of predictions per run; the growth exponents are fitted over all sizes (1 is linear).
With `--history-clusters` the histories of all targets are of so few clusters per modality, as in a benchmark over few images.
`--against` is the checkout of another version that reads the same formats and reports the same folders; its times are divided by this
version's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from costs import HERE, cost_of, growth_exponent
from large_runs import make_runs
from printed import as_table

REPORT = "import sys; from iit_bench.cli import main; sys.exit(main(['report', *sys.argv[1:]]))"
FIGURES = (
    "import sys, time; from iit_bench.storage.runs import load_run; from evaluators.iit.results import summarise\n"
    "rows = load_run(sys.argv[1]).predictions; started = time.process_time()\n"
    "summarise(rows, {}, True); print(time.process_time() - started)"
)


def measured(runs: list[Path], out: Path, tree: Path) -> dict[str, float]:
    """One report of `runs`, and the figures of one of them, by the code in `tree`."""
    cost = cost_of(REPORT, [*map(str, runs), "--out", str(out)], tree)
    figures = cost_of(FIGURES, [str(runs[0])], tree)
    page = (out / "index.html").stat().st_size
    row = {"wall, s": cost.wall, "CPU, s": cost.cpu, "peak, MB": cost.peak / 1e6, "page, kB": page / 1e3}
    return row | {"figures of one run, CPU s": float(figures.output)}


def main() -> None:
    """Make the folders, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--predictions", type=int, default=100_000, help="per run")
    parser.add_argument("--sizes", default="", help="further predictions per run, comma-separated")
    parser.add_argument("--history-clusters", type=int, default=0)
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--folder", type=Path, help="where the run folders are kept; those that are there are used again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = sorted({arguments.predictions, *(int(size) for size in arguments.sizes.split(",") if size)})
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        found = [_of_size(root, size, arguments) for size in sizes]
    result: dict[str, Any] = {"runs": arguments.runs} | {f"{one.pop('predictions'):,} predictions a run": one for one in found}
    if len(sizes) > 1:
        mine = [one["this version"] for one in found]
        result["growth exponents"] = {name: growth_exponent(sizes, [row[name] for row in mine]) for name in mine[0]}
    print(json.dumps(result, indent=2) if arguments.json else as_table(result))


def _of_size(root: Path, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    folder = root / f"{arguments.runs}-runs-of-{size}-histories-of-{arguments.history_clusters}"
    if not folder.is_dir():
        make_runs(folder, arguments.runs, size, history_clusters=arguments.history_clusters)
    made = sorted(folder.iterdir())
    row: dict[str, Any] = {"predictions": size, "this version": measured(made, root / "report", HERE)}
    if arguments.against:
        row["other version"] = measured(made, root / "report-of-other", arguments.against.resolve())
        row["ratio"] = {name: value / row["this version"][name] for name, value in row["other version"].items()}
    return row


if __name__ == "__main__":
    main()
