"""Score one model on one benchmark folder into one run folder (docs/spec/iit.md#asking, #scoring, #figures).

Killed at any moment, the same call resumes: answers are in the response log, and batches are planned as before.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from itertools import compress
from typing import Any, Literal

from evaluators.arms.names import FOLDER as ARMS_FOLDER
from evaluators.arms.names import check_askable, parse_arms
from evaluators.iit.before_loading import check_before_loading, comparable_base, refuse_reasoning
from evaluators.iit.chosen import choose_dialogues, style_of
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import asked_apart
from evaluators.iit.deciding import ask_until_decided, groups_asked, narrowed, where_it_stops
from evaluators.iit.forgetting import forgetting
from evaluators.iit.prompts import write_prompts
from evaluators.iit.results import summarise
from evaluators.iit.turns import Asking, Course, Rendering, error_line, prediction, rounds
from evaluators.runs.advice import advice
from evaluators.runs.header import describe_run
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun, counted_time, enter, limits_of, record
from iit_bench.engine.bulk import BATCHES
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Failure, answer
from iit_bench.engine.usage import work_done
from iit_bench.errors import UserError
from iit_bench.models.contract import Model, check_images_known
from iit_bench.models.load import load_model
from iit_bench.models.reasoning import reasoning_budget
from iit_bench.progress import notice
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import EARLIER_TURN, PROMPTS, folder_label, save_finished_header, save_run_outcome
from iit_bench.types import Prediction, Results, Scoring

OUTCOME_FILES = ("results.json", "predictions.parquet", "errors.jsonl", PROMPTS, BATCHES, ARMS_FOLDER)


class Shared:
    """What several evaluations of one benchmark share: the benchmark, loaded and checked once, and its chats."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.rendering = Rendering(benchmark.questions)


def evaluate(options: RunOptions, progress: bool = True, shared: Shared | None = None) -> Results:
    """Run or resume the evaluation that `options` describe; the run folder is complete when this returns.

    Several evaluations of one benchmark may share what does not depend on the model: give each the same `Shared`.

    Raises:
        UserError: bad options, an unusable benchmark, model or folder. Earlier answers stay in the folder.
        KeyboardInterrupt: likewise; the same call resumes.
    """
    options.check_suite("iit")
    assert options.bench is not None  # RunOptions refuses suite iit without one
    shared = shared or Shared(load_benchmark(options.bench))
    check_before_loading(options, shared.benchmark)
    check_writable(options.out)
    options = as_begun(options)
    model = load_model(options.model, options.model_options, blind=options.blind, progress=progress)
    _refuse_unused(options, model, shared.benchmark)
    model.prepare(shared.benchmark)
    results = evaluate_model(model, shared.benchmark, options, progress, shared.rendering)
    if options.arms and results.complete:
        from evaluators.arms.evaluate import ask_arms

        ask_arms(model, shared.benchmark, options, parse_arms(options.arms), named="all" not in options.arms, progress=progress)
    return results


def _refuse_unused(options: RunOptions, model: Model, benchmark: Benchmark) -> None:
    """In suite all the budget is for the other suites too, so only a run of this suite alone refuses it."""
    images = model.capabilities.takes_images and any("V" in tier for tier in benchmark.chosen_tiers(options.tiers))
    if options.reasoning_tokens and choose_scoring(model, options.scoring, images) == "loglikelihood":
        refuse_reasoning(options.reasoning_tokens)


def evaluate_model(
    model: Model, benchmark: Benchmark, options: RunOptions, progress: bool = True, rendering: Rendering | None = None
) -> Results:
    """`evaluate` with a model and a benchmark that are already loaded."""
    rendering = rendering or Rendering(benchmark.questions)
    options = narrowed(options, benchmark)
    style = style_of(options, benchmark)
    if any("V" in tier for tier in benchmark.chosen_tiers(options.tiers)):
        check_images_known(model)
    can = model.capabilities
    takes = {"accepts_images": can.takes_images, "takes_histories": can.takes_histories}
    plan = choose_dialogues(benchmark, options.tiers, options.limit, style=style, **takes)
    images = any("V" in tier for tier in plan.tiers)
    scoring = choose_scoring(model, options.scoring, images)
    assert options.max_new_tokens is not None  # RunOptions has a number in suite iit
    asking = Asking(
        scoring=scoring,
        style=style,
        history=options.history,
        system_prompt=options.system_prompt,
        max_new_tokens=options.max_new_tokens,
        reasoning_tokens=reasoning_budget(model, options.reasoning_tokens) if scoring == "generate" else 0,
    )
    if asking.style not in (styles := model.capabilities.styles):
        raise UserError(f"model {model.info.name!r} does not support style {asking.style!r}; use --style {' or '.join(styles)}")
    limits = limits_of(options, model)
    described = describe_run(
        options, model.info, benchmark=benchmark, asking=asking, tiers=plan.tiers, limits=limits, left_out=plan.left_out
    )
    if options.arms and "all" not in options.arms:  # what cannot be asked is refused before the run
        check_askable(parse_arms(options.arms), described, model.info.name, can)
    described["scoring_fallback"] = scoring_fallback(model, options.scoring, images)
    if described["scoring_fallback"] and options.tokenizer:  # which is given to have replies scored
        notice(f"replies of {model.info.name!r} are generated, since it cannot score given ones: {described['scoring_fallback']}")
    base = comparable_base(options, described)
    described |= where_it_stops(options, base)
    courses = [rendering.course(dialogue) for dialogue in plan.dialogues]
    with enter(options.out, described, fresh=options.fresh, outcome_files=OUTCOME_FILES) as (run, log):
        started = time.monotonic()
        try:
            limits = BatchLimits.of_record(run["engine"], model)
            predictions, errors, decision = ask_until_decided(
                lambda some, shown: ask(model, some, asking, rendering, log=log, limits=limits, progress=shown),
                courses,
                base,
                options,
                progress,
            )
            log.finish()
        finally:
            run |= {**counted_time(run, started), **work_done(model, log, options.server)}
            record(options.out, run, log)
        complete = not any(error["kind"] == "machine" for error in errors)
        results = summarise(predictions, plan.unavailable, complete, benchmark.tiers)
        reasoned = model.capabilities.reasons or any(one.reasoning for one in predictions)
        results = dataclasses.replace(results, advice=advice(results.outcomes, run, reasoned=reasoned, scores=can_score(model, images)))
        if decision:
            results = dataclasses.replace(results, decision=decision)
            run["groups_asked"] = groups_asked(predictions)
        if base:
            against_base = forgetting(predictions, Turns.of_run(base), base.run["name"], folder_label(base.path))
            against_base = dataclasses.replace(against_base, asked_apart=asked_apart(base.run, run))
            results = dataclasses.replace(results, forgetting=against_base)
        write_prompts(options.out, model, courses, (predictions, errors), asking, rendering)
        save_run_outcome(options.out, predictions, results, errors)
        save_finished_header(options.out, run)
    return results


