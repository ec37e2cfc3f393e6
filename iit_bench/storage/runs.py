"""Run folders: their fields, written atomically, checked by hash when read.

`run.json` (what was run: see `RUN_FIELDS`), `responses.jsonl` (append-only, see engine/log.py), `predictions.parquet` (columns = fields of
`types.Prediction`), `results.json` (`types.Results`, sha256 of the predictions), `errors.jsonl` (`ERROR_FIELDS`). Of the suites "text" and
"vqa": `items.parquet` (`types.TaskItem`) and `types.SuiteResults` instead, beside the tool's own result files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, described
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import RUN_FORMAT, VERSION, pretty_json, read_header, sha256_file
from iit_bench.storage.tables import canonical_json, decode, read_table, table_bytes
from iit_bench.types import Prediction, Results, SuiteResults, TaskItem

# Fields of run.json beside `format` and `version`.
_OF_BENCHMARKS = ("benchmark", "scoring", "style", "history", "tiers", "batch_tokens")
RUN_FIELDS = {
    "name": "display name of the run, by default its folder's name",
    "model": "models.contract.ModelInfo as a dict",
    "suite": "iit | text | vqa",
    "benchmark": "name, rows_sha256, seed, tiers {tier: n}, sources, baselines, as copied from the manifest",
    "scoring": "loglikelihood | generate, as it was done (auto is decided at the start)",
    "style": "cloze | options | letters",
    "history": "gold | own",
    "limit": "number of whole groups, or null for all",
    "tiers": "tiers asked for",
    "max_new_tokens": "of a generated reply",
    "system_prompt": "first message of every chat, or empty",
    "batch_size": "requests per batch, or null for as many as the token budget takes",
    "batch_tokens": "planned tokens per batch, padding included",
    "seed": "of the model, where it draws",
    "command": "the command line that repeats the run",
    "arguments": "the same by option (evaluators.runs.options.RunOptions), for `iit-bench eval --from run.json`",
    "versions": "python, iit-bench, torch, transformers, … as imported",
    "git_commit": "of iit-bench's checkout, or null",
    "started": "UTC, ISO 8601, of the first session",
    "ended": "UTC of the last session, or null while it runs",
    "seconds": "time spent scoring, summed over sessions",
    "tokens": "prompt and reply tokens processed, over the whole run",
    "usage": "of a model behind a server: answers, prompt and reply tokens as it bills them, cost where prices are given; else null",
    "resumed": "how many times the run was taken up again",
}
# Fields of run.json of the suites text and vqa: those of RUN_FIELDS that do not speak of a benchmark, and these.
SUITE_FIELDS = {name: RUN_FIELDS[name] for name in RUN_FIELDS if name not in _OF_BENCHMARKS} | {
    "tasks": "tasks or data sets behind the names asked for",
    "judge": "vqa: exact_matching, or VLMEvalKit's judge model",
    "num_fewshot": "text: examples before each question, or null for the task's own",
    "apply_chat_template": "text: whether lm-eval's prompts are chats",
    "fewshot_as_multiturn": "text: whether each example of a chat is turns of its own",
    "gen_kwargs": "text: lm-eval's settings of generation",
}
# Of a line of errors.jsonl after its header line.
ERROR_FIELDS = {
    "dialogue": "Dialogue.id",
    "position": "turn",
    "tier": "tier",
    "question": "Question.id",
    "kind": "item (the item can never be scored by this model) | machine (it may be, on resuming)",
    "reason": "short and countable",
    "detail": "the message",
}


@dataclass(frozen=True)
class Run:
    """A finished (or, with `results.complete` False, interrupted by machine errors) run folder."""

    path: Path
    run: Mapping[str, Any]
    results: Results
    errors: tuple[Mapping[str, Any], ...]

    @cached_property
    def predictions(self) -> list[Prediction]:
        return read_table(Prediction, [self.path / "predictions.parquet"])


def folder_label(folder: Path) -> str:
    """What pages and tables call a run folder: its name, and its parent's where it is one suite of `--suite all`."""
    whole = folder.absolute()
    return f"{whole.parent.name}/{whole.name}" if whole.name in ("iit", "text", "vqa") else whole.name


