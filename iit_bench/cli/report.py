"""`iit-bench report` and `iit-bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, Out, app


@app.command(short_help="Write the leaderboard of several runs as one HTML page.")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one benchmark.", show_default=False)],
    out: Out,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default=False)] = None,
) -> None:
    """Write the leaderboard of several runs: one HTML page that needs no network.

    Example: iit-bench report runs/* --out report
    """
    from reports.leaderboard import report as write_report

    print(f"Leaderboard: {write_report(runs, out, **({'title': title} if title else {}))}")


@app.command(short_help="Paired differences between two runs.")
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder A.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Run folder B, asked the same.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Paired differences A - B over the same items, per tier, with intervals and tests."""
    from evaluators.comparison import as_dict, as_table, check_comparable
    from evaluators.comparison import compare as compare_predictions
    from iit_bench.folders import load_run
    from iit_bench.tables import canonical_json

    a, b = load_run(run_a), load_run(run_b)
    check_comparable(a.run, b.run)
    results = compare_predictions(a.predictions, b.predictions, b.run["name"])
    shown = (results, a.run["name"], b.run["name"])
    print(canonical_json(as_dict(*shown)) if json else as_table(*shown))
