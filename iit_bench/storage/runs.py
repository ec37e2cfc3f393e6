"""Run folders: their fields, written atomically, checked by hash when read: each file of a run once, by whoever reads it.

`run.json` (what was run: see `RUN_FIELDS`), `responses.jsonl` (append-only, see engine/log.py), `predictions.parquet` (columns = fields of
`types.Prediction`), `prompts.parquet` (`types.SeenPrompt`), `results.json` (`types.Results`, sha256 of the predictions), `errors.jsonl`
(`ERROR_FIELDS`). Of the suites "text" and "vqa": `items.parquet` (`types.TaskItem`) and `types.SuiteResults` instead, beside the tool's own
result files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

from iit_bench.errors import UserError, described
from iit_bench.storage import earlier_versions, run_tiers
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.format import (
    ERRORS_FORMAT,
    RESULTS_FORMAT,
    RUN_FORMAT,
    SUITE_RESULTS_FORMAT,
    has_seal,
    hashed,
    opened,
    read_header,
    sealed_json,
    sha256_file,
    written_version,
)
from iit_bench.storage.run_files import check_file
from iit_bench.storage.schema import ERROR, check_run
from iit_bench.storage.seals import sealed
from iit_bench.storage.tables import canonical_json, columns_of, decode, read_batches, read_columns, read_table, write_table
from iit_bench.types import OUTCOMES, SUITES, Prediction, Results, SeenPrompt, Suite, SuiteResults, TaskItem, TaskSuite

# Fields of run.json beside `format` and `version`.
_OF_BENCHMARKS = (
    "benchmark",
    "scoring",
    "scoring_fallback",
    "style",
    "history",
    "tiers",
    "arm",
    "left_out",
    "batch_tokens",
    "until",
    "groups_asked",
)
RUN_FIELDS = {
    "name": "display name of the run, by default its folder's name",
    "model": "models.contract.ModelInfo as a dict",
    "suite": "iit | text | vqa",
    "benchmark": "name, rows_sha256, seed, tiers {tier: n}, sources, baselines, as copied from the manifest",
    "scoring": "loglikelihood | generate, as it was done (auto is decided at the start)",
    "scoring_fallback": "why scoring auto generates replies instead of scoring given ones, or empty",
    "style": "cloze | options | letters",
    "history": "gold | own",
    "limit": "number of whole groups, or null for all",
    "tiers": "tiers that are run: those asked for that the model can be asked",
    "arm": "what is changed of the targets, a name of `iit-bench list arms`; empty for a run as it is; missing in runs of earlier versions",
    "left_out": "reason -> groups that this style cannot ask, of any model: prefix_choices; of an arm: reason -> dialogues that it does "
    "not change or cannot ask; missing in runs of earlier versions",
    "until": "of a run until decided: margin, alpha, seed of the order, sha256 of the base's predictions, sizes of blocks; else null; "
    "missing in runs of earlier versions",
    "groups_asked": "of a run until decided: targets that it asked before it stopped; else null",
    "max_new_tokens": "of a generated reply",
    "reasoning_tokens": "that a model may reason before a generated reply, beside max_new_tokens; 0 where nothing is generated",
    "date": "day that a chat template which asks for it is told; of a template that does not, the day the run started",
    "chat_template_kwargs": "arguments of the chat template, by name",
    "processor_kwargs": "settings of the processor of images, by name",
    "adapter": "peft adapter on the checkpoint: folder or Hub id, or null",
    "system_prompt": "first message of every chat, or empty",
    "batch_size": "requests per batch, or null for as many as the token budget takes",
    "batch_tokens": "planned tokens per batch, padding included",
    "engine": "how requests are put together, decided by the process that began the run: way (tree | plain), ways (further "
    "ones that checks at load found, by name; missing in runs of before them), rows, batch_tokens and row_tokens at most, version of the "
    "plan; missing in runs of earlier versions, which are plain",
    "threads": "of PyTorch in each process, on a CPU, where the last bits depend on it; else null; missing in runs of earlier versions",
    "seed": "of the model, where it draws",
    "command": "the command line that repeats the run",
    "arguments": "the same by option (evaluators.runs.options.RunOptions), for `iit-bench eval --from run.json`",
    "versions": "python, iit-bench, torch, transformers, … as imported",
    "git_commit": "of iit-bench's checkout, or null",
    "answers_version": "of how models are asked and replies scored (engine.plan.ANSWERS_VERSION); missing in runs of version 1",
    "started": "UTC, ISO 8601, of the first session",
    "ended": "UTC of the last session, or null while it runs",
    "seconds": "time spent scoring, summed over sessions; of one that was killed up to its last answer",
    "session": "when the session began whose time is not in `seconds` yet, UTC, ISO 8601; else empty; missing in runs of earlier versions",
    "tokens": "prompt and reply tokens processed, over the whole run",
    "merged_replies": "replies whose first letters would be one token with the prompt's last word, scored as tokenised by themselves",
    "unchecked_answers": "answers from lines of responses.jsonl without a checksum, as earlier versions wrote them; missing in their runs",
    "logged": "answers in responses.jsonl, and the XOR of the digests of their requests (`keys`); missing in runs of earlier versions",
    "usage": "of a model behind a server: answers, prompt and reply tokens as it bills them, cost where prices are given; else null",
    "resumed": "how many times the run was resumed",
    "launch": "of several processes: their launch, whose --fresh begins the run anew no second time; else empty",
    "files": "path -> sha256 of what was written before this file, at the end of the last session: results, errors, prompts and the files "
    "of another tool, each compared when it is read; empty while it runs; missing in runs of earlier versions",
}
# Fields of run.json of the suites text and vqa: those of RUN_FIELDS that do not speak of a benchmark, and these.
SUITE_FIELDS = {name: RUN_FIELDS[name] for name in RUN_FIELDS if name not in _OF_BENCHMARKS} | {
    "tasks": "tasks or data sets behind the names asked for",
    "judge": "vqa: exact_matching, or VLMEvalKit's judge model",
    "num_fewshot": "text: examples before each question, or null for the task's own",
    "apply_chat_template": "text: whether lm-eval's prompts are chats",
    "fewshot_as_multiturn": "text: whether each example of a chat is turns of its own",
    "gen_kwargs": "text: lm-eval's settings of generation as they were used; those of sampling imply do_sample=true",
    "data_sha256": "text: task -> sha256 of the local files it was read from; null in suite vqa",
    "split_think": "vqa: whether VLMEvalKit's switch SPLIT_THINK is on: of a reply, what follows </think> is scored; null in suite text",
}
PROMPTS = "prompts.parquet"  # of suite iit; not there where a server renders chats, and in folders of earlier versions
ERRORS = "errors.jsonl"
EARLIER_TURN = "an earlier turn failed"  # the reason in errors.jsonl of turns that were not asked; the detail is that turn's reason
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
# The same of the suites text and vqa.
TASK_ERROR_FIELDS = {"task": "TaskItem.task", "item": "TaskItem.item"} | {name: ERROR_FIELDS[name] for name in ("kind", "reason", "detail")}

ResultsT = TypeVar("ResultsT", bound=Results | SuiteResults, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Run(Generic[ResultsT]):
    """A finished run of any suite: `Run[Results]` of suite iit, `Run[SuiteResults]` of text and vqa.

    With `results.complete` False it was interrupted by errors of the machine.
    """

    path: Path  # the run folder, or the file of another tool
    run: Mapping[str, Any]  # run.json
    results: ResultsT
    errors: tuple[Mapping[str, Any], ...] = ()
    foreign_items: Sequence[TaskItem] | None = None  # of another tool's run, which has no table of ours
    foreign_predictions: Sequence[Prediction] | None = None  # of a run of suite iit that another tool's file holds
    foreign_prompts: Sequence[SeenPrompt] = ()  # the same
    outdated: bool = False  # its figures were made by an earlier format version: `evaluators.runs.reading.load_run` recomputes them
    sealed: bool = True  # results.json has a seal; one of a version before seals has none, and its figures are recomputed, too
    listed: bool = True  # run.json has the hashes of the other files (`files`); folders of earlier versions have none
    _whole: set[Path] = field(default_factory=set, compare=False, repr=False)  # files whose hash was compared
    kept: dict[str, Any] = field(init=False, default_factory=dict, compare=False, repr=False)  # what readers made of its tables, by name

    @property
    def unsealed(self) -> bool:
        """Whether there are files, or lines of its log, without a checksum, so that a change of them would not be seen."""
        return not (self.sealed and self.listed) or bool(self.run.get("unchecked_answers"))

    def whole(self, path: Path) -> Path:
        """A file of the run's folder that is about to be read, after its hash was compared with the one on record, once per file.

        Of a run without such hashes, and of another tool's run, the path as it is.

        Raises:
            UserError: it is not the file that the run wrote, or is missing.
        """
        if path not in self._whole:
            check_file(self.path, self.run, path)
            self._whole.add(path)
        return path

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The scored turns of a run of suite iit."""
        if self.foreign_predictions is not None:
            return list(self.foreign_predictions)
        rows = read_table(Prediction, [self.path / _IIT.table])
        run_tiers.check_predictions(self.path, self.run, (row.tier for row in rows))
        return rows

    def prediction_columns(self, names: Sequence[str]) -> dict[str, Any]:
        """Columns of the predictions as pyarrow arrays, read anew: for runs too large for an object per turn.

        Raises:
            UserError: the table cannot be read.
        """
        if self.foreign_predictions is not None:
            return columns_of(Prediction, self.foreign_predictions, names)
        return run_tiers.checked(self.path, self.run, read_columns(Prediction, self.path / _IIT.table, names))

    def prediction_batches(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The same, some thousand rows after another, so that only these are in memory.

        Raises:
            UserError: the table cannot be read.
        """
        if self.foreign_predictions is not None:
            return iter([columns_of(Prediction, self.foreign_predictions, names)])
        return (run_tiers.checked(self.path, self.run, batch) for batch in read_batches(Prediction, self.path / _IIT.table, names))

    def prompt_columns(self) -> dict[str, Any] | None:
        """The columns of `types.SeenPrompt` as pyarrow arrays, read anew; None where prompts were not recorded.

        Raises:
            UserError: the table cannot be read.
        """
        names = [one.name for one in dataclasses.fields(SeenPrompt)]
        if self.foreign_prompts:
            return columns_of(SeenPrompt, self.foreign_prompts, names)
        path = self.path / PROMPTS
        there = path.is_file() or PROMPTS in self.run.get("files", ())
        return read_columns(SeenPrompt, self.whole(path), names) if there else None

    @cached_property
    def items(self) -> list[TaskItem]:
        """The scored items of a run of suite text or vqa."""
        return read_table(TaskItem, [self.path / _TASKS.table]) if self.foreign_items is None else list(self.foreign_items)


IitRun = Run[Results]
TaskRun = Run[SuiteResults]
AnyRun = IitRun | TaskRun


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the outcome of a suite is stored."""

    results: type[Results] | type[SuiteResults]
    format: str  # of results.json
    record: type[Prediction] | type[TaskItem]
    table: str  # file of the records
    digest: str  # field of results.json with the table's sha256


_IIT = Kind(results=Results, format=RESULTS_FORMAT, record=Prediction, table="predictions.parquet", digest="predictions_sha256")
_TASKS = Kind(results=SuiteResults, format=SUITE_RESULTS_FORMAT, record=TaskItem, table="items.parquet", digest="items_sha256")


def kind_of(suite: str) -> Kind:
    """How the outcome of a suite is stored."""
    return _IIT if suite == "iit" else _TASKS


def folder_label(folder: Path) -> str:
    """What pages and tables call a run folder: its name, and its parent's where it is one suite of `--suite all`, or an arm of a run.

    Of a log of inspect its name without the ending.
    """
    whole = folder.absolute()
    if whole.parent.name == "arms" and (whole.parents[1] / "run.json").is_file():
        return f"{whole.parents[1].name}/arms/{whole.name}"
    return f"{whole.parent.name}/{whole.name}" if whole.name in SUITES else whole.name.removesuffix(".eval")


def save_run_header(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.json; `run` has the fields of RUN_FIELDS."""
    write_atomic(folder / "run.json", sealed_json(RUN_FORMAT, run))


def save_finished_header(folder: Path, run: Mapping[str, Any], tool_files: str = "") -> None:
    """Write run.json after everything else of a run: with its end and with the hashes by which readers know the other files.

    Args:
        folder: the run folder.
        run: the fields of RUN_FIELDS.
        tool_files: of suites text and vqa: name of the folder with the tool's own files.
    """
    paths = [folder / name for name in ("results.json", ERRORS, PROMPTS)]
    paths += sorted((folder / tool_files).rglob("*")) if tool_files else []
    files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths if path.is_file() and not path.is_symlink()}
    save_run_header(folder, {**run, "ended": datetime.now(UTC).isoformat(timespec="seconds"), "files": files})


def load_run_header(folder: Path, fix: str = "make one with `iit-bench eval --model NAME --bench DIR --out DIR`") -> dict[str, Any]:
    """Read run.json, whether the run is finished or not. `fix` is what to do about another folder, the end of the error's sentence.

    Raises:
        UserError: not a run folder, or of another version.
    """
    header = read_header(folder, "run.json", RUN_FORMAT, "a run folder", fix)
    return check_run(header, repr(str(folder / "run.json")), fix)


def load_errors(folder: Path) -> tuple[dict[str, Any], ...]:
    """The lines of a finished run's errors.jsonl, without its header line, whose `lines_sha256` they have to have.

    Raises:
        UserError: it is not there, is damaged, or was changed.
    """
    path, fix = folder / ERRORS, "repeat the command of its run"
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
        header = opened(json.loads(first), path, ERRORS_FORMAT, fix, "a run folder")
        if header.get("lines_sha256", whole := hashlib.sha256(rest).hexdigest()) != whole:
            raise UserError(f"{str(path)!r} was changed after it was written (its sha256 differs); {fix}")
        lines = [json.loads(line) for line in rest.decode().split("\n") if line]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"run {str(folder)!r} is damaged ({described(error)} in {path.name}); {fix}") from error
    for number, line in enumerate(lines, start=2):
        ERROR.check(line, f"{str(path)!r}, line {number}", fix)
    return tuple(lines)


def save_run_outcome(
    folder: Path,
    rows: Sequence[Prediction] | Sequence[TaskItem],
    results: Results | SuiteResults,
    errors: Sequence[Mapping[str, Any]],
) -> None:
    """Write the table of `rows`, errors.jsonl and, last, results.json, which carries the table's hash.

    Args:
        rows: predictions of suite iit, items of the suites text and vqa.
        results: the figures that were made of them.
        errors: lines with `ERROR_FIELDS` or `TASK_ERROR_FIELDS`.
    """
    save_results(folder, save_rows(folder, rows, _kind_of(results).record), results, errors)


def save_rows(folder: Path, rows: Iterable[Prediction] | Iterable[TaskItem], record: type[Prediction] | type[TaskItem]) -> str:
    """Write the table of `rows`, of one group of which only the columns are in memory, and return its sha256 for `save_results`."""
    hashes: dict[str, str] = {}
    name = _TASKS.table if record is _TASKS.record else _IIT.table
    for _, content in hashed([(name, partial(write_table, record, rows))], hashes):
        write_atomic(folder / name, content)
    return hashes[name]


def save_results(folder: Path, digest: str, results: Results | SuiteResults, errors: Sequence[Mapping[str, Any]]) -> None:
    """Write errors.jsonl and, last, results.json, which carries the table's sha256 `digest`. Other arguments: as of `save_run_outcome`."""
    kind = _kind_of(results)
    lines = "".join(canonical_json(line) + "\n" for line in errors)
    header = {
        "format": ERRORS_FORMAT,
        "version": written_version(ERRORS_FORMAT),
        "lines_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    write_atomic(folder / ERRORS, canonical_json(sealed(header)) + "\n" + lines)
    write_atomic(folder / "results.json", sealed_json(kind.format, {kind.digest: digest} | dataclasses.asdict(results)))


def _kind_of(results: Results | SuiteResults) -> Kind:
    return _IIT if isinstance(results, Results) else _TASKS


@overload
def load_run(path: Path | str, suite: Literal["iit"]) -> IitRun: ...
@overload
def load_run(path: Path | str, suite: TaskSuite) -> TaskRun: ...
@overload
def load_run(path: Path | str, suite: Suite | None = None) -> Run[Any]: ...
def load_run(path: Path | str, suite: Suite | None = None) -> Run[Any]:
    """Read a finished run folder and check its version and the hashes of its results, errors, and predictions or items.

    Other files are checked by who reads them (`Run.whole`). A folder of an earlier format version, or of one before seals, has the
    figures that were stored in it; `evaluators.runs.reading.load_run` recomputes them.

    Args:
        path: the run folder.
        suite: the suite that is needed; None for any.

    Raises:
        UserError: empty, foreign, unfinished, of another version or suite, or changed afterwards.
    """
    folder = Path(path)
    run = load_run_header(folder)
    own = run.get("suite", "iit")
    if suite is not None and suite != own:
        raise UserError(f"run {str(folder)!r} is of suite {own}, and one of suite {suite} is needed here; name another")
    kind = kind_of(own)
    repeat = f"repeat its command: {run.get('command', '')}"
    if not (folder / "results.json").is_file():
        raise UserError(f"run {str(folder)!r} is not finished (no results.json); to resume it, {repeat}")
    stored = read_header(folder, "results.json", kind.format, f"a run folder of suite {own}", repeat)
    table = folder / kind.table
    if not table.is_file() or sha256_file(table) != stored.get(kind.digest):
        raise UserError(f"{kind.table!r} in run {str(folder)!r} is missing or was changed; {repeat}")
    for name in ("results.json", ERRORS):
        check_file(folder, run, folder / name)
    try:
        results = decode(kind.results, _with_all_outcomes(earlier_versions.upgraded(stored)))
        outdated, seal = earlier_versions.has_other_figures(stored), has_seal(kind.format, stored["version"])
        run_tiers.check_results(folder, run, results)
        errors, listed = load_errors(folder), bool(run.get("files"))
        return Run(path=folder, run=run, results=results, errors=errors, outdated=outdated, sealed=seal, listed=listed)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"run {str(folder)!r} is damaged ({described(error)}); {repeat}") from error


def _with_all_outcomes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """results.json with a count of every outcome: folders of before an outcome was told apart had none of it."""
    none: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    parts = {
        name: [{**part, "outcomes": none | part["outcomes"]} for part in stored[name]] for name in ("tiers", "tasks") if name in stored
    }
    return {**stored, **parts, "outcomes": none | stored["outcomes"]}
