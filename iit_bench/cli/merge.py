"""`iit-bench merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import app
from iit_bench.numerals import counted
from iit_bench.terminal import write


@app.command()
def merge(runs: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)]) -> None:
    """Put together what several processes have answered of a run, and write its results, without loading the model.

    The last of several processes does this by itself. By hand it is for runs one of whose processes hangs or has died: end that process
    first. What has no answer counts as an error of the machine; the command that began the run answers it. Results of suite text need the
    model's own template, so there the answers are merged, and the command of the run writes the results, asking nothing again.

    Example: iit-bench merge runs/tuned
    """
    from evaluators.runs.summary import exceeds
    from iit_bench.storage.runs import load_run_header
    from iit_bench.workflows.merging import merge as merge_run

    incomplete = False
    for folder in runs:
        merged = merge_run(folder)
        write(f"{folder}: {counted(merged.answers, 'answer')} in responses.jsonl", end="")
        if merged.results is None:
            write(f"; for the results, repeat: {merged.command}")
            incomplete = True
            continue
        errors = merged.results.outcomes["error"]
        write(
            f"; {counted(errors, 'item has', 'items have')} none; to complete it, repeat: {merged.command}"
            if errors
            else "; the results are written"
        )
        incomplete |= exceeds(merged.results, load_run_header(folder)["arguments"].get("allow_errors", 0))
    if incomplete:
        raise typer.Exit(1)
