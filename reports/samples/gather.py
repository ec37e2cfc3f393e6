"""Which runs the explorer shows, whether it is written, and which dialogues or items its runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.arms.figures import arm_run
from evaluators.arms.names import ARMS
from evaluators.show.task_words import TaskWords
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun
from iit_bench.types import TaskSuite
from reports import links
from reports.cells import count
from reports.entries import Entry, Group, base_of
from reports.models import Models
from reports.samples.answers import SampleRun, item_id
from reports.samples.questions import Asked, SampleSet

MOST = 300_000  # predictions that a report shows without being asked to
SUITES: dict[TaskSuite, str] = {"text": "Text-only tasks (lm-eval)", "vqa": "VQA tasks (VLMEvalKit)"}


@dataclass(frozen=True)
class Plan:
    """What the explorer will show."""

    sets: tuple[SampleSet, ...] = ()
    runs: tuple[SampleRun, ...] = ()
    why_not: str = ""  # why there is no explorer, in one sentence; "" where there is one


def plan(groups: Sequence[tuple[Group, Benchmark | None]], models: Models, wanted: bool | None) -> Plan:
    """Decide whether the explorer is written, and gather its runs.

    Args:
        groups: the IIT runs of the page, each group with its benchmark where that is at hand.
        models: the runs of the other suites.
        wanted: as the user says; None = where a benchmark is at hand and the runs have at most `MOST` predictions together.
    """
    if wanted is False:
        return Plan(why_not="Dialogues are not shown one by one: the report was made with --no-samples.")
    if wanted is None and groups and all(benchmark is None for _, benchmark in groups):
        return Plan(why_not="Dialogues are not shown one by one: the folder of the benchmark is not at hand. Name it with --bench DIR.")
    predictions = sum(entry.run.results.n_dialogues for group, _ in groups for entry in group.entries)
    predictions += sum(sum(run.results.outcomes.values()) for run in models.runs)
    if wanted is None and predictions > MOST:
        return Plan(
            why_not=f"Dialogues are not shown one by one: the runs have {count(predictions)} predictions, more than {count(MOST)}. "
            "Add --samples to show them all the same."
        )
    sets: dict[str, SampleSet] = {}
    runs: list[SampleRun] = []
    for group, benchmark in groups:
        _gather_group(group, benchmark, sets, runs)
    _gather_suites(models, sets, runs, [entry.slug for group, _ in groups for entry in group.entries])
    return Plan(tuple(sets.values()), tuple(runs))


# ---------------------------------------------------------------- suite iit


def _gather_group(group: Group, benchmark: Benchmark | None, sets: dict[str, SampleSet], runs: list[SampleRun]) -> None:
    header = group.entries[0].header["benchmark"]
    digest = str(header["rows_sha256"])
    if digest not in sets:
        name = f"IIT: {header['name']}" + ("" if benchmark is not None else " (its folder is not at hand, so questions are not shown)")
        sets[digest] = SampleSet(key=f"s{len(sets)}", name=name, kind="iit", benchmark=benchmark)
    own = sets[digest]
    _enter_dialogues(own, [entry.run for entry in group.entries])
    for entry in group.entries:
        base = base_of(entry, group.entries)
        words = _asked(entry.run)
        runs.append(
            SampleRun(
                key=f"r{len(runs)}",
                slug=entry.slug,
                name=entry.name,
                own=own,
                run=entry.run,
                base="" if base is None else base.slug,
                style=entry.style,
                words=words,
            )
        )
        for name, arm in arms_of(entry):
            runs.append(
                SampleRun(
                    key=f"r{len(runs)}",
                    slug=entry.slug,
                    name=entry.name,
                    own=own,
                    run=arm,
                    arm=name,
                    base=entry.slug,
                    words=(ARMS[name].changes, *_asked(arm)),
                )
            )


def _enter_dialogues(own: SampleSet, runs: Sequence[IitRun]) -> None:
    """Enter the dialogues that the runs were asked, in the benchmark's order where that is known."""
    columns = [run.prediction_columns(("dialogue", "is_target", "tier", "source", "subject", "question")) for run in runs]
    found: dict[str, Asked] = {}
    names: dict[str, str] = {}  # so that equal names are one object: there may be a million dialogues
    for one in columns:
        rows = zip(*(one[name].to_pylist() for name in ("dialogue", "is_target", "tier", "source", "subject", "question")), strict=True)
        for dialogue, is_target, tier, source, subject, question in rows:
            if is_target and dialogue not in found:
                tier, source, subject, question = (names.setdefault(name, name) for name in (tier, source, subject, question))
                found[dialogue] = Asked(id=dialogue, tier=tier, source=source, subject=subject, target=question)
    known = [] if own.benchmark is None else [dialogue.id for dialogue in own.benchmark.dialogues if dialogue.id in found]
    for dialogue in (*known, *found):
        own.enter(found[dialogue])


def arms_of(entry: Entry) -> list[tuple[str, IitRun]]:
    """The finished arms of a run, by name: the same dialogues, asked with one thing changed."""
    found = []
    for name in ARMS:
        try:
            arm = arm_run(entry.run, name)
        except UserError:  # damaged: the arms' own section of the page says so
            continue
        found += [(name, arm)] if arm is not None else []
    return found


def _asked(run: IitRun) -> tuple[str, ...]:
    """How a run asked, in words."""
    header = run.run
    words = [f"style {header['style']}", f"scoring {header['scoring']}", f"history {header['history']}"]
    if header.get("system_prompt"):
        words.append(f"system prompt: {header['system_prompt']}")
    return (*words, *(["images removed"] if header["model"].get("blind") else []))


# ---------------------------------------------------------------- suites text and vqa


def _gather_suites(models: Models, sets: dict[str, SampleSet], runs: list[SampleRun], taken: Sequence[str]) -> None:
    names: Mapping[int, str] = {place: row.name for row in models.rows for place in row.runs}
    wanted = [f"{run.run['suite']}-{names.get(place, str(run.run['name']))}" for place, run in enumerate(models.runs)]
    slugs = links.slugs([*taken, *wanted])[len(taken) :]
    for place, run in enumerate(models.runs):
        suite: TaskSuite = run.run["suite"]
        if suite not in sets:
            sets[suite] = SampleSet(key=f"s{len(sets)}", name=SUITES[suite], kind=suite)
        own = sets[suite]
        words = TaskWords(run)
        for item in run.items:
            name = item_id(item.task, item.item)
            own.enter(Asked(id=name, source=item.task))
            own.items.setdefault(name, (words, item))
        name = names.get(place, str(run.run["name"]))
        tool = (f"files of {run.run['tool']}",) if "tool" in run.run else ()
        runs.append(SampleRun(key=f"r{len(runs)}", slug=slugs[place], name=name, own=own, run=run, words=tool))
