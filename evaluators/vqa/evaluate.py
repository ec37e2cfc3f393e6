"""`--suite vqa`: VLMEvalKit's image data sets, asked of any of our models, scored by VLMEvalKit.

VLMEvalKit runs in a process of its own (see worker.py): nothing that it does to a process reaches the caller's. The model stays
here: its replies go through the engine, in batches and into the response log, so that a killed run goes on where it was.

The run folder holds run.json, responses.jsonl, items.parquet, errors.jsonl and results.json (`types.SuiteResults`), and VLMEvalKit's own
result files in vlmeval/TASK/PART/, unchanged but for its pickles, which are removed: this project reads none. What it prints is in
vlmeval.log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from evaluators.runs.header import check_same_suite, describe_suite
from evaluators.runs.options import SuiteOptions
from evaluators.runs.session import enter
from evaluators.runs.task_names import expand, unknown_task
from evaluators.vqa.messages import ADDRESSED, DATA_FOLDER, FAILED, MAX_NEW_TOKENS, USERS_DATA, generate_request
from evaluators.vqa.scores import Asked, task_result
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Failure, answer
from iit_bench.engine.usage import work_done
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, Model
from iit_bench.models.load import load_model
from iit_bench.progress import bar
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.runs import save_run_header, save_suite_outcome
from iit_bench.tools.vlmevalkit import installed
from iit_bench.types import OUTCOMES, Image, SuiteResults, TaskItem, TaskResult

EASYVQA = "easyvqa"
PRESETS: dict[str, tuple[str, ...]] = {
    "wings-vqa": (
        "MMMU_DEV_VAL",
        "MME",
        "MMBench_DEV_EN",
        "MMBench_DEV_CN",
        "ScienceQA_TEST",
        "SEEDBench_IMG",
        "AI2D_TEST",
        "HallusionBench",
    )
}
OUTCOME_FILES = ("results.json", "items.parquet", "errors.jsonl", "vlmeval", "vlmeval.log")
PACKAGES = ("ms-vlmeval", "pandas")
# Settings of VLMEvalKit that a user's shell may have and that would change its results or file formats.
_UNSET = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SPLIT_THINK", "SKIP_ERR", "VERBOSE", "PRINT_VANILLA", "FORCE_LOCAL")


def evaluate_vqa(options: SuiteOptions, progress: bool = True) -> SuiteResults:
    """Run or go on with the evaluation that `options` describe; the run folder is complete when this returns.

    Raises:
        UserError: bad options, an unknown task, an unusable table, model or folder. What was answered before stays in the folder.
        KeyboardInterrupt: likewise; the same call goes on.
    """
    chosen_tasks(options)
    check_writable(options.out)
    return evaluate_vqa_model(load_model(options.model, options.model_options, blind=options.blind), options, progress)


def evaluate_vqa_model(model: Model, options: SuiteOptions, progress: bool = True) -> SuiteResults:
    """`evaluate_vqa` with a model that is loaded already."""
    tasks = chosen_tasks(options)
    if why := unable(model):
        raise UserError(why)
    header = describe_suite(options, model.info, tasks, PACKAGES)
    with enter(options.out, header, options.fresh, check_same_suite, OUTCOME_FILES) as (run, log), _scratch(options.out) as scratch:
        started = time.monotonic()
        try:
            with _Work(scratch, options, tasks, run["model"]["name"]) as work:
                work.run("prepare")
                asked = _ask(model, work, log, options, progress)
                work.run("score")
        finally:
            run |= {"seconds": run["seconds"] + time.monotonic() - started, **work_done(model, log, options.server)}
            save_run_header(options.out, run)
        results, items, errors = _collect(work, asked)
        work.keep_files()
        save_suite_outcome(options.out, items, results, errors)
        save_run_header(options.out, run | {"ended": datetime.now(UTC).isoformat(timespec="seconds")})
    return results


def unable(model: Model) -> str:
    """Why the model cannot run the suite, or ""."""
    if not model.generates:
        return f"model {model.info.name!r} cannot generate, which every task of suite vqa needs; choose another model"
    if not model.info.accepts_images:
        told = model.info.details.get("images")  # of a server, how it was found out
        return f"model {model.info.name!r} takes no images{f' ({told})' if told else ''}; add --blind to ask it the words alone"
    return ""


# ---------------------------------------------------------------- which data sets


def chosen_tasks(options: SuiteOptions) -> tuple[str, ...]:
    """The data sets asked for, presets expanded.

    Raises:
        UserError: VLMEvalKit is not installed, no task is named, one is unknown, or the limit is below 1.
    """
    tasks = expand(options.tasks, PRESETS)
    if not tasks:
        raise UserError(f"--tasks names no data set; give names, or the preset {', '.join(PRESETS)}")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit} leaves nothing to evaluate; give 1 item or more")
    known = known_tasks(options.data_root)
    for task in tasks:
        if task not in known:
            raise unknown_task(task, (*known, *PRESETS), "among VLMEvalKit's image data sets, or the tables in --data-root")
    return tasks


def known_tasks(data_root: Path | None = None) -> set[str]:
    """Names of data sets that VLMEvalKit has an address for, of tables in `data_root`, and `easyvqa`; nothing is imported for it.

    Raises:
        UserError: VLMEvalKit is not installed, or `data_root` is not there.
    """
    root = installed()
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data-root {str(data_root)!r} is not a folder; give the folder that has the tables")
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in (root / "dataset").rglob("*.py"))
    names = {name for text in texts for name in ADDRESSED.findall(text)}
    tables = [path.stem for folder in (data_root, data_root / "LMUData") for path in folder.glob("*.tsv")] if data_root else []
    return names | set(tables) | {EASYVQA}


# ---------------------------------------------------------------- VLMEvalKit's process


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder on the disk of the run folder, gone afterwards; one that a killed process left is removed by `runs.session.enter`."""
    folder = out.resolve() / f".vlmeval.{os.getpid()}.partial"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Work:
    """VLMEvalKit's process and the files that it exchanges with this one (see worker.py)."""

    def __init__(self, scratch: Path, options: SuiteOptions, tasks: Sequence[str], model: str) -> None:
        self.scratch, self.out, self.tasks = scratch, options.out, tasks
        spec = {
            "tasks": list(tasks),
            "data_root": str(options.data_root.resolve()) if options.data_root else None,
            "limit": options.limit,
            "model": re.sub(r"[^A-Za-z0-9_-]+", "-", model).strip("-") or "model",
            "judge": options.judge,
        }
        (scratch / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        (scratch / "lmu").mkdir()
        self.process = self._start()

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        package_root = str(Path(__file__).resolve().parents[2])
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET} | {
            "PYTHONPATH": os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH")))),
            DATA_FOLDER: str(self.scratch / "lmu"),
            USERS_DATA: os.environ.get(DATA_FOLDER, ""),
            "PRED_FORMAT": "tsv",
            "EVAL_FORMAT": "json",
        }
        with (self.out / "vlmeval.log").open("ab") as log:
            command = [sys.executable, "-m", "evaluators.vqa.worker"]
            return subprocess.Popen(command, cwd=self.scratch, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def run(self, stage: str) -> None:
        """Let the process do a stage.

        Raises:
            UserError: what the process says, or how it ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: said below
            self.process.stdin.write(f"{stage}\n".encode())
            self.process.stdin.flush()
        if self.process.stdout.readline() == b"done\n":
            return
        code = self.process.wait()
        error = self.scratch / "error.json"
        if error.is_file():
            raise UserError(json.loads(error.read_text(encoding="utf-8")))
        last = (self.out / "vlmeval.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise UserError(f"VLMEvalKit stopped ({''.join(last) or f'exit code {code}'}); see {str(self.out / 'vlmeval.log')!r}")

    def prompts(self, task: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Facts of a data set, and its messages."""
        facts, *lines = _read_lines(self.scratch / "prompts" / f"{task}.jsonl")
        return facts, lines

    def save_replies(self, task: str, replies: Sequence[str]) -> None:
        folder = self.scratch / "replies"
        folder.mkdir(exist_ok=True)
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies), encoding="utf-8")

    def scores(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.scratch / "scores" / f"{task}.json").read_text(encoding="utf-8"))
        return found

    def keep_files(self) -> None:
        """Move VLMEvalKit's result files into the run folder."""
        for path in (self.scratch / "work").rglob("*.pkl"):
            path.unlink()
        target = self.out / "vlmeval"
        if target.exists():
            shutil.rmtree(target)
        os.replace(self.scratch / "work", target)


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


