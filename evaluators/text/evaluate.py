"""The text-only suite: lm-eval's `simple_evaluate` over one of our models, into a run folder.

lm-eval's own files are kept as it writes them, in `lm_eval/`; `results.json` holds each task's figures with intervals. A document whose
requests failed counts as wrong, whatever lm-eval makes of the missing answer, and is listed in `errors.jsonl`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.runs.advice import advice
from evaluators.runs.header import describe_suite, git_commit
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun, counted_time, enter, limits_of, record
from evaluators.text.model import EngineLM
from evaluators.text.results import Circumstances, errors_of, items_of, suite_results
from evaluators.text.tasks import TaskOptions, Tasks, load_tasks
from iit_bench.engine.bulk import BATCHES
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.usage import work_done
from iit_bench.errors import UserError, one_line
from iit_bench.models.contract import Model, as_text_model
from iit_bench.models.load import load_model
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.litter import remove_whole
from iit_bench.storage.runs import save_finished_header, save_run_outcome
from iit_bench.tools.lm_eval.process import evaluating
from iit_bench.types import SuiteResults

LM_EVAL_FILES = "lm_eval"  # folder inside the run folder
# Draws of lm-eval's bootstrap; its own 100,000 run for minutes, and intervals of F1, correlations and perplexities are in closed form here.
BOOTSTRAP_DRAWS = 1000
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")  # settings that only sampled replies use
OUTCOME_FILES = ("results.json", "items.parquet", "errors.jsonl", BATCHES, LM_EVAL_FILES)


def evaluate_text(options: RunOptions, progress: bool = True) -> SuiteResults:
    """Run or resume the text suite that `options` describe; the run folder is complete when this returns.

    Raises:
        UserError: unknown tasks, data that are missing, an unusable model or folder. Earlier answers stay in the folder.
        KeyboardInterrupt: likewise; the same call resumes the run.
    """
    options.check_suite("text")
    if options.blind:
        raise UserError("--blind removes images, and the text suite has none; leave it out")
    gen_kwargs_of(options)
    check_writable(options.out)
    options = as_begun(options)
    with tempfile.TemporaryDirectory(prefix="iit-bench-text-") as scratch:
        tasks = load_tasks_of(options, Path(scratch))  # a wrong name is reported before a model is loaded
        return evaluate_text_model(load_model(options.model, options.model_options, progress=progress), tasks, options, progress)


def load_tasks_of(options: RunOptions, scratch: Path) -> Tasks:
    """The tasks that `options` name, with their data; `scratch` must outlive them."""
    task_options = TaskOptions(
        data_root=options.data_root,
        include_path=options.include_path,
        num_fewshot=options.num_fewshot,
        unsafe_code=options.confirm_run_unsafe_code,
    )
    return load_tasks(options.tasks or (), task_options, scratch)


def evaluate_text_model(model: Model, tasks: Tasks, options: RunOptions, progress: bool = True) -> SuiteResults:
    """`evaluate_text` with a model and tasks that are loaded already."""
    if why := unable(model, tasks):
        raise UserError(why)
    described = describe_suite(options, model.info, sorted(tasks.loaded["tasks"]), ("lm-eval", "datasets"))
    limits = limits_of(options, model)
    described |= {
        "engine": limits.record(),
        "data_sha256": tasks.data_sha256,
        "gen_kwargs": effective_gen_kwargs(options),
    }
    with enter(options.out, described, fresh=options.fresh, outcome_files=OUTCOME_FILES) as (run, log):
        started = time.monotonic()
        limits = BatchLimits.of_record(run["engine"], model)
        lm = EngineLM(model, log, limits, progress, request_types=_request_types(tasks))
        try:
            evaluated = _simple_evaluate(lm, tasks, options, progress)
        finally:
            run |= {**counted_time(run, started), **work_done(model, log, options.server)}
            record(options.out, run, log)
        items = items_of(evaluated, lm.failed)
        errors = errors_of(lm.failed)
        circumstances = Circumstances(
            complete=not any(one.failure.kind == "machine" for one in lm.failed),
            failed=Counter(error["task"] for error in errors),
            cut=lm.cut,
            left_out=tasks.left_out,
            data_sha256=tasks.data_sha256,
            revisions=tasks.revisions,
        )
        results = suite_results(evaluated, items, circumstances)
        results = replace(results, advice=advice(results.outcomes, run, reasoned=False))
        _save_lm_eval(options.out / LM_EVAL_FILES, evaluated, lm, options)
        save_run_outcome(options.out, items, results, errors)
        save_finished_header(options.out, run, LM_EVAL_FILES)
    return results


def _request_types(tasks: Tasks) -> frozenset[str]:
    """The kinds of requests that lm-eval will make: it asks for all of one kind at once, then for the next."""
    kinds = {task.OUTPUT_TYPE for task in tasks.loaded["tasks"].values()}
    return frozenset("loglikelihood" if kind == "multiple_choice" else kind for kind in kinds)


def unable(model: Model, tasks: Tasks) -> str:
    """Why the model cannot run the tasks, or "". Known before the first request, which may cost money."""
    try:
        as_text_model(model)
    except UserError as error:
        return str(error)
    scored = sorted(name for name, task in tasks.loaded["tasks"].items() if task.OUTPUT_TYPE != "generate_until")
    if not scored or model.capabilities.scores:
        return ""
    which = f"task {scored[0]!r} needs" if len(scored) == 1 else f"task {scored[0]!r} and {len(scored) - 1} more need"
    why = model.capabilities.why_not["scores"]
    return f"model {model.info.name!r} cannot score replies, which {which}: {why}; or choose tasks that generate"


def _simple_evaluate(lm: EngineLM, tasks: Tasks, options: RunOptions, progress: bool) -> dict[str, Any]:
    """lm-eval's EvalResults, samples included."""
    from lm_eval import simple_evaluate

    settings = gen_kwargs_of(options)
    with evaluating(git_commit, unsafe_code=options.confirm_run_unsafe_code, progress=progress):
        try:
            evaluated = simple_evaluate(
                model=lm,
                tasks=list(tasks.loaded["tasks"]),
                task_manager=tasks.manager,
                num_fewshot=options.num_fewshot,
                limit=options.limit,
                gen_kwargs=settings,
                apply_chat_template=options.apply_chat_template,
                fewshot_as_multiturn=options.apply_chat_template and options.fewshot_as_multiturn,
                system_instruction=options.system_prompt or None,
                confirm_run_unsafe_code=options.confirm_run_unsafe_code,
                bootstrap_iters=BOOTSTRAP_DRAWS,
                log_samples=True,
            )
        except ValueError as error:  # a task with images, say
            if lm.at_work:
                raise
            raise UserError(f"lm-eval cannot run these tasks: {one_line(error)}") from error
    assert evaluated is not None  # only other ranks of a distributed run get nothing
    return dict(evaluated)


