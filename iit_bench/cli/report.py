"""`iit-bench report` and `iit-bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iit_bench.cli.app import AsJson, Out, app
from iit_bench.terminal import write


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders of any suite, folders of --suite all, result files of lm-eval and lighteval (results_*.json), lmms-eval "
            "(*_results.json), VLMEvalKit (*_acc.csv, *_score.csv) and inspect (*.eval), or folders with such files.",
            show_default=False,
        ),
    ],
    out: Out,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default=False)] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Run that the others are compared with, of any suite, or a folder of --suite all: IIT runs on text tiers, text and VQA "
            "runs task by task; default: the base that each run was evaluated against.",
            show_default=False,
        ),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="Benchmark folder, to show questions and images; default: where the runs found it.", show_default=False),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="Two models side by side, as A:B, by their names on the page; may be given again. Default: each model and its base, and "
            "neighbours at the top.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            help="Runs that are one model under several seeds, as A,B,C, by their names on the page; may be given again. They get a row "
            "with the mean over seeds.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        bool | None,
        typer.Option(
            "--samples/--no-samples",
            help="Show every dialogue as it was asked and answered, with filters and search; default: where the benchmark is at hand.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        bool,
        typer.Option(
            "--series",
            help="The IIT runs are checkpoints of one training: add a page with their curves, by the steps in their folders' names, "
            "else in the order given.",
        ),
    ] = False,
) -> None:
    """Write the report of several runs: a folder of pages that need no network. Open its index.html.

    It has the leaderboard, a page per model, two models side by side, and what was asked. A row of the leaderboard is a model with its
    IIT, text-only and VQA figures.

    Figures of one task under different settings (few-shot examples, chat template, limit, data …) get separate columns; IIT runs of
    different benchmarks or settings get tables of their own.

    Example: iit-bench report runs/* lm_eval_output/ --out report

    Example: iit-bench report --series runs/base runs/checkpoint-* --out report
    """
    from reports.folder import foreign_files
    from reports.leaderboard import report as write_report

    asked: dict[str, Any] = {"base": base, "bench": bench, "pairs": pairs or (), "samples": samples, "seeds": seeds or (), "series": series}
    write(f"Leaderboard: {write_report(runs, out, title, **asked)}")
    if kept := foreign_files(out):
        write(f"Kept in {str(out)!r}: {kept:,} file{'' if kept == 1 else 's'} that no report of this version wrote.")


@app.command()
def compare(
    run_a: Annotated[
        Path,
        typer.Argument(
            help="Run A: a run folder of any suite, or lm-eval's or VLMEvalKit's results; for forgetting, the base LLM's.",
            show_default=False,
        ),
    ],
    run_b: Annotated[Path, typer.Argument(help="Run B, with the same settings; for forgetting, the tuned model's.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Print paired differences A - B over the same items, per tier or task, with intervals and tests; for text tasks also the retention.

    With the base LLM's run first, a positive difference is what tuning lost.

    Example: iit-bench compare runs/base/text runs/tuned/text
    """
    from evaluators.compare.runs import comparisons
    from iit_bench.storage.tables import canonical_json

    compared: list[Any] = list(comparisons(run_a, run_b))
    if json:
        write(canonical_json(compared[0].as_dict() if len(compared) == 1 else {"suites": [one.as_dict() for one in compared]}), json=True)
    else:
        write("\n".join(one.as_table() for one in compared), end="")
