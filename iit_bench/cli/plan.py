"""`iit-bench plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, app, refuse_idle
from iit_bench.terminal import write


@app.command()
def plan(
    context: typer.Context,
    difference: Annotated[
        str,
        typer.Option(help="Difference of two accuracies that is to be found, as a fraction: 0.02 is 2 points; or several, with commas."),
    ] = "0.02",
    power: Annotated[float, typer.Option(help="Probability of finding it where it is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Probability of finding a difference where there is none, over all tests.")] = 0.05,
    tests: Annotated[
        int, typer.Option(help="Tests that are reported together, e.g. one per model; Holm's first step is alpha / tests.")
    ] = 1,
    pilot: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two finished runs like those planned, e.g. a base LLM's and a tuned model's.", show_default=False),
    ] = None,
    over: Annotated[
        str, typer.Option(help="Tier of the pilot, or pool: T* (text targets), V* (visual targets), * (all).", show_default=True)
    ] = "T*",
    discordance: Annotated[
        float | None, typer.Option(help="Without a pilot: share of items that only one of the two runs gets right.", show_default=False)
    ] = None,
    cluster_size: Annotated[
        float, typer.Option(help="Without a pilot: items that depend on each other, e.g. 3 for a target under 3 histories.")
    ] = 1.0,
    icc: Annotated[float, typer.Option(help="Without a pilot: correlation of the differences of two such items.")] = 0.0,
    json: AsJson = False,
) -> None:
    """Print how many groups and items a run needs to find a difference, before anything is run.

    What it takes depends on how often two runs differ at all, more than on accuracies: if 10% of the items are right in one run only, a
    difference of 2 points needs about 2,000 independent pairs; if 30% are, about 6,000. Items that share a target, an image or a fact count
    for less than independent ones. A pilot of 50 groups (`iit-bench eval --limit 50`) shows both; without one, give --discordance, and
    --cluster-size with --icc.

    The test is the one that `iit-bench compare` and the report use, and its power is computed as theirs: the pilot's own "detectable"
    difference needs the pilot's own size. To look at a run while it goes on, and stop, use `iit-bench eval --until decided` instead.

    Example: iit-bench plan --difference 0.02,0.05 --pilot runs/base-llm runs/wings

    Example: iit-bench plan --difference 0.02 --discordance 0.1 --cluster-size 3 --icc 0.4 --tests 4
    """
    from evaluators.compare.planning import PlanOptions
    from evaluators.compare.planning import plan as make_plan
    from iit_bench.errors import UserError
    from iit_bench.storage.tables import canonical_json

    if pilot is None:
        refuse_idle(context, ("over",), "without --pilot")
    else:
        refuse_idle(context, ("cluster_size", "icc"), "beside --pilot, from which they are read")
    try:
        differences = tuple(float(part) for part in difference.split(",") if part.strip())
    except ValueError as error:
        raise UserError(f"--difference {difference!r} is no number; write 2 points as 0.02, and several with commas") from error
    made = make_plan(
        PlanOptions(
            difference=differences,
            power=power,
            alpha=alpha,
            tests=tests,
            pilot=pilot,
            over=over,
            discordance=discordance,
            cluster_size=cluster_size,
            icc=icc,
        )
    )
    write(canonical_json(made.as_dict()) if json else made.as_table(), end="\n" if json else "", json=json)
