"""What a user names as a run: a run folder of any suite, the folder of `iit-bench eval --suite all`, or result files of other tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from evaluators.runs.contradictions import agreeing
from evaluators.runs.foreign import inspect_logs, lighteval_files, lm_eval_files, lmms_eval_files, vlmeval_files
from evaluators.runs.recompute import recomputed
from iit_bench.errors import UserError, one_line
from iit_bench.storage import runs
from iit_bench.storage.runs import AnyRun, IitRun, Run, TaskRun
from iit_bench.types import SUITES, Results, Suite, SuiteResults

KINDS = (
    "a run folder, the folder of --suite all, results_*.json of lm-eval or lighteval, *_results.json of lmms-eval, *_acc.csv and "
    "*_score.csv of VLMEvalKit, or *.eval of inspect"
)


def load_run(path: Path | str, suite: Suite | None = None, *, every: bool = False) -> Run[Any]:
    """A finished run folder of any suite, or of the one that is needed, with the figures that its predictions or items give.

    One without a seal, of an earlier version, has them where its results.json says something else; another is refused.

    Args:
        path: the run folder.
        suite: the suite that is needed; None for any.
        every: compare what takes long, too: chance levels and hashes of documents, for which every sample of lm-eval is read.

    Raises:
        UserError: as `storage.runs.load_run`, or results.json contradicts the predictions or items.
    """
    run: Run[Any] = runs.load_run(path, suite)
    return agreeing(run, every) if run.sealed else recomputed(run)


def is_iit(run: AnyRun) -> TypeGuard[IitRun]:
    """Whether a run is of suite iit."""
    return isinstance(run.results, Results)


def is_of_tasks(run: AnyRun) -> TypeGuard[TaskRun]:
    """Whether a run is of the suite text or vqa."""
    return isinstance(run.results, SuiteResults)


def read_runs(path: Path) -> list[AnyRun]:
    """The finished runs that a path stands for.

    Raises:
        UserError: it is none of `KINDS`, or one that is not finished, damaged, or of another version.
    """
    if path.is_file():
        return _of_file(path)
    if (path / "run.json").is_file():
        return [load_run(path)]
    if path.is_dir() and (folders := run_folders(path)):
        return [load_run(folder) for folder in folders]
    if not path.is_dir():
        raise UserError(f"{str(path)!r} is not there; make a run with `iit-bench eval --model NAME --bench DIR --out DIR`")
    named = lm_eval_files.result_files(path)  # lighteval gives its files the same names
    foreign: list[AnyRun] = [_of_json(file, _content(file)) or lm_eval_files.read_results(file) for file in named]
    others = (_of_json(file, _content(file)) for file in lmms_eval_files.result_files(path))
    foreign += [run for run in others if run is not None]
    foreign += vlmeval_files.read_scores(vlmeval_files.result_files(path))
    foreign += [inspect_logs.read_log(file) for file in inspect_logs.result_files(path)]
    if foreign:
        return foreign
    raise UserError(f"{str(path)!r} is not a run folder (it has no run.json), nor does it hold result files; give {KINDS}")


def run_folders(path: Path) -> list[Path]:
    """The run folders in a folder: those of `--suite all`, or whatever runs lie in it, one level below or two."""
    if parts := [path / suite for suite in SUITES if (path / suite / "run.json").is_file()]:
        return parts
    inside = [child for child in sorted(path.iterdir()) if child.is_dir()]
    return [
        run
        for child in inside
        for run in ([child] if (child / "run.json").is_file() else [child / s for s in SUITES])
        if (run / "run.json").is_file()
    ]


def read_all(paths: Sequence[Path]) -> tuple[list[IitRun], list[TaskRun]]:
    """The runs of the suite iit, and those of the suites text and vqa; files of one VLMEvalKit folder are one run.

    Raises:
        UserError: as `read_runs`.
    """
    tables = [path for path in paths if path.is_file() and vlmeval_files.is_scores(path)]
    every: list[AnyRun] = [*vlmeval_files.read_scores(tables)]
    for path in paths:
        every += [] if path in tables else read_runs(path)
    return [run for run in every if is_iit(run)], [run for run in every if is_of_tasks(run)]


def _of_file(path: Path) -> list[AnyRun]:
    if path.name == "run.json":
        return [load_run(path.parent)]
    if vlmeval_files.is_scores(path):
        return list(vlmeval_files.read_scores([path]))
    if inspect_logs.is_log(path):
        return [inspect_logs.read_log(path)]
    if path.suffix == ".json" and (run := _of_json(path, _content(path))) is not None:
        return [run]
    if path.name.startswith("samples_") and path.suffix == ".jsonl":
        raise UserError(f"{str(path)!r} holds lm-eval's samples without their figures; give the results_*.json beside it")
    raise UserError(f"{str(path)!r} is no result file that is known here; give {KINDS}")


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON ({one_line(error)}); give {KINDS}") from error


def _of_json(path: Path, content: Any) -> TaskRun | None:
    """The run of a tool's JSON file of results; None where it is none. lmms-eval's has all that lm-eval's has, and more."""
    if lmms_eval_files.is_results(content):
        return lmms_eval_files.read_results(path, content)
    if lighteval_files.is_results(content):
        return lighteval_files.read_results(path, content)
    return lm_eval_files.read_results(path) if lm_eval_files.is_results(content) else None
