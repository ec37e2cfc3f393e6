"""The whole job in one call: build the lab benchmark, score the bundled models and baselines, ask what is behind it, write the pages."""

from __future__ import annotations

import sys
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.terminal import write

RUNS: dict[str, dict] = {  # run folder -> options beside bench, out and limit, in order; the base run comes first
    "base-llm": {"model": "base-llm"},
    "wings": {"model": "wings"},
    "llava": {"model": "llava"},
    "llava-one-rate": {"model": "llava-one-rate"},
    "wings-blind": {"model": "wings", "blind": True},
    "majority": {"model": "majority"},
    "random": {"model": "random"},
}

BENCH: dict = {}  # options of its benchmark beside the folder: those of `iit-bench build` by itself
LOOKED_INTO = ("wings", "llava", "llava-one-rate")  # runs that are asked the arms, and whose attention is observed
ARMS = ("blind", "irrelevant")
OBSERVED = 40  # groups whose attention is observed


def demo(out: Path, limit: int | None = None, progress: bool = True) -> Path:
    """Fill `out` with bench/, runs/<name>/ (with arms and observed attention) and report/, and return its first page. Resumes.

    Args:
        out: folder of the demo; made if it does not exist.
        limit: evaluate this many groups only; None for all.
        progress: show progress bars.

    Raises:
        UserError: `out` cannot be written, or is a folder of another kind, or holds another benchmark; another process fills it.
    """
    from iit_bench.storage.folder_locks import holding
    from iit_bench.storage.other_kinds import refuse_other_kinds

    refuse_other_kinds(out, "no demo goes", but=("demo",))
    with holding(out):
        return _fill(out, limit, progress)


def _fill(out: Path, limit: int | None, progress: bool) -> Path:
    from builders.build import BuildOptions, build, otherwise, summary
    from evaluators.iit.evaluate import Shared, evaluate
    from evaluators.runs.options import RunOptions
    from iit_bench.storage.benchmark import load_benchmark, load_manifest
    from reports.leaderboard import report

    bench = out / "bench"
    options = BuildOptions(out=bench, **BENCH)
    if not (bench / "manifest.json").is_file():
        write(summary(load_manifest(build(options))), file=sys.stderr)
    shared = Shared(load_benchmark(bench))
    if other := otherwise(options, shared.benchmark.manifest):
        raise UserError(f"{str(bench)!r} was built with {other} as the demo's; remove it to have it built again, or give another --out")
    for name, arguments in RUNS.items():
        base = out / "runs" / "base-llm" if name not in ("base-llm", "majority", "random") else None
        evaluate(RunOptions(bench=bench, out=out / "runs" / name, limit=limit, base=base, **arguments), progress, shared)
    for name in filter(RUNS.__contains__, LOOKED_INTO):
        _look_into(out / "runs" / name, bench, progress)
    return report([out / "runs" / name for name in RUNS], out / "report", bench=bench)


def unfinished(out: Path) -> list[str]:
    """Names of a filled demo's runs in which an item failed."""
    from evaluators.runs.reading import load_run
    from evaluators.runs.summary import exceeds

    return [name for name in RUNS if exceeds(load_run(out / "runs" / name).results, 0)]


def _look_into(run: Path, bench: Path, progress: bool) -> None:
    """Ask a run's arms, and observe its model's attention."""
    from evaluators.arms.evaluate import arms
    from evaluators.attention.observe import observe_run
    from iit_bench.storage.runs import load_run_header

    arms(run, ARMS, bench=bench, progress=progress)
    if not (run / "attention.parquet").is_file():
        limit = load_run_header(run)["limit"]
        observe_run(run, progress, limit=OBSERVED if limit is None else min(limit, OBSERVED))
