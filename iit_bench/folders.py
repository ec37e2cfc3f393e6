"""Benchmark and run folders on disk: their formats, written atomically, versioned, checked by hash when read.

Benchmark folder (IIT.md "On disk"): `questions/test-*.parquet`, `dialogues/test-*.parquet` (columns = fields of `types.Question` and
`types.Dialogue`), `manifest.json`, `README.md` (data set card).

Run folder: `run.json` (what was run: see `RUN_FIELDS`), `responses.jsonl` (append-only, see engine/log.py), `predictions.parquet`
(columns = fields of `types.Prediction`), `results.json` (`types.Results`, sha256 of the predictions), `errors.jsonl` (`ERROR_FIELDS`).
Of the suites "text" and "vqa": `items.parquet` (`types.TaskItem`) and `types.SuiteResults` instead, beside the tool's own result files.

How a record becomes a row: tables.py.
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

from iit_bench.atomic import check_target, check_writable, save_folder, write_atomic  # noqa: F401 - part of this file's interface
from iit_bench.errors import UserError
from iit_bench.tables import canonical_json, decode, read_table, rows_sha256, table_bytes
from iit_bench.types import Dialogue, Prediction, Question, Results, SuiteResults, TaskItem, tier_order

BENCHMARK_FORMAT = "iit-bench/benchmark"
EXPORT_FORMAT = "iit-bench/export"
RUN_FORMAT = "iit-bench/run"
VERSION = 1  # of all formats; a folder of another version is refused

# Fields of run.json beside `format` and `version`.
_OF_BENCHMARKS = ("benchmark", "scoring", "style", "history", "tiers", "batch_tokens")
RUN_FIELDS = {
    "name": "display name of the run, by default its folder's name",
    "model": "models.base.ModelInfo as a dict",
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
    "arguments": "the same as a dict of EvalOptions, for `iit-bench eval --from run.json`",
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


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# ---------------------------------------------------------------- the benchmark folder


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark folder."""

    path: Path
    manifest: Mapping[str, Any]
    questions: Mapping[str, Question]
    dialogues: tuple[Dialogue, ...]

    @property
    def rows_sha256(self) -> str:
        return self.manifest["rows_sha256"]

    @cached_property
    def tiers(self) -> tuple[str, ...]:
        """From text-only to multimodal-rich."""
        return tuple(sorted({dialogue.tier for dialogue in self.dialogues}, key=tier_order))

    def chosen_tiers(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The tiers of these names, in order; all for None.

        Raises:
            UserError: the benchmark has no such tier, or none is named.
        """
        if unknown := [name for name in names or () if name not in self.tiers]:
            raise UserError(f"benchmark {str(self.path)!r} has no tier {', '.join(unknown)}; it has {', '.join(self.tiers)}")
        if names is not None and not names:
            raise UserError(f"--tiers names no tier; benchmark {str(self.path)!r} has {', '.join(self.tiers)}")
        return tuple(tier for tier in self.tiers if names is None or tier in names)


def save_benchmark(
    out: Path, questions: Sequence[Question], dialogues: Sequence[Dialogue], manifest: Mapping[str, Any], card: str, overwrite: bool = False
) -> Path:
    """Write a benchmark folder whole or not at all. `manifest` gets format, version, files (sha256 each) and rows_sha256.

    Raises:
        UserError: `out` holds something else, or cannot be written.
    """
    files = {
        "questions/test-00000-of-00001.parquet": table_bytes(Question, questions),
        "dialogues/test-00000-of-00001.parquet": table_bytes(Dialogue, dialogues),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    whole = {"format": BENCHMARK_FORMAT, "version": VERSION, **manifest, "files": hashes, "rows_sha256": rows_sha256(questions, dialogues)}
    texts = {"README.md": card, "manifest.json": pretty_json(whole)}
    return save_folder(out, [*files.items(), *texts.items()], BENCHMARK_FORMAT, overwrite)


def load_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a benchmark folder, without reading its tables.

    Raises:
        UserError: not a benchmark folder, or of another version.
    """
    fix = "build one with `iit-bench build --out DIR`"
    return _read_header(folder, "manifest.json", BENCHMARK_FORMAT, "a benchmark folder", fix, needed=("files", "rows_sha256"))


def load_benchmark(path: Path | str) -> Benchmark:
    """Read a benchmark folder and check its version and hashes.

    Raises:
        UserError: missing, of another version, changed after it was built.
    """
    folder = Path(path)
    manifest = load_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise UserError(f"benchmark {str(folder)!r} lacks its file {name!r}; build it again")
        if sha256_file(folder / name) != expected:
            raise UserError(f"{name!r} in benchmark {str(folder)!r} was changed after it was built (its sha256 differs); build it again")
    questions, dialogues = (
        read_table(kind, [folder / name for name in sorted(manifest["files"]) if name.startswith(table)])
        for kind, table in ((Question, "questions/"), (Dialogue, "dialogues/"))
    )
    return Benchmark(folder, manifest, {question.id: question for question in questions}, tuple(dialogues))


def _read_header(folder: Path, name: str, expected: str, what: str, fix: str, needed: Sequence[str] = ()) -> dict[str, Any]:
    path = folder / name
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is not there; {fix}")
    if not path.is_file():
        raise UserError(f"{str(folder)!r} is not {what} (it has no {name}); {fix}")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found, version = header["format"], header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{str(path)!r} is not a file that iit-bench wrote ({type(error).__name__}: {error}); {fix}") from error
    if found != expected:
        raise UserError(f"{str(folder)!r} is not {what} (its {name} says {found!r}); {fix}")
    if version != VERSION:
        raise UserError(
            f"{str(folder)!r} has format version {version}, this iit-bench reads {VERSION}; make it again, or install the one that wrote it"
        )
    if missing := [field for field in needed if field not in header]:
        raise UserError(f"{str(path)!r} lacks {', '.join(missing)}; {fix}")
    return header


# ---------------------------------------------------------------- the run folder


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
    return _read_header(folder, "run.json", RUN_FORMAT, "a run folder", fix)


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
    results = _read_header(folder, "results.json", RUN_FORMAT + "/results", "a run folder", "run its `iit-bench eval` again")
    predictions = folder / "predictions.parquet"
    if not predictions.is_file() or sha256_file(predictions) != results["predictions_sha256"]:
        raise UserError(
            f"'predictions.parquet' in run {str(folder)!r} is missing or was changed; repeat its command: {run.get('command', '')}"
        )
    try:
        lines = (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
        return Run(folder, run, decode(Results, results), tuple(json.loads(line) for line in lines[1:]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"run {str(folder)!r} is damaged ({type(error).__name__}: {error}); repeat its command: {run.get('command', '')}"
        ) from error


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
    results = _read_header(folder, "results.json", RUN_FORMAT + "/suite", "a run of a text or VQA suite", repeat)
    items = folder / "items.parquet"
    if not items.is_file() or sha256_file(items) != results.get("items_sha256"):
        raise UserError(f"'items.parquet' in run {str(folder)!r} is missing or was changed; {repeat}")
    try:
        lines = (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
        return SuiteRun(folder, run, decode(SuiteResults, results), tuple(json.loads(line) for line in lines[1:]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"run {str(folder)!r} is damaged ({type(error).__name__}: {error}); {repeat}") from error
