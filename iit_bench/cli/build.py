"""`iit-bench build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import Out, app, names
from iit_bench.terminal import write


@app.command()
def build(
    out: Out,
    preset: Annotated[str, typer.Option(help="Name of a preset of sources: `iit-bench list presets`.")] = "lab2",
    text: Annotated[
        str | None,
        typer.Option(
            help="Text sources instead of the preset's, comma-separated: facts, two-hop, lm-eval:TASK, FILE, hub:ORG/NAME.",
            show_default=False,
        ),
    ] = None,
    visual: Annotated[
        str | None,
        typer.Option(
            help="Visual sources instead of the preset's: easyvqa, digits, flags, flag-facts, vlmeval:NAME, vlmeval:FILE.tsv, FILE, "
            "hub:ORG/NAME.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns of a FILE or a data set of the Hub: [SOURCE:]question=COLUMN,choices=COLUMN,answer=COLUMN,images=COLUMN; "
            "may be repeated. Default: columns of these names.",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option(
            help="How its answers name the right choice: [SOURCE:]auto, text, letter, from-0 or from-1. auto refuses what may be read in "
            "two ways.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="Language of rows in Latin script that state none (BCP 47).")] = "en",
    include_path: Annotated[
        Path | None, typer.Option(help="Folder with tasks in lm-eval's format, for lm-eval:TASK.", show_default=False)
    ] = None,
    tiers: Annotated[str, typer.Option(help="full (14 patterns of up to 3 turns), paper (6), or a list such as T,TV,VVT.")] = "full",
    size: Annotated[int | None, typer.Option(help="Targets per modality; default: the preset's.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of sampling and shuffling.")] = 0,
    match: Annotated[str, typer.Option(help="History by meaning: tfidf, none, or a text encoder's path or Hub id.")] = "tfidf",
    connector: Annotated[str, typer.Option(help="Transition sentence between turns: none or template.")] = "none",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of `iit-bench fetch`, used instead of the Hub.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing benchmark.")] = False,
) -> None:
    """Build a benchmark folder from text and visual sources.

    FILE is a .jsonl, .json, .csv, .tsv or .parquet file.

    Example: iit-bench build --text lm-eval:openbookqa --visual vlmeval:AI2D_TEST --tiers T,TV,V --size 500 --out bench

    Example: iit-bench build --text my.jsonl --visual easyvqa --columns question=q,choices=options,answer=gold --answers letter --out bench
    """
    from builders.build import BuildOptions, summary
    from builders.build import build as build_benchmark
    from iit_bench.storage.benchmark import load_manifest

    options = BuildOptions(
        out=out,
        preset=preset,
        text=names(text),
        visual=names(visual),
        tiers=tiers,
        size=size,
        seed=seed,
        match=match,
        connector=connector,
        data_root=data_root,
        include_path=include_path,
        columns=tuple(columns or ()),
        answers=tuple(answers or ()),
        language=language,
        overwrite=overwrite,
    )
    write(summary(load_manifest(build_benchmark(options))))
