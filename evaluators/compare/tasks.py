"""Two runs of the suite text or vqa side by side: how each task was asked, paired differences over the same items, forgetting.

Runs of other tools (`evaluators.runs.foreign`) are compared like ours. Two numbers of a task share a column, and are subtracted, only
where `differences` finds none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators import statistics
from evaluators.statistics import Ints
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.types import Figure, PairedResult, TaskItem, TaskResult

DEFAULT_SEED = "1234"  # lm-eval's, of the choice of few-shot examples
NOT_RECORDED = "not recorded"


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """How a task was asked."""

    settings: Mapping[str, str]  # what a message calls a setting -> its value in words
    usual: frozenset[str] = frozenset()  # settings left at the tool's or the task's own value
    documents_sha256: str = ""  # of what was asked; "" where the files do not record it
    n: int = 0  # items; 0 = not recorded


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task of two runs, over the items of both."""

    metric: str
    group: bool  # of tasks, each of which has a comparison of its own too
    member: bool = False  # part of a group that has one
    best: float | None  # 1 where scores are fractions
    a: Figure
    b: Figure
    result: PairedResult  # over the task
    retention: Figure  # (b - chance) / (a - chance): what B keeps of A


# ---------------------------------------------------------------- how a task was asked


def shown_tasks(results: Sequence[TaskResult]) -> list[TaskResult]:
    """What leaderboards show of a run: a group stands for its tasks, and for the groups inside it."""
    groups = [set(result.members) for result in results if result.members]
    inside = set().union(*groups) if groups else set()
    return [
        result
        for result in results
        if result.task not in inside and not (result.members and any(set(result.members) < group for group in groups))
    ]


def how_asked(run: TaskRun, result: TaskResult) -> TaskSettings:
    """The settings with which `run` asked the task of `result`; the model is no part of them."""
    header = run.run
    settings = {"limit": _words(header.get("limit")), "system prompt": str(header.get("system_prompt") or "none")}
    usual = {"limit": header.get("limit") is None, "system prompt": not header.get("system_prompt")}
    if header["suite"] == "text":
        shots = NOT_RECORDED if result.n_shot is None else str(result.n_shot)
        chat = bool(header.get("apply_chat_template"))
        settings |= {"few-shot examples": shots, "chat template": "yes" if chat else "no", "version": result.version or "none"}
        if result.n_shot:
            settings["seed of few-shot examples"] = _words(header.get("fewshot_seed", DEFAULT_SEED), "unset")
            settings["examples as turns"] = "yes" if chat and header.get("fewshot_as_multiturn", True) else "no"
        given = _generation_settings(header)
        generates = result.output_type in ("generate_until", "")
        settings["generation"] = (", ".join(given) or "the task's own") if generates else "none"
        usual |= {"version": not result.version, "generation": not (generates and given)}
    else:
        settings |= {"judge": result.judge or str(header.get("judge") or NOT_RECORDED)}
        settings |= {"reply length": _words(header.get("max_new_tokens"), "default")}
        chosen: Mapping[str, object] = header.get("processor_kwargs") or {}
        settings["image settings"] = ", ".join(f"{name}={_plain(str(chosen[name]))}" for name in sorted(chosen)) or "none"
        usual |= {"reply length": header.get("max_new_tokens") is None, "image settings": not chosen}
    figure = result.scores.get(result.metric)
    return TaskSettings(
        settings=settings,
        usual=frozenset(name for name, holds in usual.items() if holds),
        documents_sha256=result.documents_sha256,
        n=figure.n if figure else 0,
    )


def _generation_settings(header: Mapping[str, object]) -> list[str]:
    """What the run set of lm-eval's generation, as "name=value", sorted."""
    given = dict(part.split("=", 1) for part in str(header.get("gen_kwargs") or "").split(",") if "=" in part)
    if header.get("max_new_tokens") is not None:
        given["max_gen_toks"] = str(header["max_new_tokens"])
    return [f"{name}={_plain(given[name])}" for name in sorted(given)]


