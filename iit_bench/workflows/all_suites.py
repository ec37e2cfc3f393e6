"""`--suite all`: one model, loaded once, through IIT, the text-only tasks and the VQA data sets, and one report of it.

OUT/iit, OUT/text and OUT/vqa are run folders like any other; OUT/report/index.html shows them together. A suite that fails does not affect
the others. Killed at any moment, the same call resumes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluators.iit import evaluate as iit
from evaluators.iit.before_loading import check_before_loading
from evaluators.iit.chosen import choose_dialogues, style_of
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun
from evaluators.text import evaluate as text
from evaluators.text import tasks as lm_eval_tasks
from evaluators.text.tasks import Tasks
from evaluators.vqa import evaluate as vqa
from evaluators.vqa import presets
from iit_bench.engine.shares import written_once
from iit_bench.errors import OthersAtWork, UserError
from iit_bench.models.contract import Model
from iit_bench.models.load import load_model
from iit_bench.progress import whole_job
from iit_bench.ranks import this_rank
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.storage.runs import load_run, load_run_header
from iit_bench.types import SUITES, Results, Suite, SuiteResults

TASKS = ("wings-text", "wings-vqa")


@dataclass(kw_only=True)
class AllResults:
    """The outcome of each suite."""

    results: dict[Suite, Results | SuiteResults] = field(default_factory=dict)
    left_out: dict[Suite, str] = field(default_factory=dict)  # suite → why this model cannot run it, which is no failure
    failed: dict[str, BaseException] = field(default_factory=dict)  # suite or "report" → the error
    elsewhere: dict[Suite, OthersAtWork] = field(default_factory=dict)  # suite → other processes have the rest of it in hand
    page: Path | None = None

    @property
    def complete(self) -> bool:
        return not self.failed and not self.elsewhere and all(result.complete for result in self.results.values())


def evaluate_all(options: RunOptions, progress: bool = True) -> AllResults:
    """Run or resume all suites. Each suite gets the options that it has.

    Args:
        options: of suite "all". `tasks` are names of both suites text and vqa, by default `TASKS`; `base` is a run folder of suite iit, or
            a folder that `--suite all` made.
        progress: show a progress bar.

    Raises:
        UserError: bad options, an unknown task or an unusable model, benchmark or folder; raised before anything is scored.
        KeyboardInterrupt: the same call resumes.
    """
    plan = plan_suites(options)
    out = options.out
    refuse_other_kinds(out, "no runs of several suites go")
    check_writable(out)
    options = as_begun(options, SUITES)
    plan = {suite: dataclasses.replace(one, date=options.date, engine=options.engine) for suite, one in plan.items()}
    outcome = AllResults()
    with tempfile.TemporaryDirectory(prefix="iit-bench-all-") as scratch:
        steps = _prepared(plan, Path(scratch))
        model = load_model(options.model, options.model_options, blind=options.blind, progress=progress)
        outcome.left_out |= {suite: why for suite, step in steps.items() if (why := step.unable(model))}
        work = {suite: step for suite, step in steps.items() if suite not in outcome.left_out}
        with whole_job({suite: step.planned for suite, step in work.items()}, progress) as job:
            for suite, step in work.items():
                with job.part(suite), _kept(suite, outcome):
                    try:
                        outcome.results[suite] = step.run(model, progress)
                    except OthersAtWork as error:
                        outcome.elsewhere[suite] = error
    for suite in list(outcome.elsewhere):  # another process may have finished it meanwhile
        if (out / suite / "results.json").is_file() and load_run_header(out / suite)["ended"]:
            outcome.results[suite] = load_run(out / suite, suite).results
            del outcome.elsewhere[suite]
    if outcome.results and not outcome.elsewhere:
        with (
            _kept("report", outcome),
            written_once(out / next(iter(outcome.results))) if this_rank().several else contextlib.nullcontext(True) as mine,
        ):
            outcome.page = _report(out, options.base) if mine else None
    return outcome


@contextlib.contextmanager
def _kept(what: str, outcome: AllResults) -> Iterator[None]:
    """Record any error under `what` instead of raising it: an error in one suite must not stop the others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - reported at the end, with an exit code
        outcome.failed[what] = error


# ---------------------------------------------------------------- the plan


def plan_suites(options: RunOptions) -> dict[Suite, RunOptions]:
    """The options of each suite that is to run, in the order of running.

    Raises:
        UserError: the options are of one suite, or there are tasks that do not go with --blind.
    """
    options.check_suite("all")
    default = TASKS[1:] if options.blind else TASKS
    tasks = sort_tasks(options.tasks if options.tasks is not None else default, options.data_root)
    if options.blind and tasks["text"]:
        raise UserError(f"--blind removes images, and text tasks have none; leave out {', '.join(tasks['text'])}, or --blind")
    named = dataclasses.replace(options, name=options.name or options.out.resolve().name)
    plan: dict[Suite, RunOptions] = {"iit": named.for_suite("iit", out=options.out / "iit", base=_iit_base(options.base))}
    for suite, chosen in tasks.items():
        if chosen:
            plan[suite] = named.for_suite(suite, out=options.out / suite, tasks=chosen)
    return plan