def gen_kwargs_of(options: RunOptions) -> dict[str, Any] | None:
    """The generation settings for lm-eval; None for none.

    Raises:
        UserError: as `effective_gen_kwargs`, or a value that lm-eval cannot read.
    """
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import simple_parse_args_string

    given: dict[str, Any] = simple_parse_args_string(effective_gen_kwargs(options)) or {}
    for name, value in given.items():
        try:
            normalize_gen_kwargs({name: value})
        except (ValueError, TypeError) as error:
            raise UserError(f"--gen-kwargs {name}={value} cannot be used: {one_line(error)}; give {name} another value") from error
    if options.max_new_tokens is not None:
        given["max_gen_toks"] = options.max_new_tokens
    return given or None


def effective_gen_kwargs(options: RunOptions) -> str:
    """`--gen-kwargs` as it is done and recorded: a temperature above 0, or another setting of sampling, implies `do_sample=true`.

    lm-eval itself stays greedy with a temperature by itself, since tasks set `do_sample` to false.

    Raises:
        UserError: not of the form NAME=VALUE,NAME=VALUE, a name twice, or settings of sampling beside `do_sample=false`.
    """
    text = options.gen_kwargs
    if not text:
        return ""
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not name.strip() or not value.strip() for name, _, value in pairs):
        raise UserError(f"--gen-kwargs {text!r} is not of the form NAME=VALUE,NAME=VALUE; use that form")
    given = {name.strip(): value.strip() for name, _, value in pairs}
    if len(given) < len(pairs):
        raise UserError(f"--gen-kwargs {text!r} gives a name twice; give each once")
    implied = [name for name in SAMPLING if name in given and not (name == "temperature" and _is_zero(given[name]))]
    if not implied or given.get("do_sample", "").casefold() == "true":
        return text
    if "do_sample" in given:
        raise UserError(f"--gen-kwargs {text!r} asks for {implied[0]} and for greedy replies, which do not use it; leave out one of them")
    return f"{text},do_sample=true"


def _is_zero(number: str) -> bool:
    try:
        return float(number) == 0
    except ValueError:
        return False


def _save_lm_eval(folder: Path, evaluated: Mapping[str, Any], lm: EngineLM, options: RunOptions) -> None:
    """Write lm-eval's results and samples through its own tracker, in place of those of an earlier session of this run."""
    import copy

    from lm_eval.loggers import EvaluationTracker

    remove_whole(folder)
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args(
        model_source="iit-bench",
        model_args={"pretrained": lm.tokenizer_name},
        system_instruction=options.system_prompt,
        chat_template=lm.chat_template(options.apply_chat_template) or "",
        fewshot_as_multiturn=options.apply_chat_template and options.fewshot_as_multiturn,
    )
    samples: Mapping[str, Sequence[Any]] = evaluated["samples"]
    with evaluating(git_commit):
        tracker.save_results_aggregated({key: value for key, value in evaluated.items() if key != "samples"}, dict(samples))
        for task, lines in samples.items():
            tracker.save_results_samples(task, copy.deepcopy(lines))  # type: ignore[arg-type]
    if not _is_whole(folder, samples):  # lm-eval only warns, and leaves what it had written by then
        check_writable(folder)  # says why, where that is still so
        raise UserError(f"lm-eval could not write its files whole into {str(folder)!r}; free some space, and repeat the command to resume")


def _is_whole(folder: Path, samples: Mapping[str, Sequence[Any]]) -> bool:
    """Whether lm-eval's results are there to their end, and a line for each sample of every task."""
    try:
        (results,) = folder.rglob("results_*.json")
        json.loads(results.read_bytes())
        for task, lines in samples.items():
            file = results.with_name(f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl")
            with file.open("rb") as opened:
                if sum(line.endswith(b"\n") for line in opened) != len(lines):
                    return False
    except (OSError, ValueError):  # none, or no whole one
        return False
    return True