# ---------------------------------------------------------------- asking


def _ask(model: Model, work: _Work, log: ResponseLog, options: SuiteOptions, progress: bool) -> dict[str, list[Asked]]:
    """Answer all messages of all data sets, one data set's images in memory at a time."""
    limits = BatchLimits.for_model(model.info, options.batch_size)
    asked = {}
    with bar(f"{model.info.name}: answering", sum(len(work.prompts(task)[1]) for task in work.tasks), progress) as advance:
        for task in work.tasks:
            asked[task] = _ask_task(model, work, task, log, limits, options, advance)
    return asked


def _ask_task(
    model: Model,
    work: _Work,
    task: str,
    log: ResponseLog,
    limits: BatchLimits,
    options: SuiteOptions,
    advance: Callable[[int], None],
) -> list[Asked]:
    lines = work.prompts(task)[1]
    images: dict[bytes, Image] = {}  # circular copies and shared images are files of their own: one object each

    def read(path: str) -> Image:
        data = (work.scratch / path).read_bytes()
        return images.setdefault(data, Image(data))

    ask = partial(generate_request, max_new_tokens=options.max_new_tokens or MAX_NEW_TOKENS, system_prompt=options.system_prompt, read=read)
    answers = answer(model, [ask(line["message"]) for line in lines], log, limits, advance).answers
    said = [one if isinstance(one, Failure) else _text(one) for one in answers]
    work.save_replies(task, [FAILED if isinstance(one, Failure) else one for one in said])
    return [Asked(line["part"], line["index"], line["unit"], line["cluster"], one) for line, one in zip(lines, said, strict=True)]


def _text(response: Any) -> str:
    assert isinstance(response, GenerateResult)
    return response.text


# ---------------------------------------------------------------- what comes out


def _collect(work: _Work, asked: Mapping[str, Sequence[Asked]]) -> tuple[SuiteResults, list[TaskItem], list[dict[str, Any]]]:
    results: list[TaskResult] = []
    items: list[TaskItem] = []
    errors: list[dict[str, Any]] = []
    for task in work.tasks:
        result, made = task_result(task, work.prompts(task)[0], asked[task], work.scores(task))
        results.append(result)
        items += made
        for one in asked[task]:
            if isinstance(one.said, Failure):
                errors.append({"task": task, "item": one.index, **dataclasses.asdict(one.said)})
    outcomes: dict[str, int] = {outcome: sum(result.outcomes[outcome] for result in results) for outcome in OUTCOMES}
    complete = not any(error["kind"] == "machine" for error in errors) and all(result.state != "failed" for result in results)
    return SuiteResults(suite="vqa", complete=complete, outcomes=outcomes, tasks=tuple(results)), items, errors
