"""The whole job in one call: build the lab benchmark, score the bundled models and baselines, write the leaderboard."""

from __future__ import annotations

import sys
from pathlib import Path

RUNS: dict[str, dict] = {  # run folder -> options beside bench, out and limit, in order; the base run comes first
    "base-llm": {"model": "base-llm"},
    "wings": {"model": "wings"},
    "llava": {"model": "llava"},
    "llava-one-rate": {"model": "llava-one-rate"},
    "wings-blind": {"model": "wings", "blind": True},
    "majority": {"model": "majority"},
    "random": {"model": "random"},
}


def demo(out: Path, limit: int | None = None, progress: bool = True) -> Path:
    """Fill `out` with bench/, runs/<name>/ and report/index.html, and return the page. Resumes from existing files.

    Args:
        out: folder of the demo; made if it does not exist.
        limit: evaluate this many groups only; None for all.
        progress: show progress bars.

    Raises:
        UserError: `out` cannot be written, or holds something else.
    """
    from builders.build import BuildOptions, build, summary
    from evaluators.iit.evaluate import Shared, evaluate
    from evaluators.runs.options import RunOptions
    from iit_bench.storage.benchmark import load_benchmark, load_manifest
    from reports.leaderboard import report

    bench = out / "bench"
    if not (bench / "manifest.json").is_file():
        print(summary(load_manifest(build(BuildOptions(out=bench)))), file=sys.stderr)
    shared = Shared(load_benchmark(bench))
    for name, arguments in RUNS.items():
        base = out / "runs" / "base-llm" if name not in ("base-llm", "majority", "random") else None
        evaluate(RunOptions(bench=bench, out=out / "runs" / name, limit=limit, base=base, **arguments), progress, shared)
    return report([out / "runs" / name for name in RUNS], out / "report")