# ---------------------------------------------------------------- scoring and dialogues of a run


def choose_scoring(model: Model, wanted: Scoring | Literal["auto"], images: bool) -> Scoring:
    """The scoring of a run: one for all its tiers, so that they compare. `images`: whether some of its tiers have images.

    Raises:
        UserError: the model cannot score as wanted.
    """
    can = model.capabilities
    if wanted == "auto":
        return "generate" if scoring_fallback(model, wanted, images) else "loglikelihood"
    if wanted == "generate" and not can.generates:
        raise UserError(f"model {model.info.name!r} cannot generate; use --scoring loglikelihood")
    if wanted == "loglikelihood" and not can_score(model, images):
        why = can.why_not["scores"] if not can.scores else "it scores only replies to text; leave out the tiers with images with --tiers"
        raise UserError(f"model {model.info.name!r} cannot score replies: {why}, or use --scoring generate")
    return wanted


def can_score(model: Model, images: bool) -> bool:
    """Whether the model scores given replies, to chats with images too where some of a run's tiers have `images`."""
    return model.capabilities.scores and (model.capabilities.scores_images or not images)


def scoring_fallback(model: Model, wanted: Scoring | Literal["auto"], images: bool) -> str:
    """Why scoring `auto` generates replies instead of scoring given ones; "" where it does not."""
    can = model.capabilities
    if wanted != "auto" or can_score(model, images):
        return ""
    return can.why_not["scores_images" if can.scores else "scores"]


# ---------------------------------------------------------------- asking


def ask(
    model: Model, courses: Sequence[Course], asking: Asking, rendering: Rendering, *, log: ResponseLog, limits: BatchLimits, progress: bool
) -> tuple[list[Prediction], list[dict[str, Any]]]:
    """Ask every turn that is scored. Returns predictions and error lines, in the order of `courses`, then of turns."""
    total = sum(len(course.questions) if asking.history == "own" else 1 for course in courses)
    predictions: dict[tuple[str, int], Prediction] = {}
    errors: dict[tuple[str, int], dict[str, Any]] = {}
    with _progress_bar(progress, total, model.info.name) as advance:
        for pairs in rounds(courses, asking):
            is_open = [course.failure is None for course, _ in pairs]
            open_pairs = list(compress(pairs, is_open))
            later = asking.history == "own" and any(position + 1 < len(course.questions) for course, position in pairs)
            answers = answer(model, [rendering.request(*pair, asking) for pair in open_pairs], log, limits, advance, wait=later).answers
            advance(len(pairs) - len(open_pairs))
            given = iter(answers)  # read from the log one by one
            for (course, position), asked in zip(pairs, is_open, strict=True):
                key = (course.dialogue.id, position)
                one = next(given) if asked else _after(course)
                predictions[key] = prediction(course, position, one, asking)
                course.own_replies.append(predictions[key].reply)
                if isinstance(one, Failure):
                    course.failure = course.failure or one
                    errors[key] = error_line(course, position, one)
    order = [(course.dialogue.id, position) for course in courses for position in range(len(course.questions))]
    return [predictions[key] for key in order if key in predictions], [errors[key] for key in order if key in errors]


def _after(course: Course) -> Failure:
    assert course.failure is not None
    return Failure(course.failure.kind, EARLIER_TURN, course.failure.reason)


def _progress_bar(show: bool, total: int, name: str) -> Any:
    from iit_bench.progress import bar

    return bar(f"{name}: scoring", total, show)
