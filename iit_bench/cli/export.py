"""`iit-bench export`: a benchmark for other tools, or runs in the formats that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from iit_bench.cli.app import Out, Quiet, app, given_options, names
from iit_bench.errors import UserError
from iit_bench.terminal import write

OfBenchmark = Literal["lm-eval", "vlmeval", "croissant", "hub"]
OfRuns = Literal["inspect", "every-eval-ever", "hub", "csv", "latex", "markdown"]
_BENCHMARKS_ONLY, _RUNS_ONLY = ("tiers", "style"), ("bench", "source", "organization")


@app.command()
def export(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A benchmark folder, or runs: run folders of any suite, result files of other tools.",
            metavar="PATH...",
            show_default=False,
        ),
    ],
    to: Annotated[
        Literal["lm-eval", "vlmeval", "croissant", "hub", "inspect", "every-eval-ever", "csv", "latex", "markdown"],
        typer.Option(
            "--to",
            help="A benchmark: lm-eval, vlmeval, croissant, hub. Runs: inspect, every-eval-ever, hub, csv, latex, markdown.",
            show_default=False,
        ),
    ],
    out: Out,
    tiers: Annotated[
        str | None, typer.Option(help="lm-eval, vlmeval: tiers to write, comma-separated; default all.", show_default=False)
    ] = None,
    style: Annotated[
        Literal["cloze", "options", "letters"] | None,
        typer.Option(help="lm-eval: how choices are shown; default: the benchmark's. vlmeval has letters.", show_default=False),
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(help="Runs: their benchmark folder; default: where the runs found it.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="The benchmark's name on the Hub, OWNER/NAME; runs to hub need it.", show_default=False)
    ] = None,
    source: Annotated[str | None, typer.Option(help="Runs to hub: address of the evaluation's logs.", show_default=False)] = None,
    organization: Annotated[str, typer.Option(help="Runs to every-eval-ever: who ran the evaluation.", show_default=False)] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a benchmark for other tools, or runs in formats that others read.

    README.md in the folder explains what was written, and what the format cannot say. Formats: docs/how-to/formats.md.

    Example: iit-bench export bench --to lm-eval --out bench-lm-eval

    Example: iit-bench export runs/* --to inspect --out logs
    """
    of_benchmark = _of_benchmark(to, paths)
    if wrong := [name for name in (_RUNS_ONLY if of_benchmark else _BENCHMARKS_ONLY) if name in given_options(context)]:
        raise UserError(
            f"--{wrong[0]} is for {'runs' if of_benchmark else 'a benchmark'}, which is not what is exported here; leave it out"
        )
    shared: dict[str, Any] = {"out": out, "to": to, "overwrite": overwrite}
    if of_benchmark:
        from builders.export.export import ExportOptions, summary
        from builders.export.export import export as export_benchmark

        options = ExportOptions(bench=paths[0], tiers=names(tiers), style=style, dataset=dataset, **shared)
        write(summary(out, export_benchmark(options, progress=not quiet)))
    else:
        from reports.formats import export as runs

        of_runs = runs.RunExportOptions(runs=tuple(paths), bench=bench, dataset=dataset, source=source, organization=organization, **shared)
        write(runs.summary(out, runs.export_runs(of_runs)))


def _of_benchmark(to: str, paths: list[Path]) -> bool:
    """Whether a benchmark is exported, and not runs: by the format, and where both have it, by what the folder is.

    Raises:
        UserError: a format of the other kind of folder, or more than one benchmark.
    """
    is_benchmark, is_run = ((paths[0] / name).is_file() for name in ("manifest.json", "run.json"))
    of_benchmark, of_runs = to in get_args(OfBenchmark), to in get_args(OfRuns)
    if not of_runs and (is_run or len(paths) > 1):
        raise UserError(
            f"--to {to} is for one benchmark folder, and {str(paths[0])!r} is a run; for runs choose {', '.join(get_args(OfRuns))}"
        )
    if not of_benchmark and is_benchmark and not is_run:
        choose = ", ".join(get_args(OfBenchmark))
        raise UserError(f"--to {to} is for runs, and {str(paths[0])!r} is a benchmark folder; for a benchmark choose {choose}")
    exported = of_benchmark and (is_benchmark or not of_runs)
    if exported and len(paths) > 1:
        raise UserError(f"--to {to} writes one benchmark folder at a time, and {len(paths)} paths are given; export each by itself")
    return exported
