"""`iit-bench arms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, Quiet, app, names
from iit_bench.terminal import write


@app.command()
def arms(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of suite iit.", show_default=False)],
    arms: Annotated[
        str | None,
        typer.Option(help="Names of `iit-bench list arms`, comma-separated; default: all that the run can be asked.", show_default=False),
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(help="Benchmark folder that the run was asked; default: where the run found it.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first N whole groups of the run.", show_default=False)] = None,
    allow_errors: Annotated[
        int | None,
        typer.Option(min=0, help="Items of each arm that may fail before the exit code is 1; default: as of the run.", show_default=False),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Start over, or resume from what the arms' folders hold.")] = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Ask the targets of a finished run again, each arm with one thing changed, and print what the change costs: the run's accuracy minus
    the arm's, over the same items.

    The run's own model and settings are used. Each arm is a run folder, RUN/arms/NAME. Interrupted, the same command resumes.

    Example: iit-bench arms runs/wings --arms blind,irrelevant
    """
    from evaluators.arms.evaluate import arms as ask
    from evaluators.arms.names import FOLDER, parse_arms
    from evaluators.arms.table import as_dict, as_table
    from evaluators.runs.marks import unsealed
    from evaluators.runs.reading import load_run
    from evaluators.runs.summary import exceeds
    from iit_bench.storage import anew
    from iit_bench.storage.runs import load_run_header
    from iit_bench.storage.tables import canonical_json

    if fresh:
        folders = [run / FOLDER / name for name in parse_arms(names(arms))]
        anew.note(lambda: folders)
    found = ask(run, names(arms), bench=bench, limit=limit, fresh=fresh, progress=not quiet)
    marked = unsealed([load_run(run), *(one.run for one in found if one.run is not None)])
    shown = canonical_json(as_dict(found, marked)) if json else as_table(found, run.name, unsealed=marked)
    write(shown, end="\n" if json else "", json=json)
    allowed = load_run_header(run)["arguments"].get("allow_errors", 0) if allow_errors is None else allow_errors
    if any(one.run is None or exceeds(one.run.results, allowed) for one in found):
        raise typer.Exit(1)