def save_run_header(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.json; `run` has the fields of RUN_FIELDS."""
    write_atomic(folder / "run.json", pretty_json({"format": RUN_FORMAT, "version": VERSION, **run}))


def load_run_header(folder: Path) -> dict[str, Any]:
    """Read run.json, whether the run is finished or not.

    Raises:
        UserError: not a run folder, or of another version.
    """
    fix = "make one with `iit-bench eval --model NAME --bench DIR --out DIR`"
    return read_header(folder, "run.json", RUN_FORMAT, "a run folder", fix)


def save_run_outcome(folder: Path, predictions: Sequence[Prediction], results: Results, errors: Sequence[Mapping[str, Any]]) -> None:
    """Write predictions, errors and, last, the results that carry the predictions' hash."""
    table = table_bytes(Prediction, predictions)
    write_atomic(folder / "predictions.parquet", table)
    header = {"format": RUN_FORMAT + "/errors", "version": VERSION}
    write_atomic(folder / "errors.jsonl", "".join(canonical_json(line) + "\n" for line in [header, *errors]))
    body = {"format": RUN_FORMAT + "/results", "version": VERSION, "predictions_sha256": hashlib.sha256(table).hexdigest()}
    write_atomic(folder / "results.json", pretty_json(body | dataclasses.asdict(results)))


def load_run(path: Path | str) -> Run:
    """Read a run folder and check its version and the hash of its predictions.

    Raises:
        UserError: empty, foreign, unfinished, of another version or changed afterwards.
    """
    folder = Path(path)
    run = load_run_header(folder)
    if run.get("suite") in ("text", "vqa"):
        raise UserError(f"run {str(folder)!r} is of suite {run['suite']}, and one of suite iit is needed here; name another")
    if not (folder / "results.json").is_file():
        raise UserError(f"run {str(folder)!r} is not finished (no results.json); repeat its command to go on: {run.get('command', '')}")
    results = read_header(folder, "results.json", RUN_FORMAT + "/results", "a run folder", "run its `iit-bench eval` again")
    predictions = folder / "predictions.parquet"
    if not predictions.is_file() or sha256_file(predictions) != results["predictions_sha256"]:
        raise UserError(
            f"'predictions.parquet' in run {str(folder)!r} is missing or was changed; repeat its command: {run.get('command', '')}"
        )
    try:
        lines = (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
        return Run(folder, run, decode(Results, results), tuple(json.loads(line) for line in lines[1:]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"run {str(folder)!r} is damaged ({described(error)}); repeat its command: {run.get('command', '')}") from error


# ---------------------------------------------------------------- the run folder of the suites "text" and "vqa"


@dataclass(frozen=True)
class SuiteRun:
    """A finished run folder of a text or VQA suite."""

    path: Path
    run: Mapping[str, Any]
    results: SuiteResults
    errors: tuple[Mapping[str, Any], ...]

    @cached_property
    def items(self) -> list[TaskItem]:
        return read_table(TaskItem, [self.path / "items.parquet"])


def save_suite_outcome(folder: Path, items: Sequence[TaskItem], results: SuiteResults, errors: Sequence[Mapping[str, Any]]) -> None:
    """Write items, errors (`task`, `item`, `kind`, `reason`, `detail`) and, last, the results that carry the items' hash."""
    table = table_bytes(TaskItem, items)
    write_atomic(folder / "items.parquet", table)
    header = {"format": RUN_FORMAT + "/errors", "version": VERSION}
    write_atomic(folder / "errors.jsonl", "".join(canonical_json(line) + "\n" for line in [header, *errors]))
    body = {"format": RUN_FORMAT + "/suite", "version": VERSION, "items_sha256": hashlib.sha256(table).hexdigest()}
    write_atomic(folder / "results.json", pretty_json(body | dataclasses.asdict(results)))


def load_suite_run(path: Path | str) -> SuiteRun:
    """Read a run folder of a text or VQA suite and check its version and the hash of its items.

    Raises:
        UserError: empty, foreign, unfinished, of another version or changed afterwards.
    """
    folder = Path(path)
    run = load_run_header(folder)
    repeat = f"repeat its command: {run.get('command', '')}"
    if not (folder / "results.json").is_file():
        raise UserError(f"run {str(folder)!r} is not finished (no results.json); {repeat}")
    results = read_header(folder, "results.json", RUN_FORMAT + "/suite", "a run of a text or VQA suite", repeat)
    items = folder / "items.parquet"
    if not items.is_file() or sha256_file(items) != results.get("items_sha256"):
        raise UserError(f"'items.parquet' in run {str(folder)!r} is missing or was changed; {repeat}")
    try:
        lines = (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
        return SuiteRun(folder, run, decode(SuiteResults, results), tuple(json.loads(line) for line in lines[1:]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"run {str(folder)!r} is damaged ({described(error)}); {repeat}") from error
