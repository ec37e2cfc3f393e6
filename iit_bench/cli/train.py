"""`iit-bench train`."""

from __future__ import annotations

from typing import Annotated

import typer

from iit_bench.cli.app import Out, Quiet, app


@app.command()
def train(
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
    processes: Annotated[int, typer.Option(help="With --dry-run: how many processes, a GPU each, will train.", min=1)] = 1,
    throughput: Annotated[
        float | None,
        typer.Option(help="With --dry-run: tokens per second of all processes together, for the hours.", min=0.001, show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train the lab's models, or your own, from a recipe. Interrupted, the same command resumes from the last checkpoint.

    Example: iit-bench train lab-base --out trained/base
    """
    if dry_run:
        import json

        from iit_bench.training.dry_run import plan
        from iit_bench.training.dry_run_text import text

        plans = plan(recipe, overrides or [], out, processes, throughput)
        print(json.dumps([stage.as_json() for stage in plans], indent=1) if as_json else text(plans))
        return
    from iit_bench.training.train import run as run_recipe

    print(run_recipe(recipe, overrides or [], out, resume=not fresh, progress=not quiet))
