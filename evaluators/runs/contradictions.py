"""What results.json states of a run's own predictions or items, against these: a figure that they contradict is refused.

Of suite iit every figure but those of forgetting and of a decision, whose other side is another run, follows from the predictions.
Compared are counts and values; intervals and tests are made anew, as this version makes them. Both are made again
where the base run is there as it was; else their parts must agree with one another. Of the suites text and vqa: counts of outcomes, and the
figures that `made_again` makes of the items and of the tool's own files; where these are not in the folder, means of items that have an
interval made from the items.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluators.iit.decided_again import decided_again, differing, parts_that_differ
from evaluators.runs.made_again import ITEMS, Made, made_again
from evaluators.runs.outcomes import count_outcomes, outcomes_by_metric
from evaluators.runs.recompute import Items, base_as_it_was, figure_of_items, forgetting_again, items_by_metric, own_figures, parts_of
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun
from iit_bench.types import Figure, Forgetting, Results, SuiteResults, TaskItem, TaskResult

# Fields that say how sure a figure is, which an earlier version may have computed otherwise, and those that no predictions give.
_NOT_COMPARED = frozenset(
    {"low", "high", "clusters", "se", "method", "from_stderr", "note", "p", "p_holm", "test", "detectable", "detectable_floor"}
    | {"effective", "df", "forgetting", "advice", "decision", "complete"}
)
_LATER = frozenset({"text_only_score", "subset_score", "subset_tiers", "positions"})  # empty in folders of before they were there
_ASKED = ("best", "n_shot", "n_documents", "n_without_image")  # numbers of a task beside its figures
Difference = tuple[str, Any, Any]  # place in results.json, what is there, what follows from the predictions or items


def agreeing(run: Any, every: bool = False) -> Any:
    """A run whose results.json has a seal, with intervals and tests made anew; one that its own predictions or items contradict is refused.

    Args:
        run: of any suite.
        every: compare what takes long, too, as `made_again` says.

    Raises:
        UserError: names the figure, and both values.
    """
    if isinstance(run.results, Results):
        again, stored, of = own_figures(run), run.results.forgetting, "predictions.parquet"
        found = next(_differences(run.results, again, ""), None) or next(_of_forgetting(stored), None)
        if found is None and stored is not None and (lost := forgetting_again(run)) is not None:
            again, of = dataclasses.replace(again, forgetting=lost), f"{of}, that of base run {stored.base_run!r}"
            found = next(_differences(stored, lost, "forgetting"), None)
        if found is None and (decided := run.results.decision) is not None and run.results.complete:
            anew = decided_again(run, decided, base_as_it_was(run))
            found = next(parts_that_differ(run, decided) if anew is None else differing(decided, anew), None)
    else:
        items, made, of = items_by_metric(run.items), made_again(run, every), ITEMS
        found = next(_of_tasks(run.results, run.items, items), None)
        if found is None and (wrong := next(_of_made(run.results, made, every), None)) is not None:
            of, found = wrong
        again = dataclasses.replace(run.results, tasks=tuple(_with_intervals(task, items, made) for task in run.results.tasks))
    found = found or next(_of_completeness(run), None)
    if found is not None:
        place, stored, computed = found
        raise UserError(
            f"results.json of run {str(run.path)!r} says {place} = {_shown(stored)}, and by its {of} and errors.jsonl it is "
            f"{_shown(computed)}; to have the figures made again, repeat its command: {run.run.get('command', '')}"
        )
    agreed = dataclasses.replace(run, results=again)
    agreed.kept.update(run.kept)
    return agreed


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


def _equal(stored: Any, computed: Any) -> bool:
    if isinstance(stored, bool) or isinstance(computed, bool) or not all(isinstance(one, (int, float)) for one in (stored, computed)):
        return bool(stored == computed)
    return math.isclose(stored, computed, rel_tol=1e-9, abs_tol=1e-9)


# ---------------------------------------------------------------- suite iit


def _differences(stored: Any, computed: Any, place: str) -> Iterator[Difference]:
    """Where two records, mappings, sequences or values differ, in their order."""
    if dataclasses.is_dataclass(stored) and type(stored) is type(computed):
        for one in dataclasses.fields(stored):
            mine = getattr(stored, one.name)
            if one.name not in _NOT_COMPARED and not (one.name in _LATER and not mine):
                yield from _differences(mine, getattr(computed, one.name), f"{place}.{one.name}" if place else one.name)
    elif isinstance(stored, Mapping) and isinstance(computed, Mapping):
        for name in {**stored, **computed}:
            yield from _differences(stored.get(name), computed.get(name), f"{place}.{name}")
    elif _are_parts(stored) and _are_parts(computed):
        if len(stored) != len(computed):
            yield f"the number of {place}", len(stored), len(computed)
        for number, (mine, theirs) in enumerate(zip(stored, computed, strict=False)):
            yield from _differences(mine, theirs, f"{place}.{getattr(theirs, 'tier', number)}")
    elif not _equal(stored, computed):
        yield place, stored, computed


def _are_parts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _of_forgetting(stored: Forgetting | None) -> Iterator[Difference]:
    """Figures of forgetting that contradict one another: accuracies of both sides, their difference, and what was lost and gained."""
    if stored is None or stored.pooled.difference.value is None or stored.base_acc.value is None or stored.acc.value is None:
        return
    place, pooled, n = "forgetting.pooled", stored.pooled, stored.pooled.difference.n
    pairs: list[Difference] = [
        (f"{place}.difference.value", pooled.difference.value, stored.base_acc.value - stored.acc.value),
        ("forgetting.base_acc.n", stored.base_acc.n, n),
        ("forgetting.acc.n", stored.acc.n, n),
        (f"the sum of n over {place}'s tiers", sum(one.difference.n for one in stored.per_tier), n),
    ]
    for one, name in ((pooled, place), *((one, f"forgetting.{one.over}") for one in stored.per_tier)):
        if one.difference.value is not None:
            pairs.append((f"{name}.difference.value", one.difference.value, (one.only_a - one.only_b) / max(one.difference.n, 1)))
    if stored.ledger is not None:
        pairs += _of_ledger(stored)
    yield from (pair for pair in pairs if not _equal(pair[1], pair[2]))


def _of_ledger(stored: Forgetting) -> Iterator[Difference]:
    assert stored.ledger is not None
    for number, part in enumerate(stored.ledger.parts):
        place, whole = f"forgetting.ledger.{part.by} {part.part}", sum(part.counts.values())
        if number == 0:
            yield f"{place}.counts.lost", part.counts.get("lost"), stored.pooled.only_a
            yield f"{place}.counts.gained", part.counts.get("gained"), stored.pooled.only_b
            yield f"the sum of {place}.counts", whole, stored.pooled.difference.n
        for name, rate in part.rates.items():
            if rate.value is not None:
                yield f"{place}.rates.{name}", rate.value, part.counts.get(name, 0) / max(whole, 1)
                yield f"{place}.rates.{name}.n", rate.n, whole


def _of_completeness(run: AnyRun) -> Iterator[Difference]:
    """Whether it is said to be complete, and an item failed for reasons of the machine, or a task could not be scored."""
    failed = any(error.get("kind") == "machine" for error in run.errors)
    failed |= isinstance(run.results, SuiteResults) and any(task.state == "failed" for task in run.results.tasks)
    if run.results.complete == failed:
        yield "complete", run.results.complete, not failed


# ---------------------------------------------------------------- suites text and vqa


def _with_intervals(stored: TaskResult, items: Items, made: Mapping[str, Made]) -> TaskResult:
    """The task with its figures made anew, or, where only items are there, the intervals of its means."""
    own = made[stored.task].result.scores if stored.task in made else {}
    again = {name: own.get(name) or figure_of_items(stored, name, items) or one for name, one in stored.scores.items()}
    return dataclasses.replace(stored, scores=again)


def _of_made(stored: SuiteResults, made: Mapping[str, Made], every: bool) -> Iterator[tuple[str, Difference]]:
    """Values and sizes of figures that were made again, and numbers of tasks, each with the files that it follows from."""
    for task in stored.tasks:
        again = made[task.task] if task.task in made else Made(dataclasses.replace(task, scores={}), "")
        pairs: list[Difference] = [(name, getattr(task, name), getattr(again.result, name)) for name in _ASKED]
        if every and stored.suite == "text" and again.of:
            pairs += [(name, getattr(task, name), getattr(again.result, name)) for name in ("chance", "documents_sha256")]
        for metric, figure in again.result.scores.items():
            mine = task.scores.get(metric, Figure(None))
            pairs += [(f"scores.{metric}.{name}", getattr(mine, name), getattr(figure, name)) for name in ("value", "n")]
        yield from ((again.of, (f"tasks.{task.task}.{pair[0]}", *pair[1:])) for pair in pairs if not _equal(pair[1], pair[2]))


def _of_tasks(stored: SuiteResults, rows: Sequence[TaskItem], items: Items) -> Iterator[Difference]:
    of_task: dict[str, list[TaskItem]] = {}
    for row in rows:
        of_task.setdefault(row.task, []).append(row)
    for task in stored.tasks:
        place = f"tasks.{task.task}"
        mine = [row for name in task.members or (task.task,) for row in of_task.get(name, ())]
        if task.members is not None:
            yield from _of_group(task, [one for one in stored.tasks if one.task in task.members], place)
        elif mine or task.outcomes:
            yield from _of_outcomes(task, mine, place)
        for metric, figure in task.scores.items():
            yield from _of_mean(figure, parts_of(task, metric, items), f"{place}.scores.{metric}")
    total = {name: sum(task.outcomes.get(name, 0) for task in stored.tasks if task.members is None) for name in stored.outcomes}
    if stored.outcomes not in (total, count_outcomes(rows)):
        yield from _differences(stored.outcomes, total, "outcomes")


def _of_mean(stored: Figure, parts: Sequence[Sequence[TaskItem]], place: str) -> Iterator[Difference]:
    """A mean of items, in a group of tasks by their sizes or of the tasks' means; nothing where the figure is no mean."""
    if stored.value is None or not parts or stored.method.split()[-1:] not in (["wilson"], ["t"]):
        return
    n = sum(map(len, parts))
    means = [math.fsum(row.score for row in part) / len(part) for part in parts]
    by_size = math.fsum(one * len(part) for one, part in zip(means, parts, strict=True)) / n
    if not any(_equal(stored.value, one) for one in (by_size, math.fsum(means) / len(means))):
        yield f"{place}.value", stored.value, by_size
    if stored.n != n:
        yield f"{place}.n", stored.n, n


def _of_group(group: TaskResult, members: Sequence[TaskResult], place: str) -> Iterator[Difference]:
    """Outcomes of a group, which are those of its tasks added up."""
    yield from _differences(
        group.outcomes, {name: sum(one.outcomes.get(name, 0) for one in members) for name in group.outcomes}, f"{place}.outcomes"
    )
    for metric, counts in group.metric_outcomes.items():
        parts = [one.metric_outcomes.get(metric, {}) for one in members]
        yield from _differences(
            counts, {name: sum(part.get(name, 0) for part in parts) for name in counts}, f"{place}.metric_outcomes.{metric}"
        )


def _of_outcomes(task: TaskResult, rows: Sequence[TaskItem], place: str) -> Iterator[Difference]:
    """Outcomes by the metric that tables show, or, where a task has parts, over all its items."""
    shown = count_outcomes(row for row in rows if row.metric == task.metric)
    if task.outcomes not in (shown, count_outcomes(rows)):
        yield from _differences(task.outcomes, shown, f"{place}.outcomes")
    if task.metric_outcomes:
        yield from _differences(task.metric_outcomes, outcomes_by_metric(rows), f"{place}.metric_outcomes")
