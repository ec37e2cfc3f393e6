"""`iit-bench attention`: its options are the fields of `evaluators.attention.options.AttentionOptions`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluators.attention.options import BESIDE_RUN, WITHOUT, AttentionOptions, ObservationPart
from evaluators.runs.options import ModelPart, flag
from iit_bench.cli.app import AsJson, PanelCommand, Quiet, app, given_options
from iit_bench.cli.options import options_of, record_values
from iit_bench.errors import UserError
from iit_bench.terminal import write

PARTS: dict[type, str] = {ModelPart: "Model", ObservationPart: "Observation"}


@app.command("attention", cls=PanelCommand)
@options_of(AttentionOptions, PARTS, without=WITHOUT)
def attention(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(help="Run folder of suite iit: its model, asked as there; the table goes into it.", show_default=False),
    ] = None,
    allow_errors: Annotated[
        int | None,
        typer.Option(min=0, help="Dialogues that may fail before the exit code is 1; default: as of the run, else 0.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    json: AsJson = False,
    **given: Any,
) -> None:
    """Observe what the last prompt token attends to, layer by layer: text before the image, the image, text after it.

    The figures are the attention shift (1 - correlation of the two text curves over layers) and modality dominance; a report shows them.

    Example: iit-bench attention runs/wings

    Example: iit-bench attention --model hf:Qwen/Qwen2-VL-2B-Instruct --bench bench --limit 100 --out qwen.parquet
    """
    from evaluators.attention.observe import failed, observe_attention, observe_run
    from evaluators.attention.shift import attention_figures
    from evaluators.attention.summary import summary_text
    from iit_bench.storage.runs import load_run_header
    from iit_bench.storage.tables import canonical_json

    values = record_values(AttentionOptions, given, without=WITHOUT)
    if run is None:
        observed = observe_attention(AttentionOptions(**values), progress=not quiet)
    else:
        named = [name for name in given_options(context) if name in values]
        if wrong := [flag(name) for name in named if name not in BESIDE_RUN]:
            raise UserError(f"RUN is observed as it was asked; leave out {', '.join(wrong)}, or leave out RUN and give every option")
        observed = observe_run(run, progress=not quiet, **{name: values[name] for name in named})
    if allow_errors is None:
        allow_errors = 0 if run is None else int(load_run_header(run)["arguments"].get("allow_errors", 0))
    figures = attention_figures(observed.rows)
    assert figures is not None, "an observation has rows"
    write(canonical_json({"about": observed.about, **dataclasses.asdict(figures)}) if json else summary_text(observed, figures), json=json)
    if failed(observed) > allow_errors:
        raise typer.Exit(1)
