"""lm-eval tasks by name: its own tasks, groups and tags, ours in `tasks/`, the lab's facts, a user's; from the Hub or local snapshots."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from datasets.exceptions import DatasetsError
from jinja2 import TemplateError
from lm_eval.tasks import TaskManager
from lm_eval.tasks._factory import TaskFactory

from builders.sources.lm_eval import revisions_of
from iit_bench.data.fetched import check_unchanged
from iit_bench.data.snapshots import fetch_it, missing_split, snapshot_folder, split_files
from iit_bench.errors import UserError
from iit_bench.storage.format import files_sha256
from iit_bench.tools.random_states import random_states_kept

# The text-only benchmarks of the Wings paper. RACE-high is lm-eval's `race`.
PRESETS: dict[str, tuple[str, ...]] = {
    "wings-text": (
        *("mmlu", "cmmlu", "arc_easy", "arc_challenge", "winogrande", "openbookqa", "iit_race_middle", "race", "wsc", "iit_chid"),
        *("hellaswag", "social_iqa", "piqa", "iit_ocnli", "gsm8k", "iit_mbpp"),
    )
}
FACTS = "iit_facts"
OURS = Path(__file__).parent / "task_files"
# Folders of lm-eval whose names do not begin like their tasks'; spares reading its 15,000 files (many seconds).
FOLDERS = {"social_iqa": "siqa", "wsc": "super_glue", "ai2_arc": "arc"}
UNSAFE = "runs code that the model writes"


@dataclass(frozen=True)
class TaskOptions:
    """Where tasks are found and how they are read."""

    data_root: Path | None = None  # folder with local snapshots, read instead of the Hub
    include_path: Path | None = None  # a user's own tasks in lm-eval's format; they win over lm-eval's of the same name
    num_fewshot: int | None = None  # None = each task's own
    unsafe_code: bool = False  # run what a model writes


@dataclass
class Tasks:
    """What `load_tasks` found. `manager.load` gives the loaded tasks to lm-eval, whatever it is asked for."""

    manager: TaskManager
    loaded: Mapping[str, Any]  # lm-eval's TaskDict
    left_out: dict[str, str] = field(default_factory=dict)  # task of a preset -> why it is not run
    data_sha256: dict[str, str] = field(default_factory=dict)  # task -> of the local files it was read from
    revisions: dict[str, str] = field(default_factory=dict)  # task -> commit of the Hub repository that its data are of, where known


def load_tasks(names: Sequence[str], options: TaskOptions, scratch: Path) -> Tasks:
    """Load tasks with their data; `scratch` holds caches and must outlive the tasks.

    Raises:
        UserError: an unknown name, data that are missing or of another form, or a task that runs code without leave.
    """
    left_out = {}
    wanted: list[str] = []
    for name in names:
        for task in PRESETS.get(name, (name,)):
            if task == "iit_mbpp" and name in PRESETS and not options.unsafe_code:
                left_out[task] = f"it {UNSAFE}; add --confirm-run-unsafe-code to run it"
            elif task not in wanted:
                wanted.append(task)
    if not wanted:
        raise UserError("no task is asked for; name some with --tasks, e.g. --tasks wings-text or --tasks arc_easy,gsm8k")
    manager = index(wanted, options, scratch)
    wanted = matched(wanted, manager)
    factory = _Factory(options, scratch)
    manager._factory = factory
    try:
        with _quiet(), code_allowed(options.unsafe_code):  # lm-eval's mbpp and humaneval run a program when they are loaded
            manager.loaded = manager.load(wanted)
    except ValueError as error:  # a task asked for twice, alone and in a group
        raise UserError(f"lm-eval cannot run these tasks together ({error}); name fewer with --tasks") from error
    for name, task in manager.loaded["tasks"].items():
        if name not in factory.revisions and (commits := revisions_of(task)):
            factory.revisions[name] = ", ".join(sorted(commits))
        task.build_all_requests = _named(name, task.build_all_requests)
        task.process_results = _named(name, task.process_results)
    return Tasks(manager, manager.loaded, left_out, factory.sha256, factory.revisions)


# ---------------------------------------------------------------- names


class _Manager(TaskManager):
    """lm-eval's index of tasks; once `loaded` is set, that is what it gives whatever it is asked for."""

    loaded: Any = None

    def add(self, other: TaskManager) -> None:
        """Know the names of another index as well; on a clash, ours win."""
        self._index: dict[str, Any] = {**other.task_index, **self.task_index}
        self._all_tasks = sorted(self._index)

    def load(self, task_list: Any) -> Any:
        return self.loaded or super().load(task_list)