def _plain(value: str) -> str:
    """One spelling of a setting: 0.70 and 0.7, True and true."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value.strip().casefold()


def differences(a: TaskSettings, b: TaskSettings) -> list[str]:
    """In what two ways of asking a task differ, with both values; nothing where their numbers may be compared.

    Where one side does not record which documents it asked, their numbers must be equal. A setting that only one side has (the seed of
    few-shot examples) follows from another that differs.
    """
    pairs = [(name, a.settings[name], b.settings[name]) for name in a.settings if name in b.settings]
    if a.documents_sha256 and b.documents_sha256:
        pairs.append(("documents", a.documents_sha256[:12], b.documents_sha256[:12]))
    else:
        pairs.append(("number of items", str(a.n or NOT_RECORDED), str(b.n or NOT_RECORDED)))
    return [f"{name} ({one} and {other})" for name, one, other in pairs if one != other]


def _words(value: object, otherwise: str = "none") -> str:
    return otherwise if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- paired differences


def compare_suites(run_a: TaskRun, run_b: TaskRun) -> tuple[list[TaskComparison], dict[str, str]]:
    """A minus B for every task of both, in A's order, and the tasks left out with the reason.

    Returns:
        Holm is applied over the tasks and groups that leaderboards show, and by itself over the tasks inside groups. An item that failed
        counts as wrong, as in the suites' figures. With the base LLM as A, differences are what B lost, and retention is what it kept;
        retention is there for accuracies of multiple-choice tasks.

    Raises:
        UserError: the runs are of different suites, or no task can be compared.
    """
    names = f"runs {str(run_a.run['name'])!r} and {str(run_b.run['name'])!r}"
    if run_a.run["suite"] != run_b.run["suite"]:
        raise UserError(f"{names} cannot be compared, one is of suite {run_a.run['suite']} and one of {run_b.run['suite']}")
    comparisons, left_out = matched(run_a, run_b)
    if not comparisons:
        here = {result.task for result in run_a.results.tasks}
        why = "; ".join(by_reason({task: reason for task, reason in left_out.items() if task in here})) or "the first ran no task"
        raise UserError(f"{names} have no task that can be compared ({why}); evaluate both on the same tasks with the same settings")
    return comparisons, left_out


def matched(run_a: TaskRun, run_b: TaskRun) -> tuple[list[TaskComparison], dict[str, str]]:
    """As `compare_suites`, of runs of one suite; there may be nothing to compare."""
    theirs = {result.task: result for result in run_b.results.tasks}
    scores_a, scores_b = _by_task(run_a.items), _by_task(run_b.items)
    shown = {result.task for result in shown_tasks(run_a.results.tasks)}
    comparisons, left_out = [], {}
    for result in run_a.results.tasks:
        other = theirs.get(result.task)
        if other is None:
            left_out[result.task] = f"{str(run_b.run['name'])!r} did not run it"
        elif differing := differences(how_asked(run_a, result), how_asked(run_b, other)):
            left_out[result.task] = f"asked differently: {', '.join(differing)}"
        elif (one := _compared(result, other, mine=scores_a, theirs=scores_b, run_a=run_a, against=str(run_b.run["name"]))) is None:
            left_out[result.task] = "no scores by item on both sides"
        else:
            comparisons.append(dataclasses.replace(one, member=one.result.over not in shown))
    return _with_holm(comparisons), left_out | {task: f"{str(run_a.run['name'])!r} did not run it" for task in _only(theirs, run_a)}


def by_reason(left_out: Mapping[str, str]) -> list[str]:
    """Tasks that were left out for the same reason in one sentence."""
    tasks: dict[str, list[str]] = {}
    for task, reason in left_out.items():
        tasks.setdefault(reason, []).append(task)
    return [f"{_few(names)}: {reason}" for reason, names in tasks.items()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} others"


def _only(theirs: Mapping[str, TaskResult], run_a: TaskRun) -> list[str]:
    mine = {result.task for result in run_a.results.tasks}
    return [task for task in theirs if task not in mine]


Scores = dict[str, dict[str, dict[str, TaskItem]]]  # task -> metric -> item


def _by_task(items: Sequence[TaskItem]) -> Scores:
    scores: Scores = {}
    for item in items:
        scores.setdefault(item.task, {}).setdefault(item.metric, {})[item.item] = item
    return scores


def _compared(
    result: TaskResult, other: TaskResult, *, mine: Scores, theirs: Scores, run_a: TaskRun, against: str
) -> TaskComparison | None:
    """None where a side has no scores by item, or other items than the other."""
    members = result.members or (result.task,)
    pairs: list[tuple[TaskItem, TaskItem]] = []
    chances: list[float | None] = []
    metric = result.metric
    for task in members:
        of_a, of_b = mine.get(task, {}), theirs.get(task, {})
        metric = result.metric if result.metric in of_a else next(iter(of_a), "")  # MME's points are made from its items' acc
        items_a, items_b = of_a.get(metric, {}), of_b.get(metric, {})
        if not items_a or set(items_a) != set(items_b):
            return None
        pairs += [(items_a[item], items_b[item]) for item in items_a]
        chances += [_chance(run_a, task, metric)] * len(items_a)
    a, b = [one.score for one, _ in pairs], [one.score for _, one in pairs]
    # Of another tool's run the images may not be known: what shares one on either side is one cluster.
    cluster = statistics.components([(one.task, one.cluster) for one, _ in pairs], [(one.task, one.cluster) for _, one in pairs])
    binary = all(score in (0.0, 1.0) for score in (*a, *b))
    best = result.best if metric == result.metric else 1.0
    paired = _difference(a, b, cluster, binary=binary, best=best, over=result.task, against=against)
    figure_a, figure_b = (side.scores.get(metric) or Figure(None, note="no figure of this metric") for side in (result, other))
    retained = _retention(b, a, chances, cluster, binary)
    return TaskComparison(
        metric=metric,
        group=result.members is not None,
        best=best,
        a=figure_a,
        b=figure_b,
        result=paired,
        retention=retained,
    )


def _difference(
    a: Sequence[float], b: Sequence[float], cluster: Ints, *, binary: bool, best: float | None, over: str, against: str
) -> PairedResult:
    """The paired difference; `best` bounds it where no score lies outside 0 … `best`."""
    if binary:
        return statistics.paired(a, b, cluster, over=over, against=against)
    bounded = best is not None and all(0 <= score <= best for score in (*a, *b))
    return statistics.paired_means(a, b, cluster, over=over, against=against, largest=best if bounded and best else math.inf)


def _chance(run: TaskRun, task: str, metric: str) -> float | None:
    return next((result.chance.get(metric) for result in run.results.tasks if result.task == task), None)


def _retention(run: Sequence[float], base: Sequence[float], chances: Sequence[float | None], cluster: object, binary: bool) -> Figure:
    known = [chance for chance in chances if chance is not None]
    if len(known) < len(chances) or not binary:
        return Figure(None, note="no chance level is known" if binary else "scores are not 0/1")
    return statistics.retention(run, base, known, cluster)


def _with_holm(comparisons: Sequence[TaskComparison]) -> list[TaskComparison]:
    adjusted: dict[str, PairedResult] = {}
    for member in (False, True):
        family = [one.result for one in comparisons if one.member is member]
        adjusted |= {result.over: result for result in statistics.with_holm(family)}
    return [dataclasses.replace(one, result=adjusted[one.result.over]) for one in comparisons]
