"""`iit-bench fetch`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, Quiet, app, refuse_idle
from iit_bench.errors import UserError
from iit_bench.terminal import write


@app.command()
def fetch(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(help="Presets (wings-text, wings-vqa, paper), lm-eval tasks or groups, VLMEvalKit tables.", show_default=False),
    ],
    data_root: Annotated[
        Path, typer.Option("--data-root", help="Folder for the data; give it to `eval` and `build` with --data-root.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download more than 1 GB, or data of unknown size, without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List revisions, licences and sizes, and stop.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Download the newest revisions on the Hub instead of those that the folder has.")
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(help="fetched.json of another folder: download its revisions, and refuse any file that differs.", show_default=False),
    ] = None,
    include_path: Annotated[Path | None, typer.Option(help="Folder with your own tasks in lm-eval's format.", show_default=False)] = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Download the data of presets, tasks and tables into a folder, once and with checksums. Interrupted, the same command resumes.

    Lists revisions, licences and sizes first, and records them in DIR/fetched.json; later downloads into DIR are of the same revisions.
    Afterwards evaluations need no network:

    Example: iit-bench fetch wings-text --data-root data && iit-bench eval --suite text --tasks wings-text --data-root data …
    """
    from evaluators.fetch.fetch import ASK_ABOVE, FetchOptions, Plan, describe
    from evaluators.fetch.fetch import fetch as fetch_all
    from iit_bench.storage.tables import canonical_json

    if dry_run:
        refuse_idle(context, ("yes", "json"), "with --dry-run, which only lists")

    def agreed(plan: Plan) -> bool:
        write(describe(plan), file=sys.stderr if json else sys.stdout, flush=True)
        if dry_run:
            raise typer.Exit
        if yes or (plan.all_sizes_known and plan.to_fetch <= ASK_ABOVE):
            return True
        if not sys.stdin.isatty():
            what = "more than 1 GB" if plan.all_sizes_known else "of unknown size"
            raise UserError(f"the download is {what}, and there is no terminal to ask for consent; repeat the command with --yes to agree")
        return typer.confirm("Fetch it?", err=True)

    options = FetchOptions(names=tuple(names), data_root=data_root, update=update, like=like, include_path=include_path)
    plan = fetch_all(options, agreed, progress=not quiet)
    if json:
        write(canonical_json({planned.name: dataclasses.asdict(planned.record) for planned in plan.sets}), json=True)
    else:
        write(f"Complete and verified: {data_root} ({len(plan.sets)} of the data sets in its fetched.json)")