def index(names: Sequence[str], options: TaskOptions, scratch: Path) -> _Manager:
    """The index of the folders that hold the names, or of all of lm-eval where that is not enough."""
    own: list[str | Path] = [OURS]
    if any(name.startswith(FACTS) for name in names):
        own.append(write_facts(scratch / "facts"))
    if options.include_path:
        if not options.include_path.is_dir():
            raise UserError(f"--include-path {str(options.include_path)!r} is no folder; give one with lm-eval tasks (*.yaml)")
        own.append(options.include_path)
    root = Path(str(importlib.util.find_spec("lm_eval").origin)).parent / "tasks"  # type: ignore[union-attr]
    near = [folder for name in names if (folder := _folder(root, name))]
    narrow = _Manager(include_path=[*dict.fromkeys(near), *own], include_defaults=False)
    if not all(_whole(name, narrow.task_index) for name in names):
        narrow.add(_lm_evals_own())
    return narrow


@cache
def _lm_evals_own() -> TaskManager:
    """All of lm-eval's tasks: 15,000 files, many seconds."""
    return TaskManager()


def _folder(root: Path, name: str) -> Path | None:
    """The folder of lm-eval that the name begins with: `arc_easy` stands in `arc`."""
    if name in FOLDERS:
        return root / FOLDERS[name]
    words = name.split("_")
    candidates = (root / "_".join(words[:n]) for n in range(len(words), 0, -1))
    return next((path for path in candidates if path.is_dir()), None)


def _whole(name: str, index: Mapping[str, Any]) -> bool:
    """Whether a name and all it stands for is in this index. A tag may have members anywhere, so only the whole index knows them."""
    if name not in index or index[name].kind.name == "TAG":
        return False
    if index[name].kind.name != "GROUP":
        return True
    return all(_whole(member, index) for member in _members(index[name].cfg.get("task")))


def _members(listed: Any) -> Iterator[str]:
    for member in [listed] if isinstance(listed, str) else listed or ():
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping) and isinstance(member.get("task"), list):  # a group defined in place
            yield from _members(member["task"])
        elif isinstance(member, Mapping) and "dataset_path" not in member:
            yield str(member.get("group") or member.get("task"))


