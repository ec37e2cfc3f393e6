"""Logs of inspect (`.eval`), written by inspect itself: one per run of suite iit, one per task of the other suites.

The sample of a turn is the chat with its images, the reply, and a score per metric; `evaluators.runs.foreign.inspect_logs` reads a log
back as the run that it was.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.version import __version__
from reports import links
from reports.entries import Entry
from reports.formats import inspect_parts as parts
from reports.formats.dialogues import turn_id, turns
from reports.formats.runs import Runs
from reports.page import visible

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSample, EvalSpec

NOT_SAID = (
    "intervals, n and clusters are metadata of each metric, which inspect's own tables do not show; paired figures and forgetting are "
    "in the log's metadata only",
    "inspect has one kind of missing answer: unparsed and truncated are both its N, told apart by the score's `reason`",
    "of the suites text and vqa, prompts are left out: they are in the tool's own files in the run folder",
    "inspect shows chats as they were put to the model; the prompt that its template made of them, where it was recorded, is metadata",
)
MISSING = "inspect's logs need the package inspect-ai; install it with `pip install inspect-ai`, or `pip install 'iit-bench[formats]'`"
Make = Callable[[], Iterator["EvalSample"]]
_LONG_AGO = "1970-01-01T00:00:00+00:00"  # another tool's run without a date


class Samples(list):  # type: ignore[type-arg]
    """Samples that are made one after the other while inspect writes them: all images of a large run are never in memory at once."""

    def __init__(self, make: Make, n: int) -> None:
        super().__init__()
        self._make, self._n = make, n

    def __iter__(self) -> Iterator[EvalSample]:
        return self._make()

    def __len__(self) -> int:
        return self._n

    def __bool__(self) -> bool:
        return self._n > 0


def log_files(runs: Runs) -> Iterator[tuple[str, Callable[[BinaryIO], None]]]:
    """The logs of all runs.

    Raises:
        UserError: inspect is not installed, or the benchmark of an IIT run is not at hand.
    """
    try:
        import inspect_ai.log as _  # noqa: F401 - whether it is there, before any work
    except ImportError as error:
        raise UserError(MISSING) from error
    for entry in runs.entries:
        yield f"{entry.slug}.eval", partial(_write, _of_entry(entry, runs))
    tasks = [(run, result) for run in runs.models.runs for result in run.results.tasks if result.members is None and result.scores]
    names = links.slugs([f"{run.run['name']}-{result.task}" for run, result in tasks])
    for (run, result), name in zip(tasks, names, strict=True):
        log = _of_task(run, result.task)
        if log is not None:
            yield f"tasks/{name}.eval", partial(_write, log)


def _write(log: EvalLog, file: BinaryIO) -> None:
    """By inspect's own writer, which wants a place and not an open file."""
    from inspect_ai.log import write_eval_log

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "log.eval"
        write_eval_log(log, place, format="eval")
        with place.open("rb") as made:
            shutil.copyfileobj(made, file)


# ---------------------------------------------------------------- suite iit


def _of_entry(entry: Entry, runs: Runs) -> EvalLog:
    run, header, benchmark = entry.run, entry.header, runs.benchmark(entry)
    model, metrics = str(header["model"]["name"]), parts.scored_metrics(header["scoring"])
    ids = [visible(turn_id(one)) for one in run.predictions]
    total = len(ids)
    finished = total - sum(one.outcome == "error" for one in run.predictions)

    def samples() -> Iterator[EvalSample]:
        return (parts.sample_of_turn(turn, number, model, metrics) for number, turn in enumerate(turns(run, benchmark)))

    kept = {"suite": "iit", "run": dict(header), "results": asdict(run.results), "errors": [dict(line) for line in run.errors]}
    spec = _spec(header, task=f"iit/{benchmark.manifest['name']}", task_version=benchmark.rows_sha256[:12], ids=ids, kept=kept)
    return _log(spec, header, parts.results_of_run(run.results, total, finished, metrics), Samples(samples, total), run.results.complete)


# ---------------------------------------------------------------- suites text and vqa


def _of_task(run: TaskRun, task: str) -> EvalLog | None:
    """A task's log; None where the run has no items of it."""
    result = next(one for one in run.results.tasks if one.task == task)
    items = [item for item in run.items if item.task == task]
    if not items:
        return None
    model, ids = str(run.run["model"]["name"]), [visible(name) for name in dict.fromkeys(item.item for item in items)]
    total = len(ids)
    finished = total - len({item.item for item in items if item.outcome == "error"})
    kept = {"suite": run.results.suite, "run": dict(run.run), "result": asdict(result)}
    spec = _spec(run.run, task=task, task_version=result.version or "0", ids=ids, kept=kept)
    samples = Samples(partial(parts.samples_of_items, items, model), total)
    return _log(spec, run.run, parts.results_of_task(result, total, finished), samples, run.results.complete)


# ---------------------------------------------------------------- the log around the samples


def _spec(header: Mapping[str, Any], *, task: str, task_version: str, ids: list[str], kept: Mapping[str, Any]) -> EvalSpec:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalRevision, EvalSpec

    if len(set(ids)) < len(ids):  # inspect would keep one of them
        raise UserError(
            f"two items of {task!r} have names that differ only in characters that cannot be seen; inspect needs distinct names"
        )
    model, commit = header["model"], header.get("git_commit")
    identity = [
        hashlib.sha256(f"{part}/{header.get('command')}/{header.get('started')}/{task}".encode()).hexdigest()[:22] for part in "etr"
    ]
    benchmark = header.get("benchmark") or {}
    return EvalSpec(
        eval_id=identity[0],
        task_id=identity[1],
        run_id=identity[2],
        created=str(header.get("started") or _LONG_AGO),
        task=task,
        task_version=task_version,
        dataset=EvalDataset(name=str(benchmark.get("name") or task), samples=len(ids), sample_ids=list(ids), shuffled=False),
        model=str(model["name"]),
        model_args={name: model[name] for name in ("checkpoint", "checkpoint_sha256", "dtype", "device", "blind") if model.get(name)},
        config=EvalConfig(epochs=1),
        revision=EvalRevision(type="git", origin="", commit=str(commit)) if commit else None,
        packages={"iit-bench": __version__},
        metadata={"iit-bench": dict(kept)},
    )


def _log(spec: EvalSpec, header: Mapping[str, Any], results: EvalResults, samples: Samples, complete: bool) -> EvalLog:
    from inspect_ai.log import EvalLog, EvalPlan, EvalPlanStep, EvalStats
    from inspect_ai.model import GenerateConfig

    asked = {name: header[name] for name in ("scoring", "style", "history", "system_prompt", "limit") if name in header}
    config = GenerateConfig(max_tokens=header.get("max_new_tokens"), seed=header.get("seed"))
    times = {"started_at": str(header.get("started") or ""), "completed_at": str(header.get("ended") or "")}
    log = EvalLog(
        status="success" if complete else "cancelled",
        eval=spec,
        plan=EvalPlan(name="iit-bench", steps=[EvalPlanStep(solver="iit-bench", params=asked)], config=config),
        results=results,
        stats=EvalStats(**times),  # type: ignore[arg-type]
    )
    log.samples = samples  # not validated, so not gone through, before they are written
    return log
