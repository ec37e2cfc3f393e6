"""`iit-bench demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import Quiet, app
from iit_bench.terminal import write


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for bench/, runs/ and report/.")] = Path("demo"),
    limit: Annotated[int | None, typer.Option("--limit", help="Evaluate N groups only; default all.")] = None,
    quiet: Quiet = False,
) -> None:
    """Build the lab benchmark, score the bundled models and baselines, write the leaderboard: offline, on a CPU, in minutes."""
    from iit_bench.workflows.demo import demo as run_demo
    from iit_bench.workflows.demo import unfinished

    page = run_demo(out, limit=limit, progress=not quiet)
    write(f"Leaderboard: {page}")
    if names := unfinished(out):
        write(f"items failed in {', '.join(names)}; see their errors.jsonl", file=sys.stderr)
        raise typer.Exit(1)
