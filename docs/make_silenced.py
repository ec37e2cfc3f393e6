"""Writes docs/lab/silenced: what trained Wings models answer while one of their learners is silent at some tokens.

    iit-bench lab full --out OUT --only method=wings --only rate=0,2e-4 --keep
    python docs/make_silenced.py OUT

Every model of OUT answers the benchmark as it is, and once for each of `SILENCINGS`; each result is a cell of its own, for
`evaluators/lab/silenced.py`. Beside them, router.parquet has the router's weight of the visual learner where a reply begins. Interrupted,
the same command goes on.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

import pandas as pd  # noqa: E402 - run as a script, the package may not be installed
import torch  # noqa: E402

from evaluators.iit.chosen import choose_dialogues, style_of  # noqa: E402
from evaluators.iit.evaluate import Shared, evaluate_model  # noqa: E402
from evaluators.iit.turns import Asking, request  # noqa: E402
from evaluators.lab.silenced import ROUTER, SILENCINGS, WHOLE, Silencing, cell_of  # noqa: E402
from evaluators.runs.options import RunOptions  # noqa: E402
from iit_bench.lab import cells  # noqa: E402
from iit_bench.lab.cells import CellResult  # noqa: E402
from iit_bench.lab.one_cell import counts, item_of  # noqa: E402
from iit_bench.models.load import load_model  # noqa: E402
from iit_bench.models.wings.attention_probe import watched_router  # noqa: E402
from iit_bench.models.wings.silenced import silenced  # noqa: E402
from iit_bench.storage.atomic import write_atomic  # noqa: E402
from iit_bench.storage.benchmark import load_benchmark  # noqa: E402
from iit_bench.storage.runs import load_run, load_run_header  # noqa: E402
from iit_bench.types import Style  # noqa: E402

FOLDER = HERE / "lab" / "silenced"
GROUPS = 100  # groups of dialogues at which the router is read


def main(out: Path) -> None:
    """Ask every model of a grid's folder; its cells are done and its models kept."""
    torch.set_num_threads(1)
    shared, tables = Shared(load_benchmark(out / "bench")), []
    FOLDER.mkdir(exist_ok=True)
    for trained in cells.read(out / "cells"):
        run = out / "work" / "runs" / trained.cell.name
        if trained.cell.method != WHOLE.method or not run.is_dir():
            continue
        model = load_model("wings", RunOptions(**_options(run)).model_options, progress=False)
        model.prepare(shared.benchmark)
        for silencing in (WHOLE, *SILENCINGS):
            if not (FOLDER / f"{cell_of(silencing, trained.cell).name}.json").is_file():
                _ask(model, shared, run, trained, silencing)
        tables.append(
            _router(model, shared, style_of(RunOptions(**_options(run)), shared.benchmark)).assign(
                rate=trained.cell.rate, seed=trained.cell.seed
            )
        )
        print(trained.cell.name, flush=True)
    write_atomic(FOLDER / ROUTER, pd.concat(tables, ignore_index=True).to_parquet(index=False))


def _options(run: Path, **more: Any) -> dict[str, Any]:
    """The options of a cell's evaluation (`iit_bench/lab/one_cell.py`)."""
    checkpoint = load_run_header(run)["model"]["checkpoint"]
    known = {"model": "wings", "checkpoint": checkpoint, "bench": run.parent.parent.parent / "bench", "out": run}
    return known | {"scoring": "loglikelihood", "device": "cpu", "dtype": "float32", "threads": 1} | more


def _ask(model: Any, shared: Shared, run: Path, trained: CellResult, silencing: Silencing) -> None:
    cell = cell_of(silencing, trained.cell)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for learner, place in silencing.silent:
            stack.enter_context(silenced(model.model, learner, place))
        out = Path(folder) / cell.name
        evaluate_model(model, shared.benchmark, RunOptions(**_options(run, out=out, name=cell.name)), False, shared.rendering)
        targets = [one for one in load_run(out, "iit").predictions if one.is_target]
    scores = counts((one.tier, one.outcome == "correct") for one in targets)
    none = dict.fromkeys(trained.seconds, 0.0)  # nothing was trained
    result = dataclasses.replace(trained, cell=cell, scores=scores, attention=None, path=(), sources={}, seconds=none, cpu_seconds=none)
    cells.write(FOLDER, result, [item_of(one) for one in targets])


def _router(model: Any, shared: Shared, style: Style) -> pd.DataFrame:
    """The weight ρ of the visual learner at the token behind which a reply begins, mean over the layers, a row per dialogue."""
    tiers = [tier for tier in shared.benchmark.chosen_tiers(None) if "V" in tier]
    plan = choose_dialogues(shared.benchmark, tiers, GROUPS, style=style, accepts_images=True, takes_histories=True)
    asking, rows = Asking(scoring="generate", style=style, max_new_tokens=1), []
    for dialogue in plan.dialogues:
        course = shared.rendering.course(dialogue)
        chat = model.encoder.encode(request(course, len(course.questions) - 1, asking).messages)
        features = model._image_features(chat.images)
        with torch.inference_mode(), watched_router(model.model) as found:
            model.model(torch.tensor([chat.input_ids]), image_features=features, use_cache=False, logits_to_keep=1)
        weight = sum(float(layer[0, -1, 0]) for layer in found.values()) / len(found)
        target = course.questions[-1]
        rows.append({"tier": dialogue.tier, "item": dialogue.group, "cluster": target.cluster, "weight": weight})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
