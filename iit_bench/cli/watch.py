"""`iit-bench watch`: its options are those of `iit-bench eval`, beside the folder that is watched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluators.runs.options import PARTS, RunOptions, refuse_foreign
from evaluators.runs.options import refuse_idle as refuse_idle_options
from iit_bench.cli.app import PanelCommand, Quiet, app, given_options, refuse_idle
from iit_bench.cli.options import options_of, record_values
from iit_bench.errors import OthersAtWork, UserError
from iit_bench.storage import anew
from iit_bench.terminal import write


@app.command(cls=PanelCommand)
@options_of(RunOptions, PARTS)
def watch(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder in which training writes its checkpoints.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Evaluate what is there, and end.", rich_help_panel="Watching")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", rich_help_panel="Watching", min=0.1)] = 30.0,
    idle: Annotated[
        float | None,
        typer.Option(help="End after so many minutes without a new checkpoint.", show_default=False, rich_help_panel="Watching", min=0.0),
    ] = None,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Evaluate each checkpoint that lands in a folder, once, into OUT/NAME, and keep one report of the series, OUT/report/index.html.

    A checkpoint has landed when its weights are whole and nothing in it changes any more. Other options are those of `iit-bench eval`;
    --model is the family that loads the checkpoints, by default hf. Interrupted, the same command goes on.

    Example: iit-bench watch checkpoints --bench bench --base runs/base --out series

    Example: iit-bench watch train/out --model wings --bench bench --out series --once
    """
    from iit_bench.workflows.several import watch as watch_folder

    refuse_foreign(given["suite"], given_options(context))
    if once:
        refuse_idle(context, ("every", "idle"), "with --once")
    if given["suite"] != "iit":
        raise UserError(f"iit-bench watch runs suite iit; leave out --suite {given['suite']}, and use `iit-bench eval` for other suites")
    if given["checkpoint"]:
        raise UserError("--checkpoint is what is watched for; leave it out")
    options = RunOptions(**record_values(RunOptions, given | {"model": given["model"] or "hf:"}))
    refuse_idle_options(options, given_options(context))
    minutes = None if idle is None else 60 * idle
    if options.fresh:
        anew.note(lambda: options.out.iterdir() if options.out.is_dir() else ())
    outcome = watch_folder(folder, options, once=once, every=every, idle=minutes, progress=not quiet)
    report_outcome(outcome, options.allow_errors)


def report_outcome(outcome: Any, allowed: int) -> None:
    """Print where the report is and what failed; `allowed` items of each run may.

    Raises:
        UserError: nothing could be evaluated.
        OthersAtWork: other processes have the rest in hand.
        typer.Exit: some runs failed, or have more failed items than are allowed, or some that failed for reasons of the machine.
    """
    from evaluators.runs.summary import exceeds, too_many_failed

    if not outcome.results and not outcome.failed:
        write("nothing new was found")
    if outcome.page:
        write(f"Leaderboard: {outcome.page}")
    for name, why in outcome.failed.items():
        write(f"{name}: failed ({anew.resumable(why)})", file=sys.stderr)
    if outcome.elsewhere:
        raise OthersAtWork("; ".join(f"{name}: {what}" for name, what in outcome.elsewhere.items()))
    if outcome.failed and not outcome.results:
        raise UserError(f"none of {len(outcome.failed)} could be evaluated; the first: {next(iter(outcome.failed.values()))}")
    for name, results in outcome.results.items():
        if why := too_many_failed(results, (), allowed):
            write(f"{name}: {why}", file=sys.stderr)
    if outcome.failed or any(exceeds(results, allowed) for results in outcome.results.values()):
        raise typer.Exit(1)
