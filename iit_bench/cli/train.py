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
    quiet: Quiet = False,
) -> None:
    """Train the lab's models, or your own, from a recipe. Interrupted, the same command resumes from the last checkpoint.

    Example: iit-bench train lab-base --out trained/base
    """
    from iit_bench.training.train import run as run_recipe

    print(run_recipe(recipe, overrides or [], out, resume=not fresh, progress=not quiet))
