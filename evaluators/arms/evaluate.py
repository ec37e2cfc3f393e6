"""Ask the targets of a finished run again, arm by arm, into run folders inside its folder (docs/spec/iit.md#arms).

Killed at any moment, the same call resumes: each arm has a response log of its own.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.arms.changes import Changed, Changes
from evaluators.arms.chats import NotAskedError
from evaluators.arms.figures import ArmFigures, arms_of
from evaluators.arms.names import ALL, FOLDER, check_any_askable, check_askable, of_tiers, parse_arms, refusals
from evaluators.arms.table import left_out_text
from evaluators.iit.prompts import write_prompts
from evaluators.iit.results import summarise
from evaluators.iit.turns import Asking, Course, Rendering, error_line, prediction
from evaluators.runs.header import describe_run, load_options, what_differs
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun, counted_time, enter, limits_of, record
from iit_bench.engine.bulk import BATCHES
from iit_bench.engine.log import Response, ResponseLog
from iit_bench.engine.plan import BatchLimits, Request
from iit_bench.engine.run import Failure, answer
from iit_bench.engine.usage import work_done
from iit_bench.errors import OthersAtWork, UserError
from iit_bench.models.contract import Capabilities, Model, check_images_known
from iit_bench.models.load import load_model
from iit_bench.progress import bar, notice
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.folder_locks import refuse_if_held
from iit_bench.storage.runs import PROMPTS, IitRun, load_run, save_finished_header, save_run_outcome
from iit_bench.types import Prediction

OUTCOME_FILES = ("results.json", "predictions.parquet", "errors.jsonl", PROMPTS, BATCHES)


def arms(
    run: Path | str,
    names: Sequence[str] | None = None,
    *,
    bench: Path | None = None,
    limit: int | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> tuple[ArmFigures, ...]:
    """Ask arms of a finished run, with its own options and model, into RUN/arms/NAME, and return the figures of all its arms.

    Args:
        run: folder of a finished run of suite iit.
        names: of arms; None for all that the run can be asked.
        bench: the benchmark folder, where it is no longer where the run found it.
        limit: the first N whole groups of the run.
        fresh: start over, instead of resuming from what the folders of the arms hold.
        progress: show progress bars.

    Raises:
        UserError: the folder is no finished run or itself an arm, the model or the benchmark is another by now, an arm that is named
            cannot be asked, or another process is working in one of its folders.
        KeyboardInterrupt: the same call resumes.
    """
    found = _finished(Path(run))
    options = load_options(found.path, out=found.path)
    wanted, named = parse_arms(names), names is not None and ALL not in names
    _check_limit(limit)
    _askable(wanted, found, options.model, None, named=named)
    if (folder := bench or options.bench) is None or not folder.is_dir():
        raise UserError(f"the benchmark {str(folder)!r} of run {str(found.path)!r} is not there; name it with --bench DIR")
    benchmark = load_benchmark(folder)
    if benchmark.rows_sha256 != found.run["benchmark"]["rows_sha256"]:
        raise UserError(f"benchmark {str(folder)!r} is not the one that run {str(found.path)!r} was asked; name that with --bench DIR")
    check_writable(found.path / FOLDER / wanted[0])
    for one in (found.path, *(found.path / FOLDER / name for name in wanted)):
        refuse_if_held(one, fix="end it")
    options = as_begun(dataclasses.replace(options, bench=folder))
    model = load_model(options.model, options.model_options, blind=options.blind, progress=progress)
    model.prepare(benchmark)
    ask_arms(model, benchmark, options, wanted, named=named, limit=limit, fresh=fresh, progress=progress)
    return arms_of(found)


def ask_arms(
    model: Model,
    benchmark: Benchmark,
    options: RunOptions,
    names: Sequence[str],
    *,
    named: bool = True,
    limit: int | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> None:
    """`arms` with a model and a benchmark that are already loaded; `options` are those of the run, in `options.out`.

    Args:
        named: the user names these arms, so one that cannot be asked is an error; else it is left out with a notice.

    Raises:
        UserError: as `arms`.
        OthersAtWork: other processes have the rest of an arm in hand.
    """
    run = _finished(options.out)
    _check_limit(limit)
    refused, askable = _askable(names, run, model.info.name, model.capabilities, named=named)
    for name, why in refused.items():
        notice(f"arm {name} is not asked: {why}")
    asking = asking_of(run.run)
    if any("V" in tier for tier in run.run["tiers"]):
        check_images_known(model)
    _check_same_model(run, model, benchmark, options, asking)
    courses, unanswered = courses_of(run, benchmark, limit)
    changes = Changes(benchmark, asking)
    elsewhere: OthersAtWork | None = None
    empty = 0
    for name in askable:
        tiers = of_tiers(name, run.run["tiers"])
        changed, left_out = _changed(changes, name, [course for course in courses if course.dialogue.tier in tiers])
        left_out |= {"unanswered": count} if (count := sum(unanswered[tier] for tier in tiers)) else {}
        if not changed:
            empty += 1
            notice(f"arm {name} has nothing to ask: {left_out_text(left_out) or 'no dialogue of its tiers is among those of the run'}")
            continue
        one = _OneArm(name, model, benchmark, options, run, limit, asking, fresh)
        try:
            one.ask(changed, left_out, progress)
        except OthersAtWork as error:
            elsewhere = error
    if empty == len(askable):
        raise UserError(f"no arm of {', '.join(askable)} changes anything in run {str(options.out)!r} (see above)")
    if elsewhere:
        raise elsewhere


def _askable(names: Sequence[str], run: IitRun, model: str, can: Capabilities | None, *, named: bool) -> tuple[dict[str, str], list[str]]:
    """The arms that cannot be asked, with the reasons, and the others; `can` None: as far as that is known before the model is loaded.

    Raises:
        UserError: one that the user names cannot be asked, or none can.
    """
    if named:
        check_askable(names, run.run, model, can)
    refused = refusals(names, run.run, model, can)
    check_any_askable(refused, names, f"run {str(run.path)!r}")
    return refused, [name for name in names if name not in refused]


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves nothing to ask; give 1 group or more")


def asking_of(run: Mapping[str, Any]) -> Asking:
    """How the questions of a run.json were put."""
    return Asking(
        scoring=run["scoring"],
        style=run["style"],
        history=run["history"],
        system_prompt=run.get("system_prompt") or "",
        max_new_tokens=run["max_new_tokens"],
        reasoning_tokens=run.get("reasoning_tokens") or 0,
    )


def courses_of(run: IitRun, benchmark: Benchmark, limit: int | None) -> tuple[list[Course], Counter[str]]:
    """The dialogues of a run whose targets have an answer, in the benchmark's order, and how many others there are by tier.

    Under own history the replies before the target are the run's.
    """
    targets = {one.dialogue: one for one in run.predictions if one.is_target}
    said: dict[str, dict[int, str]] = {}
    for one in run.predictions:
        if not one.is_target:
            said.setdefault(one.dialogue, {})[one.position] = one.reply
    asked = [dialogue for dialogue in benchmark.dialogues if dialogue.id in targets]
    groups = set(list(dict.fromkeys(dialogue.group for dialogue in asked))[:limit])
    asked = [dialogue for dialogue in asked if dialogue.group in groups]
    answered = [dialogue for dialogue in asked if targets[dialogue.id].outcome != "error"]
    courses = [
        Course(
            dialogue,
            tuple(benchmark.questions[turn] for turn in dialogue.turns),
            [reply for _, reply in sorted(said.get(dialogue.id, {}).items())],
        )
        for dialogue in answered
    ]
    return courses, Counter(dialogue.tier for dialogue in asked) - Counter(dialogue.tier for dialogue in answered)


def _finished(folder: Path) -> IitRun:
    run = load_run(folder, "iit")
    if arm := run.run.get("arm"):
        raise UserError(f"{str(folder)!r} is itself an arm, {arm}; name the run that it belongs to")
    return run


def _check_same_model(run: IitRun, model: Model, benchmark: Benchmark, options: RunOptions, asking: Asking) -> None:
    """Refuse a model that is not, or does not run as, the one that the run was asked of: an arm changes one thing."""
    limits = limits_of(options, model)
    left_out = run.run.get("left_out") or {}
    tiers = run.run["tiers"]
    now = describe_run(options, model.info, benchmark=benchmark, asking=asking, tiers=tiers, limits=limits, left_out=left_out)
    if different := what_differs(run.run, now | {"until": run.run.get("until")}):
        raise UserError(
            f"run {str(run.path)!r} was not asked so ({'; '.join(different)}), and an arm changes one thing only; evaluate the model again"
        )


def _changed(changes: Changes, name: str, courses: Sequence[Course]) -> tuple[list[tuple[Changed, ...]], dict[str, int]]:
    changed: list[tuple[Changed, ...]] = []
    left_out: Counter[str] = Counter()
    for course in courses:
        try:
            changed.append(changes.of(name, course))
        except NotAskedError as why:
            left_out[str(why)] += 1
    return changed, dict(sorted(left_out.items()))


class _Made(Rendering):
    """The requests of an arm, of each dialogue the first."""

    def __init__(self, benchmark: Benchmark, changed: Sequence[tuple[Changed, ...]]) -> None:
        super().__init__(benchmark.questions)
        self.courses = [item[0].course for item in changed]
        self._first = {item[0].course.dialogue.id: item[0].request for item in changed}

    def request(self, course: Course, position: int, asking: Asking) -> Request:
        return self._first[course.dialogue.id]


@dataclasses.dataclass(frozen=True)
class _OneArm:
    """An arm of a run while it is asked."""

    name: str
    model: Model
    benchmark: Benchmark
    options: RunOptions  # of the run
    run: IitRun
    limit: int | None
    asking: Asking
    fresh: bool

    @property
    def folder(self) -> Path:
        return self.options.out / FOLDER / self.name

    def ask(self, changed: Sequence[tuple[Changed, ...]], left_out: Mapping[str, int], progress: bool) -> None:
        """Ask it into its folder, which is complete when this returns."""
        begun = not self.fresh and (self.folder / "run.json").is_file()
        own = dataclasses.replace(self.options, out=self.folder, fresh=self.fresh)
        limits = limits_of(own if begun else self.options, self.model)
        described = self._described(own, changed, limits, left_out)
        with enter(self.folder, described, fresh=self.fresh, outcome_files=OUTCOME_FILES) as (run, log):
            started = time.monotonic()
            try:
                limits = BatchLimits.of_record(run["engine"], self.model)
                predictions, errors = self._answers(changed, log, limits, progress)
                log.finish()
            finally:
                run |= {**counted_time(run, started), **work_done(self.model, log, self.options.server)}
                record(self.folder, run, log)
            complete = not any(error["kind"] == "machine" for error in errors)
            rendering = _Made(self.benchmark, changed)
            write_prompts(self.folder, self.model, rendering.courses, (predictions, errors), self.asking, rendering)
            save_run_outcome(self.folder, predictions, summarise(predictions, {}, complete, self.benchmark.tiers), errors)
            save_finished_header(self.folder, run)

    def _described(
        self, options: RunOptions, changed: Sequence[tuple[Changed, ...]], limits: BatchLimits, left_out: Mapping[str, int]
    ) -> dict[str, Any]:
        """A new run.json."""
        tiers = {one[0].course.dialogue.tier for one in changed}
        limit = self.limit if self.limit is not None else options.limit
        described = describe_run(
            dataclasses.replace(options, name=f"{self.run.run['name']}, {self.name}", limit=limit),
            self.model.info,
            benchmark=self.benchmark,
            asking=self.asking,
            tiers=[tier for tier in self.run.run["tiers"] if tier in tiers],
            limits=limits,
            left_out=left_out,
            arm=self.name,
        )
        words = ["iit-bench", "arms", str(self.options.out), "--arms", self.name]
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        return described | {"scoring_fallback": self.run.run.get("scoring_fallback", ""), "command": shlex.join(words)}

    def _answers(
        self, changed: Sequence[tuple[Changed, ...]], log: ResponseLog, limits: BatchLimits, progress: bool
    ) -> tuple[list[Prediction], list[dict[str, Any]]]:
        """Predictions and error lines, in the order of `changed`."""
        requests = [one.request for item in changed for one in item]
        with bar(f"{self.model.info.name}, {self.name}: scoring", len(requests), progress) as advance:
            answers = iter(answer(self.model, requests, log, limits, advance).answers)
        predictions: list[Prediction] = []
        errors: list[dict[str, Any]] = []
        for item in changed:
            given = [next(answers) for _ in item]
            predictions.append(_prediction(item, given, self.asking, orders=self.name == "reordered"))
            failed = next((one for one in given if isinstance(one, Failure)), None)
            if failed is not None:
                errors.append(error_line(item[0].course, len(item[0].course.questions) - 1, failed))
        return predictions, errors


def _prediction(item: Sequence[Changed], given: Sequence[Response | Failure], asking: Asking, *, orders: bool) -> Prediction:
    """The record of a target; of `orders`, with what is chosen in each, by its index in the question's own order."""
    position = len(item[0].course.questions) - 1
    made = [prediction(one.course, position, answered, asking) for one, answered in zip(item, given, strict=True)]
    if not orders or any(one.outcome == "error" for one in made):
        return made[0]
    chosen = [(one.chosen - places) % len(one.choices) if one.chosen >= 0 else -1 for places, one in enumerate(made, 1)]
    return dataclasses.replace(made[0], moved_choices=tuple(chosen))
