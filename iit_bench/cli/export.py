"""`iit-bench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from iit_bench.cli.app import Out, Quiet, app, names


@app.command()
def export(
    bench: Annotated[Path, typer.Argument(help="Benchmark folder, made by `iit-bench build`.", show_default=False)],
    to: Annotated[Literal["lm-eval", "vlmeval"], typer.Option("--to", help="The other tool.", show_default=False)],
    out: Out,
    tiers: Annotated[str | None, typer.Option(help="Tiers to write, comma-separated; default all.", show_default=False)] = None,
    style: Annotated[
        Literal["cloze", "options", "letters"] | None,
        typer.Option(help="How choices are shown; default: the benchmark's, for VLMEvalKit letters.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a benchmark as tasks of lm-eval or tables of VLMEvalKit, to run it there without iit-bench.

    README.md in the folder explains how to run it, and which of its figures equal those of `iit-bench eval`.

    Example: iit-bench export bench --to lm-eval --out bench-lm-eval
    """
    from builders.export.export import ExportOptions, summary
    from builders.export.export import export as export_benchmark

    options = ExportOptions(bench=bench, out=out, to=to, tiers=names(tiers), style=style, overwrite=overwrite)
    print(summary(out, export_benchmark(options, progress=not quiet)))
