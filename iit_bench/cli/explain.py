"""`iit-bench explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iit_bench.cli.app import AsJson, app, names
from iit_bench.terminal import write


@app.command()
def explain(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Results of one model, A and B: run folders of any suite, lm-eval's results_*.json with samples, VLMEvalKit's files, or "
            "what else report reads. Results between the first and the last each have one thing changed.",
            show_default=False,
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Metric of the score, e.g. acc_norm; default: the one that tables show.", show_default=False)
    ] = None,
    metric_b: Annotated[str | None, typer.Option(help="Metric of the last result; default: --metric.", show_default=False)] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks or tiers; default: all that both have.", show_default=False)] = None,
    same: Annotated[
        str | None,
        typer.Option(
            help="Causes that you know to be equal though the files do not record them: prompt, template, decoding, weights, dtype.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Split the gap between two results of one model by cause: items missing, prompt, template, extraction rule, truncation, decoding,
    weights, dtype.

    Items are matched, and each side's extraction rule is run on both sides' replies. The parts sum to the gap; what the files do not tell
    apart is a part of its own, and nothing is guessed.

    Example: iit-bench explain runs/model/text lm_eval_output/model --same weights
    """
    from evaluators.explain.explain import explain as split
    from iit_bench.storage.tables import canonical_json

    found = split(results, metric=metric, metric_b=metric_b, same=names(same) or (), tasks=names(tasks))
    write(canonical_json(found.as_dict()) if json else found.as_text(), end="\n" if json else "", json=json)
