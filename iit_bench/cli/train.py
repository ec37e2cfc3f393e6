"""`iit-bench train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import Out, Quiet, app, refuse_idle
from iit_bench.errors import UserError
from iit_bench.terminal import write


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name (`iit-bench list recipes`) or a YAML file.", show_default=False)],
    out: Out,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value of the recipe: KEY=VALUE; repeatable, the last of two counts.", show_default=False),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Start over, or resume from the last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: report parameters, memory, tokens, steps and files, and what is wrong.")
    ] = False,
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Train nothing: check every record of your own data, and print what is refused and why.")
    ] = False,
    processes: Annotated[int, typer.Option(help="With --dry-run: how many processes, a GPU each, will train.", min=1)] = 1,
    throughput: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: tokens per second of all processes together, for the time; `measured`: of a few real steps here.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run or --check-data: print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train the lab's models, or your own, from a recipe. Interrupted, the same command resumes from the last checkpoint.

    Example: iit-bench train lab-base --out trained/base
    """
    if dry_run and check_data:
        raise UserError("--dry-run and --check-data are two commands; give one of them (--dry-run checks data, too)")
    refuse_idle(context, () if dry_run else ("processes", "throughput"), "without --dry-run")
    if dry_run or check_data:
        refuse_idle(context, ("fresh",), "where nothing is trained")
    else:
        refuse_idle(context, ("as_json",), "without --dry-run or --check-data")
    if dry_run:
        import json

        from iit_bench.training.dry_run import plan
        from iit_bench.training.dry_run_text import text
        from iit_bench.training.measured import of_text

        plans = plan(recipe, overrides or [], out, processes, of_text(throughput))
        write(json.dumps([stage.as_json() for stage in plans], indent=1) if as_json else text(plans), json=as_json)
        return
    if check_data:
        _check_data(recipe, overrides or [], out, as_json, not quiet)
        return
    from iit_bench.training.parallel import joined
    from iit_bench.training.records import Running
    from iit_bench.training.train import run as run_recipe

    made = run_recipe(recipe, overrides or [], out, resume=not fresh, progress=not quiet)
    if joined(Running()).writes:  # of several processes one
        write(str(made))


def _check_data(recipe: str, overrides: list[str], out: Path, as_json: bool, show: bool) -> None:
    import json

    from iit_bench.training import check_data

    found = check_data.check_data(recipe, overrides, out, show)
    write(json.dumps([stage.as_json() for stage in found], indent=1) if as_json else check_data.text(found), json=as_json)
    check_data.refuse(found)