def _iit_base(base: Path | None) -> Path | None:
    return base / "iit" if base is not None and (base / "iit" / "run.json").is_file() else base


def sort_tasks(names: Sequence[str], data_root: Path | None = None) -> dict[Suite, tuple[str, ...]]:
    """Task names by suite: VLMEvalKit's data sets, and tables in `data_root`, are of suite vqa; every other name is lm-eval's.

    Raises:
        UserError: a name that is VLMEvalKit's but for its capitals, or none at all.
    """
    known = {*presets.PRESETS, *_vqa_tasks(data_root)}
    folded = {name.casefold(): name for name in known}
    ours = set(lm_eval_tasks.known_tasks())
    by_suite: dict[Suite, tuple[str, ...]] = {"text": (), "vqa": ()}
    for name in names:
        if name not in known and name not in ours and name != name.casefold() and name.casefold() in folded:
            raise UserError(f"there is no task {name!r}; did you mean {folded[name.casefold()]!r}?")
        by_suite["vqa" if name in known and name not in ours else "text"] += (name,)
    if not names:
        raise UserError(f"--tasks names no task; give names, or leave it out for {' and '.join(TASKS)}")
    return by_suite


def _vqa_tasks(data_root: Path | None) -> set[str]:
    try:
        return presets.known_tasks(data_root)
    except UserError:
        if data_root is not None:
            raise
        return set()  # VLMEvalKit is not installed: reported when one of its data sets is chosen


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One suite, ready to run."""

    planned: int  # items, for the progress bar of the whole job
    run: Callable[[Model, bool], Results | SuiteResults]
    unable: Callable[[Model], str] = lambda model: ""  # why this model cannot run the suite, which is no failure; "" if it can


def _prepared(plan: Mapping[Suite, RunOptions], scratch: Path) -> dict[Suite, _Step]:
    """The steps of a plan. What can be refused before a model is loaded is refused here."""
    steps: dict[Suite, _Step] = {"iit": _iit_step(plan["iit"])}
    if "text" in plan:
        steps["text"] = _text_step(plan["text"], text.load_tasks_of(plan["text"], scratch))
    if "vqa" in plan:
        steps["vqa"] = _vqa_step(plan["vqa"])
    return {suite: steps[suite] for suite in SUITES if suite in steps}


def _iit_step(options: RunOptions) -> _Step:
    assert options.bench is not None  # RunOptions refuses suite iit without one
    benchmark = load_benchmark(options.bench)
    style = style_of(options, benchmark)
    planned = len(choose_dialogues(benchmark, options.tiers, options.limit, accepts_images=True, style=style).dialogues)
    check_before_loading(options, benchmark)

    def run(model: Model, progress: bool) -> Results:
        model.prepare(benchmark)
        return iit.evaluate_model(model, benchmark, options, progress)

    return _Step(planned=planned, run=run)


def _text_step(options: RunOptions, tasks: Tasks) -> _Step:
    text.gen_kwargs_of(options)  # bad settings are refused before the other suites have run
    sizes = [len(task.eval_docs) for task in tasks.loaded["tasks"].values()]
    planned = sum(size if options.limit is None else min(size, options.limit) for size in sizes)
    return _Step(
        planned=planned,
        run=lambda model, progress: text.evaluate_text_model(model, tasks, options, progress),
        unable=lambda model: text.unable(model, tasks),
    )


def _vqa_step(options: RunOptions) -> _Step:
    """The sizes of data sets that are not limited are known only when VLMEvalKit has read them: 1,000 is typical."""
    planned = len(vqa.chosen_tasks(options)) * (options.limit or 1000)
    return _Step(planned=planned, run=lambda model, progress: vqa.evaluate_vqa_model(model, options, progress), unable=vqa.unable)


def _report(out: Path, base: Path | None) -> Path:
    """Write the page of the finished runs, with those of the base if `--suite all` made it."""
    from reports.leaderboard import report

    folders = [out, *([base] if base is not None and base.resolve() != out.resolve() else [])]
    runs = [path for folder in folders for path in ([folder] if (folder / "run.json").is_file() else [folder / suite for suite in SUITES])]
    text_base = base / "text" if base is not None and (base / "text" / "results.json").is_file() else None
    return report([path for path in runs if (path / "results.json").is_file()], out / "report", base=text_base)
