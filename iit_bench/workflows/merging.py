"""Merge what several processes have logged of a run, without its model: where one has died, or none could write the results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.runs.header import load_options, run_identity
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.shares import set_aside
from iit_bench.errors import UserError
from iit_bench.models.recorded import RecordedModel
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.storage.folder_locks import holding
from iit_bench.storage.runs import load_run_header
from iit_bench.types import Results, SuiteResults


@dataclass(frozen=True)
class Merged:
    """What a merge has found."""

    answers: int  # in responses.jsonl now
    results: Results | SuiteResults | None  # None in suite text, whose prompts only the model itself can render
    command: str  # resumes the run


def merge(folder: Path) -> Merged:
    """Move the answers of all processes into responses.jsonl, and write the results of what is answered.

    Requests without an answer count as errors of the machine, so the results of an incomplete run say that they are.

    Raises:
        UserError: not a run folder, another process works in it (the sentence names it), its logs contradict each other, or its benchmark
            is not where it was.
    """
    run = load_run_header(folder)
    with holding(folder, fix="end it"):
        return _merge(folder, run)


def _merge(folder: Path, run: dict[str, Any]) -> Merged:
    """Merge a run whose folder no other process writes meanwhile."""
    with ResponseLog(folder / "responses.jsonl") as log:
        shards = set_aside(folder, run_identity(run))
        answers = log.count_with(shards)
        if run["suite"] == "text":
            log.absorb(shards)
    results: Results | SuiteResults | None = None
    if run["suite"] != "text":
        from evaluators.iit.evaluate import evaluate_model
        from evaluators.vqa.evaluate import evaluate_vqa_model

        options = dataclasses.replace(load_options(folder, out=folder), reasoning_tokens=run.get("reasoning_tokens"), name=run["name"])
        model = RecordedModel(run)
        if run["suite"] == "vqa":
            results = evaluate_vqa_model(model, options, progress=False)
        else:
            assert options.bench is not None
            if not options.bench.is_dir():
                raise UserError(
                    f"the benchmark {str(options.bench)!r} of run {str(folder)!r} is not there; merge from the run's own folder"
                )
            results = evaluate_model(model, load_benchmark(options.bench), dataclasses.replace(options, scoring=run["scoring"]), False)
    return Merged(answers, results, run.get("command", ""))
