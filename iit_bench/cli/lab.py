"""`iit-bench lab`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import Out, Quiet, app, refuse_idle
from iit_bench.ranks import LAUNCH
from iit_bench.terminal import write


@app.command()
def lab(
    context: typer.Context,
    grid: Annotated[str, typer.Argument(help="A grid's name (quick, full, smol) or a YAML file.", show_default=False)],
    out: Out,
    processes: Annotated[int, typer.Option(help="Processes of this machine that work on the grid, a thread each.", min=1)] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Run some cells: method=NAME,NAME, rate=NUMBER or seed=NUMBER; an --only each.", show_default=False),
    ] = None,
    max_cells: Annotated[int | None, typer.Option("--max-cells", help="Stop after N cells of each process.", min=1)] = None,
    llm: Annotated[str, typer.Option("--llm", help="LLM to start from, in place of the grid's.", show_default=False)] = "",
    tower: Annotated[str, typer.Option("--tower", help="Vision tower, likewise.", show_default=False)] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Run cells again that are of other recipes, inputs or benchmark.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the models of finished cells.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing: list the cells, their states and an estimate.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the page OUT/report of the finished cells, after running what is left.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the experiment: methods, learning rates of the LLM and seeds, a cell each. Interrupted, the same command resumes.

    Example: iit-bench lab quick --out lab --processes 2
    """
    from iit_bench.lab.run import Experiment, LabOptions

    if dry_run:
        refuse_idle(context, ("processes", "max_cells", "keep", "report"), "with --dry-run, which runs nothing")
    options = LabOptions(grid=grid, out=out, only=tuple(only or ()), llm=llm, tower=tower, max_cells=max_cells, replace=replace, keep=keep)
    experiment = Experiment(options)
    if dry_run:
        write(experiment.standing().listing())
        return
    code = 0
    if processes > 1:
        experiment.check_writable()
        from iit_bench.cli.processes import run_processes

        switches = [word for word, wanted in (("--replace", replace), ("--keep", keep), ("--quiet", quiet)) if wanted]
        given = [("--llm", llm), ("--tower", tower), ("--max-cells", str(max_cells or "")), *(("--only", one) for one in only or ())]
        words = ["lab", grid, "--out", str(out), *switches, *(word for flag, value in given if value for word in (flag, value))]
        code = run_processes(words, processes)
        if code not in (0, 1):
            raise typer.Exit(code)
    else:
        experiment.run(progress=not quiet)
    standing = experiment.standing()
    if LAUNCH not in os.environ:  # else the process that started this one says it
        write("\n".join([*standing.notes(), standing.line()]), file=sys.stderr)
    if report:
        _report(experiment.cells, out, [one.cell.name for one in experiment.plan])
    if code or standing.count("failed") or standing.count("error"):
        raise typer.Exit(1)


def _report(cells: Path, out: Path, planned: list[str]) -> None:
    """Write the page; cells of the plan that are not there are named on it."""
    from reports.lab.page import lab_page

    write(f"Report: {lab_page(cells, out / 'report', planned, out / 'bench')}")
