"""The text suite's tasks by name: lm-eval's, ours in `task_files/`, the lab's facts, a user's; with data of the Hub or snapshots."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import yaml
from jinja2 import TemplateError
from lm_eval.tasks._factory import TaskFactory

from iit_bench.errors import UserError, described, one_line
from iit_bench.tools.lm_eval.index import Index, matched, read_index
from iit_bench.tools.lm_eval.local_data import localised, readable, revisions_of
from iit_bench.tools.lm_eval.process import loading
from iit_bench.visible import clipped

# The text-only benchmarks of the Wings paper. RACE-high is lm-eval's `race`.
PRESETS: dict[str, tuple[str, ...]] = {
    "wings-text": (
        *("mmlu", "cmmlu", "arc_easy", "arc_challenge", "winogrande", "openbookqa", "iit_race_middle", "race", "wsc", "iit_chid"),
        *("hellaswag", "social_iqa", "piqa", "iit_ocnli", "gsm8k", "iit_mbpp"),
    )
}
FACTS = "iit_facts"
OURS = Path(__file__).parent / "task_files"
UNSAFE = "runs code that the model writes"
LONGEST_NAME = 200  # bytes of a task's name; with "samples_", the date and ".jsonl" it is the name of a file, which may have 255


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Where tasks are found and how they are read."""

    data_root: Path | None = None  # folder with local snapshots, read instead of the Hub
    include_path: Path | None = None  # a user's own tasks in lm-eval's format; they win over lm-eval's of the same name
    num_fewshot: int | None = None  # few-shot examples; None = each task's own number
    unsafe_code: bool = False  # allow tasks that run code that the model writes


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Loaded tasks. `manager.load` returns them to lm-eval, whatever it is asked for."""

    manager: Index
    loaded: Mapping[str, Any]  # lm-eval's TaskDict
    left_out: Mapping[str, str] = field(default_factory=dict)  # task of a preset -> why it is not run
    data_sha256: Mapping[str, str] = field(default_factory=dict)  # task -> of the local files it was read from
    revisions: Mapping[str, str] = field(default_factory=dict)  # task -> commit of the Hub repository that its data are from, if known


def load_tasks(names: Sequence[str], options: TaskOptions, scratch: Path) -> Tasks:
    """Load tasks with their data; `scratch` holds caches and must outlive the tasks.

    Raises:
        UserError: an unknown name, or one that no file can have; data that are missing or malformed; or a task that runs code and
            `unsafe_code` is off.
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
        raise UserError("no task is named; name some with --tasks, e.g. --tasks wings-text or --tasks arc_easy,gsm8k")
    manager = suite_index(wanted, options.include_path, scratch)
    wanted = matched(wanted, manager, [*PRESETS, FACTS])
    for name in wanted:
        if manager.task_index[name].kind.name in ("TASK", "PY_TASK"):
            _refuse_unstorable(name)  # before its data are read
    factory = _Factory(options, scratch)
    try:
        with loading(unsafe_code=options.unsafe_code):  # lm-eval's mbpp and humaneval run a program when they are loaded
            manager.loaded = manager.load_with(factory, wanted)
    except ValueError as error:  # a task that is named twice, by itself and in a group
        raise UserError(f"lm-eval cannot run these tasks together ({one_line(error)}); name fewer with --tasks") from error
    for name, task in manager.loaded["tasks"].items():
        _refuse_unstorable(name)
        if name not in factory.revisions and (commits := revisions_of(task)):
            factory.revisions[name] = ", ".join(sorted(commits))
        task.build_all_requests = _with_name(name, task.build_all_requests)
        task.process_results = _with_name(name, task.process_results)
    return Tasks(manager=manager, loaded=manager.loaded, left_out=left_out, data_sha256=factory.sha256, revisions=factory.revisions)


# ---------------------------------------------------------------- names