def matched(names: Sequence[str], manager: TaskManager) -> list[str]:
    """The names, with patterns such as `mmlu_*` replaced by what they match.

    Raises:
        UserError: a name that neither lm-eval nor we know.
    """
    found: list[str] = []
    for name in names:
        if name in manager.task_index:
            found.append(name)
            continue
        matches = manager.match_tasks([name]) if any(mark in name for mark in "*?[") else []
        if not matches:
            close = get_close_matches(name, [*manager.all_tasks, *PRESETS, FACTS], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` shows lm-eval's, `iit-bench list tasks` ours"
            raise UserError(f"there is no lm-eval task, group, tag or preset called {name!r}; {hint}")
        found += matches
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- data


class _Factory(TaskFactory):
    """Builds lm-eval's tasks, with data from local snapshots where asked; complains in one sentence."""

    def __init__(self, options: TaskOptions, scratch: Path) -> None:
        super().__init__()
        self.options, self.scratch = options, scratch
        self.sha256: dict[str, str] = {}
        self.revisions: dict[str, str] = {}

    def _build_task(self, entry: Any, overrides: dict[str, Any] | None) -> Any:
        listed = entry.cfg or {}
        if listed.get("unsafe_code") and not self.options.unsafe_code:  # before its functions are loaded: some run code at once
            raise UserError(f"lm-eval task {entry.name!r} {UNSAFE}; add --confirm-run-unsafe-code to allow it on this machine")
        with _readable(entry.name, str(listed.get("dataset_path", "its data set")), self.options.data_root):
            return super()._build_task(entry, overrides)

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        if self.options.data_root is None or entry.kind.name == "GROUP":
            return config
        return self._localised(entry.name, config)

    def _localised(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with its data set replaced by the files of a snapshot, named one by one and cached in `scratch`.

        (For a folder, `datasets` keys its cache by the folder's base name and gives back old rows in silence.)
        """
        given = config.get("dataset_kwargs") or {}
        if "data_files" in given or callable(config.get("custom_dataset")):
            return config  # it is local, or made, already
        if "dataset_path" not in config:
            raise UserError(f"lm-eval task {name!r} is a Python class that reads its own data; leave out --data-root or the task")
        assert self.options.data_root is not None
        folder = snapshot_folder(self.options.data_root, config["dataset_path"], name)
        fewshot_split = _fewshot_split(config)
        named = [config.get(key) for key in ("test_split", "validation_split", "training_split")]
        loader, found = split_files(folder, config.get("dataset_name"), [s for s in dict.fromkeys([*named, fewshot_split]) if s])
        for split in (evaluated_split(config), shown_split(config) if self._fewshot(config) else None):
            if split and split not in found:
                raise missing_split(name, config, split, folder, self.options.data_root)
        files = [path for paths in found.values() for path in paths]
        if revision := check_unchanged(self.options.data_root, files):
            self.revisions[name] = revision
        self.sha256[name] = files_sha256(files)
        kwargs: dict[str, Any] = {"data_files": {split: [str(path) for path in paths] for split, paths in found.items()}}
        kwargs["cache_dir"] = str(self.scratch / "datasets")
        if loader == "csv":
            kwargs["keep_default_na"] = False  # "None" and "NA" are words here
        changed: dict[str, Any] = {"dataset_path": loader, "dataset_name": None, "dataset_kwargs": kwargs}
        changed |= {key: None for key in ("validation_split", "training_split") if config.get(key) not in found}
        if fewshot_split and fewshot_split not in found:  # no example is shown, but lm-eval would look into the split
            changed |= {"fewshot_split": None, "fewshot_config": {"samples": [], "sampler": "first_n"}}
        return config | changed

    def _fewshot(self, config: Mapping[str, Any]) -> int:
        own = config.get("num_fewshot")
        return 0 if own == 0 else self.options.num_fewshot if self.options.num_fewshot is not None else int(own or 0)


def evaluated_split(config: Mapping[str, Any]) -> str | None:
    """The split that lm-eval asks."""
    return config.get("test_split") or config.get("validation_split")


def shown_split(config: Mapping[str, Any]) -> str | None:
    """Where lm-eval takes few-shot examples from; None where the task brings its own."""
    shots = config.get("fewshot_config")
    if (named := _fewshot_split(config)) or not (isinstance(shots, dict) and shots.get("samples") is not None):
        return named or config.get("training_split") or config.get("validation_split") or config.get("test_split")
    return None


def _fewshot_split(config: Mapping[str, Any]) -> str | None:
    """The split that the task names for its examples."""
    shots = config.get("fewshot_config")
    return config.get("fewshot_split") or (shots.get("split") if isinstance(shots, dict) else None)


@contextmanager
def _readable(name: str, dataset: str, data_root: Path | None) -> Iterator[None]:
    """One sentence for whatever lm-eval, `datasets` or a task's own functions raise over data that are missing or of another form."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, SyntaxError, TemplateError, DatasetsError) as error:
        reason = " ".join(str(error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error).split())[:200]
        if "module script" in reason:
            fix = "go online, or choose another task (for MBPP, iit_mbpp)"
            raise UserError(f"lm-eval task {name!r} needs a metric that `evaluate` loads from the Hub ({reason}); {fix}") from error
        place, fix = ("the Hub", f"go online, or {fetch_it(name)} and give --data-root DIR")
        if data_root is not None:
            place, fix = repr(str(data_root)), f"check that its files are whole and in the published form, or {fetch_it(name, data_root)}"
        raise UserError(f"lm-eval task {name!r} cannot read {dataset!r} from {place} ({type(error).__name__}: {reason}); {fix}") from error


def _named(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A task's method that tells in one sentence, with the task's name, which document data it cannot work with."""

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except (ValueError, LookupError, TypeError, AttributeError, TemplateError) as error:
            if "larger than population" in str(error):
                raise UserError(f"lm-eval task {name!r} has fewer examples than are to be shown; give fewer with --num-fewshot") from error
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"lm-eval task {name!r} fails over its data ({type(error).__name__}: {reason}); check them") from error

    return call


@contextmanager
def _quiet() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with without_advice(), random_states_kept():
            yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def code_allowed(allowed: bool) -> Iterator[None]:
    """Sets the variable that metrics which run programs ask for, where the user allowed it."""
    with patch.dict(os.environ, {"HF_ALLOW_CODE_EVAL": "1"} if allowed else {}):
        yield


@contextmanager
def without_advice() -> Iterator[None]:
    """lm-eval's warnings are for its own users: ours did not write the tasks, and what they must know stands in the results."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# ---------------------------------------------------------------- the lab's facts


def write_facts(folder: Path) -> Path:
    """The facts (`iit_bench.data.facts`) as lm-eval tasks: `iit_facts_RELATION` over the test split, dev as examples; group `iit_facts`.

    Returns:
        `folder`, with a YAML and two JSON files per relation.
    """
    from iit_bench.data import facts

    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for relation in facts.WORDINGS:
        task = f"{FACTS}_{relation.replace(' ', '_')}"
        tasks.append(task)
        files = {}
        for split, asked in (("test", facts.questions("test")), ("dev", facts.questions("dev"))):
            rows = [{"id": q.id, "question": q.question, "choices": q.choices, "answer": q.answer} for q in asked if q.subject == relation]
            files[split] = str(folder / f"{task}_{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        _write_yaml(folder / f"{task}.yaml", _facts_task(task, files, folder / "cache"))
    metrics = [{"metric": metric, "aggregation": "mean", "weight_by_size": True} for metric in ("acc", "acc_norm")]
    _write_yaml(folder / f"_{FACTS}.yaml", {"group": FACTS, "task": tasks, "aggregate_metric_list": metrics, "metadata": {"version": 1.0}})
    return folder


def _facts_task(task: str, files: Mapping[str, str], cache: Path) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": dict(files), "cache_dir": str(cache)},
        "test_split": "test",
        "fewshot_split": "dev",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",  # with --apply-chat-template the very form in which IIT asks, and in which the lab's models learnt
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
        "metadata": {"version": 1.0},
    }


def _write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True), encoding="utf-8")


def known_tasks() -> Iterable[str]:
    """Presets and tasks of ours, for listings."""
    return [*PRESETS, FACTS, *sorted(path.stem for path in OURS.glob("*.yaml"))]
