"""`--suite vqa`: VLMEvalKit's image data sets, answered by any of our models and scored by VLMEvalKit.

VLMEvalKit runs in a process of its own (see worker.py), so nothing that it does to a process affects the caller's. The model stays
in this process: the engine asks it in batches and keeps its replies in the response log, from which a killed run resumes.

The run folder holds run.json, responses.jsonl, items.parquet, errors.jsonl and results.json (`types.SuiteResults`), and VLMEvalKit's own
result files in vlmeval/TASK/PART/, unchanged, without its pickles: this project reads none. What it prints is in vlmeval.log.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from evaluators.runs.advice import advice
from evaluators.runs.header import describe_suite
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun, counted_time, enter, limits_of, record
from evaluators.runs.task_names import expand, unknown_task
from evaluators.vqa.messages import MAX_NEW_TOKENS, ends_in_reasoning, generate_request
from evaluators.vqa.presets import PRESETS, known_tasks
from evaluators.vqa.process import LOG, RESULT_FILES, VlmevalProcess, keep_result_files, scratch
from evaluators.vqa.protocol import Exchange, Prompt, Spec
from evaluators.vqa.scores import Answered, facts_of, task_result
from iit_bench.engine.bulk import BATCHES
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Failure, answer
from iit_bench.engine.usage import work_done
from iit_bench.errors import OthersAtWork, UserError
from iit_bench.models.contract import GenerateResult, Model, check_images_known
from iit_bench.models.load import load_model
from iit_bench.models.modality import text_only
from iit_bench.models.reasoning import reasoning_budget
from iit_bench.progress import bar
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.runs import save_finished_header, save_run_outcome
from iit_bench.tools.vlmevalkit import FAILED
from iit_bench.types import OUTCOMES, Image, SuiteResults, TaskItem, TaskResult

OUTCOME_FILES = ("results.json", "items.parquet", "errors.jsonl", BATCHES, RESULT_FILES, LOG)
PACKAGES = ("ms-vlmeval", "pandas")
UNASKABLE = "VLMEvalKit cannot make a prompt of the row"  # reason in errors.jsonl


def evaluate_vqa(options: RunOptions, progress: bool = True) -> SuiteResults:
    """Start or resume the evaluation that `options` describe; the run folder is complete when this returns.

    Raises:
        UserError: bad options, an unknown task, an unusable table, model or folder. Earlier replies stay in the folder.
        KeyboardInterrupt: likewise; the same call resumes.
    """
    options.check_suite("vqa")
    chosen_tasks(options)
    if not options.blind and (why := text_only(options.model, options.model_options)):
        raise UserError(_takes_no_images(options.model, why))
    check_writable(options.out)
    options = as_begun(options)
    return evaluate_vqa_model(load_model(options.model, options.model_options, blind=options.blind, progress=progress), options, progress)


def evaluate_vqa_model(model: Model, options: RunOptions, progress: bool = True) -> SuiteResults:
    """`evaluate_vqa` with a loaded model.

    Raises:
        UserError: as `evaluate_vqa`; the model cannot generate or takes no images.
    """
    tasks = chosen_tasks(options)
    if why := unable(model):
        raise UserError(why)
    budget = reasoning_budget(model, options.reasoning_tokens)
    limits = limits_of(options, model)
    header = describe_suite(options, model.info, tasks, PACKAGES, reasoning_tokens=budget) | {"engine": limits.record()}
    with enter(options.out, header, fresh=options.fresh, outcome_files=OUTCOME_FILES) as (run, log), scratch(options.out) as files:
        started = time.monotonic()
        try:
            with VlmevalProcess(files, _spec(options, tasks, run["model"]["name"]), options.out / LOG) as process:
                process.run("prepare")
                limits = BatchLimits.of_record(run["engine"], model)
                answered = _ask(model, files, tasks, log, limits=limits, options=options, progress=progress)
                log.finish()
                process.run("score")
        finally:
            run |= {**counted_time(run, started), **work_done(model, log, options.server)}
            record(options.out, run, log)
        results, items, errors = _collect(files, answered)
        results = dataclasses.replace(results, advice=advice(results.outcomes, run, reasoned=model.capabilities.reasons))
        facts = {task: facts_of(files.load_prompts(task)[0], its, files.load_scores(task)) for task, its in answered.items()}
        keep_result_files(files, facts, options.out)
        save_run_outcome(options.out, items, results, errors)
        save_finished_header(options.out, run, RESULT_FILES)
    return results


def unable(model: Model) -> str:
    """Why the model cannot run the suite, or "".

    Raises:
        UserError: whether it can is not known.
    """
    if not model.capabilities.generates:
        return f"model {model.info.name!r} cannot generate, which every task of suite vqa needs; choose another model"
    check_images_known(model)
    if not model.capabilities.takes_images:
        return _takes_no_images(model.info.name, model.capabilities.why_not["takes_images"])
    return ""


def _takes_no_images(model: str, why: str) -> str:
    return f"model {model!r} takes no images ({why}); add --blind to give it the text only"


# ---------------------------------------------------------------- which data sets


def chosen_tasks(options: RunOptions) -> tuple[str, ...]:
    """Names of the data sets in `--tasks`, presets expanded.

    Raises:
        UserError: VLMEvalKit is not installed, no task is named, or one is unknown.
    """
    tasks = expand(options.tasks or (), PRESETS)
    if not tasks:
        raise UserError(f"--tasks names no data set; give names, or the preset {', '.join(PRESETS)}")
    known = known_tasks(options.data_root)
    for task in tasks:
        if task not in known:
            raise unknown_task(task, (*known, *PRESETS), "among VLMEvalKit's image data sets, or the tables in --data-root")
    return tasks


# ---------------------------------------------------------------- asking


def _ask(
    model: Model, files: Exchange, tasks: Sequence[str], log: ResponseLog, *, limits: BatchLimits, options: RunOptions, progress: bool
) -> dict[str, list[Answered]]:
    """Have the model answer all messages, with the images of one data set in memory at a time.

    Raises:
        OthersAtWork: other processes have the rest of the messages in hand.
    """
    answered, elsewhere = {}, None
    with bar(f"{model.info.name}: answering", sum(len(files.load_prompts(task)[1]) for task in tasks), progress) as advance:
        for task in tasks:
            try:
                answered[task] = _ask_task(model, files, task, log, limits=limits, options=options, advance=advance)
            except OthersAtWork as error:
                elsewhere = error
    if elsewhere:
        raise elsewhere
    return answered


def _ask_task(
    model: Model,
    files: Exchange,
    task: str,
    log: ResponseLog,
    *,
    limits: BatchLimits,
    options: RunOptions,
    advance: Callable[[int], None],
) -> list[Answered]:
    prompts = files.load_prompts(task)[1]
    images: dict[bytes, Image] = {}  # circular copies of a question have files of their own: equal ones become one object

    def read(path: str) -> Image:
        data = (files.folder / path).read_bytes()
        return images.setdefault(data, Image(data))

    ask = partial(
        generate_request,
        max_new_tokens=options.max_new_tokens or MAX_NEW_TOKENS,
        reasoning_tokens=reasoning_budget(model, options.reasoning_tokens),
        system_prompt=options.system_prompt,
        read=read,
    )
    answers = iter(answer(model, [ask(prompt.message) for prompt in prompts if not prompt.failure], log, limits, advance).answers)
    answered = [_answered(prompt, Failure("item", UNASKABLE, prompt.failure) if prompt.failure else next(answers)) for prompt in prompts]
    files.save_replies(task, [FAILED if isinstance(one.reply, Failure) else one.reply for one in answered])
    return answered


def _spec(options: RunOptions, tasks: Sequence[str], model: str) -> Spec:
    return Spec(
        tasks=tasks,
        data_root=str(options.data_root.resolve()) if options.data_root else None,
        limit=options.limit,
        model=re.sub(r"[^A-Za-z0-9_-]+", "-", model).strip("-") or "model",
        judge=options.judge,
    )


def _answered(prompt: Prompt, response: Any) -> Answered:
    """A message with the model's words, reasoning before them in <think> marks, which VLMEvalKit's own switch splits off again."""
    own: dict[str, Any] = {"part": prompt.part, "index": prompt.index, "unit": prompt.unit, "cluster": prompt.cluster}
    if isinstance(response, Failure):
        return Answered(**own, reply=response)
    assert isinstance(response, GenerateResult)
    reply = response.as_written
    unfinished = response.unfinished_reasoning or ends_in_reasoning(reply)
    return Answered(**own, reply=reply, no_answer=unfinished, at_limit=response.finish_reason == "length")


# ---------------------------------------------------------------- results


def _collect(files: Exchange, answered: Mapping[str, Sequence[Answered]]) -> tuple[SuiteResults, list[TaskItem], list[dict[str, Any]]]:
    results: list[TaskResult] = []
    items: list[TaskItem] = []
    errors: list[dict[str, Any]] = []
    for task, its in answered.items():
        result, made = task_result(task, files.load_prompts(task)[0], its, files.load_scores(task))
        results.append(result)
        items += made
        for one in its:
            if isinstance(one.reply, Failure):
                errors.append({"task": task, "item": one.index, **dataclasses.asdict(one.reply)})
    outcomes: dict[str, int] = {outcome: sum(result.outcomes[outcome] for result in results) for outcome in OUTCOMES}
    complete = not any(error["kind"] == "machine" for error in errors) and all(result.state != "failed" for result in results)
    return SuiteResults(suite="vqa", complete=complete, outcomes=outcomes, tasks=tuple(results)), items, errors