def suite_index(names: Sequence[str], include_path: Path | None, scratch: Path) -> Index:
    """The index that has the names, with our own tasks, the facts if they are named, and those of `include_path`.

    Args:
        scratch: receives the facts as task files.

    Raises:
        UserError: `include_path` is not a folder.
    """
    own = [OURS]
    if any(name.startswith(FACTS) for name in names):
        own.append(write_facts(scratch / "facts"))
    if include_path:
        if not include_path.is_dir():
            raise UserError(f"--include-path {str(include_path)!r} is not a folder; give one with lm-eval tasks (*.yaml)")
        own.append(include_path)
    return read_index(names, own)


def _refuse_unstorable(name: str) -> None:
    """Refuse a task whose samples lm-eval could not write: it names their file after the task, and only warns where that fails.

    Raises:
        UserError: says what of the name no file can have.
    """
    own = next((mark for mark in ("/", "\\", "\0") if mark in name), None)
    size = len(os.fsencode(name))
    if own is None and size <= LONGEST_NAME:
        return
    why = f"it has {own!r}" if own is not None else f"it is {size} bytes long, and may be {LONGEST_NAME}"
    raise UserError(
        f"lm-eval task {clipped(name, 80)!r} cannot be run, as lm-eval names a file after it and {why}; rename it in its YAML file"
    )


# ---------------------------------------------------------------- data


class _Factory(TaskFactory):
    """Builds lm-eval's tasks, with data from local snapshots if there is a data root; its errors are one sentence."""

    def __init__(self, options: TaskOptions, scratch: Path) -> None:
        super().__init__()
        self.options, self.scratch = options, scratch
        self.sha256: dict[str, str] = {}
        self.revisions: dict[str, str] = {}

    def _build_task(self, entry: Any, overrides: dict[str, Any] | None) -> Any:
        config = entry.cfg or {}
        if config.get("unsafe_code") and not self.options.unsafe_code:  # before its functions are loaded: some run code at once
            raise UserError(f"lm-eval task {entry.name!r} {UNSAFE}; add --confirm-run-unsafe-code to allow it on this machine")
        with readable(entry.name, str(config.get("dataset_path", "its data set")), self.options.data_root):
            return super()._build_task(entry, overrides)

    def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        if self.options.data_root is None or entry.kind.name == "GROUP":
            return config
        cache = self.scratch / "datasets"
        local = localised(entry.name, config, data_root=self.options.data_root, cache=cache, examples=self._examples(config))
        if local.files:
            self.sha256[entry.name] = local.sha256
        if local.revision:
            self.revisions[entry.name] = local.revision
        return local.config

    def _examples(self, config: Mapping[str, Any]) -> int:
        """Few-shot examples that are shown."""
        own = config.get("num_fewshot")
        return 0 if own == 0 else self.options.num_fewshot if self.options.num_fewshot is not None else int(own or 0)


def _with_name(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """A task's method, whose errors over documents become one sentence with the task's name."""

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except (ValueError, LookupError, TypeError, AttributeError, TemplateError) as error:
            if "larger than population" in str(error):
                raise UserError(f"lm-eval task {name!r} has fewer examples than --num-fewshot asks for; lower it") from error
            raise UserError(f"lm-eval task {name!r} fails on its data ({described(error)}); check the data") from error

    return call


# ---------------------------------------------------------------- the lab's facts


def write_facts(folder: Path) -> Path:
    """Write the facts (`iit_bench.data.facts`) as lm-eval tasks `iit_facts_RELATION` (test split, dev as examples) and group `iit_facts`.

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
        for split, questions in (("test", facts.questions("test")), ("dev", facts.questions("dev"))):
            rows = [
                {"id": q.id, "question": q.question, "choices": q.choices, "answer": q.answer} for q in questions if q.subject == relation
            ]
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
        "doc_to_text": "{{question}}",  # with --apply-chat-template the form in which IIT asks and the lab's models were trained
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
