"""From lm-eval's results and samples to figures with intervals: pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evaluators.runs.outcomes import count_outcomes, outcomes_by_metric
from evaluators.statistics import codes, weighted_mean
from evaluators.text.details import cluster_of, details_of, group_details
from evaluators.text.figures import Measured, from_items, from_pairs, from_stderr
from iit_bench.numerals import counted
from iit_bench.types import Figure, Outcome, SuiteResults, TaskItem, TaskResult

if TYPE_CHECKING:
    from evaluators.text.model import FailedDocument

# lm-eval's aggregations whose standard error is a bootstrap's.
BOOTSTRAPPED = frozenset({"median", "matthews_corrcoef", "f1", "perplexity", "bleu", "chrf", "ter", "nanmean"})
UNPARSED = "[invalid]"  # what lm-eval's regular expression filters return where nothing matches


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Facts on a run of ours that lm-eval's results lack; empty for results that lm-eval's own command wrote."""

    complete: bool = True  # no document failed for reasons of the machine
    failed: Mapping[str, int] = field(default_factory=dict)  # task -> documents that could not be asked
    cut: Mapping[str, int] = field(default_factory=dict)  # task -> prompts that filled the model's context
    left_out: Mapping[str, str] = field(default_factory=dict)  # task of a preset -> why it was not run
    data_sha256: Mapping[str, str] = field(default_factory=dict)  # task -> of the local files it was read from
    revisions: Mapping[str, str] = field(default_factory=dict)  # task -> commit of the Hub repository that its data are of
    sampled: bool = True  # False: chance levels and hashes of documents, which take every sample, are not wanted


def items_of(evaluated: Mapping[str, Any], failed: Sequence[FailedDocument]) -> list[TaskItem]:
    """One row per document and metric whose value is a number; a document that failed has score 0 and outcome "error"."""
    lost = {(one.task, one.document) for one in failed}
    rows = []
    for task, samples in evaluated["samples"].items():
        for sample in samples:
            error, cluster = (task, sample["doc_id"]) in lost, cluster_of(task, sample)
            for metric in sample["metrics"]:
                value = sample[metric]
                if not isinstance(value, (int, float)) or isinstance(value, complex):
                    continue
                score = 0.0 if error else float(value)
                key, item = _key(metric, sample["filter"]), str(sample["doc_id"])
                outcome, reply = _outcome(sample, score, error), _reply(sample)
                rows.append(TaskItem(task=task, item=item, cluster=cluster, metric=key, score=score, outcome=outcome, reply=reply))
    return rows


def _key(metric: str, filter_name: str) -> str:
    """lm-eval's own spelling, without its "none"."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _outcome(sample: Mapping[str, Any], score: float, error: bool) -> Outcome:
    if error:
        return "error"
    if sample["filtered_resps"] and all(reply == UNPARSED for reply in sample["filtered_resps"]):
        return "unparsed"
    return "correct" if score == 1 else "wrong"


def _reply(sample: Mapping[str, Any]) -> str:
    """The generated text, or the continuation (or, where the choices are contexts, the context) that is the most likely."""
    first = [replies[0] for replies in sample["resps"]]
    if not first or not isinstance(first[0], (tuple, list)):
        return "\n".join(str(one) for one in first) if first and isinstance(first[0], str) else ""
    best = max(range(len(first)), key=lambda i: first[i][0])
    context, continuation = sample["arguments"][best][:2]
    same = len({arguments[1] for arguments in sample["arguments"]}) == 1 and len(first) > 1
    return str(context if same else continuation).strip()


def errors_of(failed: Sequence[FailedDocument]) -> list[dict[str, Any]]:
    """Lines of errors.jsonl, one per document."""
    distinct = {(one.task, one.document): one for one in failed}.values()
    return [
        {"task": one.task, "item": str(one.document), "kind": one.failure.kind, "reason": one.failure.reason, "detail": one.failure.detail}
        for one in distinct
    ]


def suite_results(evaluated: Mapping[str, Any], items: Sequence[TaskItem], circumstances: Circumstances) -> SuiteResults:
    """results.json: groups first, then their tasks; tasks of a preset that were not run last, without a value."""
    of_task: dict[str, list[TaskItem]] = {}
    for item in items:
        of_task.setdefault(item.task, []).append(item)
    names = [task for task in evaluated["results"] if task in evaluated["n-samples"]]  # the others are groups
    single = {task: _task(task, evaluated, of_task.get(task, []), circumstances) for task in names}
    groups = [_group(name, evaluated, single, of_task) for name in evaluated.get("groups", {})]
    missing = [_not_run(task, why) for task, why in circumstances.left_out.items()]
    tasks = (*groups, *single.values(), *missing)
    return SuiteResults(suite="text", complete=circumstances.complete, outcomes=count_outcomes(items), tasks=tasks)


def _not_run(task: str, why: str) -> TaskResult:
    return TaskResult(task=task, state="not run", metric="", scores={"": Figure(None, note=f"not run: {why}")}, outcomes={})


def _task(task: str, evaluated: Mapping[str, Any], items: Sequence[TaskItem], around: Circumstances) -> TaskResult:
    count = evaluated["n-samples"][task]["effective"]
    failed = around.failed.get(task, 0)
    scores = {}
    for key, value, stderr in _values(evaluated["results"][task]):
        rows = [item for item in items if item.metric == key]
        measured = _measured(evaluated, task, key, value=value, stderr=stderr, count=count)
        scores[key] = from_items(rows, measured, failed) if rows else from_pairs(*_pairs(evaluated, task, key), measured)
    notes = []
    if failed:
        notes.append(f"{counted(failed, 'document')} could not be asked and counted as wrong")
    if around.cut.get(task):
        notes.append(
            f"{around.cut[task]} prompts filled the model's context; what did not fit was cut off at their beginning, as lm-eval does"
        )
    metric = next(iter(scores), "")
    shown = [item for item in items if item.metric == metric]
    best = _best(scores.get(metric), evaluated.get("higher_is_better", {}).get(task, {}).get(metric.partition(",")[0]), shown)
    return TaskResult(
        task=task,
        metric=metric,
        scores=scores,
        outcomes=count_outcomes(shown),
        metric_outcomes=outcomes_by_metric(items),
        best=best,
        notes=tuple(notes),
        data_sha256=around.data_sha256.get(task, ""),
        revision=around.revisions.get(task, ""),
        **details_of(task, evaluated if around.sampled else {**evaluated, "samples": {}}),
    )


def _measured(evaluated: Mapping[str, Any], task: str, key: str, *, value: float, stderr: float | None, count: int) -> Measured:
    """The metric's value, and by what aggregation lm-eval made it."""
    metric = key.partition(",")[0]
    listed = evaluated.get("configs", {}).get(task, {}).get("metric_list") or ()
    aggregation = next((str(one.get("aggregation") or "") for one in listed if one.get("metric") == metric), "")
    draws = (evaluated.get("config") or {}).get("bootstrap_iters") if aggregation in BOOTSTRAPPED else None
    return Measured(metric=metric, value=value, stderr=stderr, count=count, aggregation=aggregation, draws=draws)


def _pairs(evaluated: Mapping[str, Any], task: str, key: str) -> tuple[list[Any], list[str]]:
    """What each document adds to a metric that is no mean, (gold, prediction) or (log-likelihood, words or bytes); its cluster."""
    metric = key.partition(",")[0]
    samples = [sample for sample in evaluated.get("samples", {}).get(task, ()) if _key(metric, sample["filter"]) == key]
    samples = [sample for sample in samples if isinstance(sample.get(metric), (tuple, list))]
    return [sample[metric] for sample in samples], [cluster_of(task, sample) for sample in samples]


def _best(figure: Figure | None, higher_is_better: bool | None, items: Sequence[TaskItem]) -> float | None:
    """1 for an accuracy; None for a perplexity, an error rate, or a score that leaves 0 … 1."""
    value = 0.0 if figure is None or figure.value is None else figure.value
    inside = 0 <= value <= 1 and all(0 <= item.score <= 1 for item in items)
    return 1.0 if inside and higher_is_better is not False else None


def _group(
    name: str, evaluated: Mapping[str, Any], single: Mapping[str, TaskResult], items: Mapping[str, Sequence[TaskItem]]
) -> TaskResult:
    """A group's aggregate: over its tasks as strata where lm-eval's value is their mean, else lm-eval's value and standard error."""
    members = [task for task in _leaves(name, evaluated["group_subtasks"]) if task in single]
    scores = {}
    for key, value, stderr in _values(evaluated["groups"][name]):
        count = sum(evaluated["n-samples"][task]["effective"] for task in members)
        scores[key] = _pooled(key, value, [task for task in members if key in single[task].scores], evaluated, items) or from_stderr(
            Measured(metric=key.partition(",")[0], value=value, stderr=stderr, count=count), pooled=True
        )
    outcomes: Counter[str] = Counter()
    for task in members:
        outcomes.update(single[task].outcomes)
    failed = outcomes["error"]
    notes = (f"{counted(failed, 'document')} could not be asked and counted as wrong",) if failed else ()
    metric = next(iter(scores), "")
    best = 1.0 if all(single[task].best == 1.0 for task in members) else None
    return TaskResult(
        task=name,
        metric=metric,
        scores=scores,
        outcomes=dict(outcomes),
        metric_outcomes=_summed(scores, [single[task] for task in members]),
        best=best,
        notes=notes,
        **group_details(name, evaluated, {task: single[task] for task in members}),
    )


def _pooled(
    key: str, value: float, members: Sequence[str], evaluated: Mapping[str, Any], items: Mapping[str, Sequence[TaskItem]]
) -> Figure | None:
    """The members' items as one figure, weighted as lm-eval weighted them; None where its value is no mean of items in 0 … 1."""
    raw = [_raw(evaluated["results"][task], key) for task in members]
    sizes = [evaluated["n-samples"][task]["effective"] for task in members]
    rows = [(row, number) for number, task in enumerate(members) for row in items.get(task, ()) if row.metric == key]
    if not rows or len(rows) != sum(sizes) or any(not 0 <= row.score <= 1 for row, _ in rows):
        return None
    by_size = math.isclose(value, sum(v * n for v, n in zip(raw, sizes, strict=True)) / sum(sizes), abs_tol=1e-9)
    if not by_size and not math.isclose(value, sum(raw) / len(raw), abs_tol=1e-9):
        return None
    weights = [float(size) for size in sizes] if by_size else None
    clusters = codes((number, row.cluster) for row, number in rows)
    return weighted_mean([row.score for row, _ in rows], clusters, [number for _, number in rows], weights)


def _summed(metrics: Iterable[str], members: Sequence[TaskResult]) -> dict[str, dict[str, int]]:
    """The outcomes of a group's tasks added up, by metric; without the metrics that a task does not have."""
    summed = {}
    for metric in metrics:
        counts = [task.metric_outcomes[metric] for task in members if metric in task.metric_outcomes]
        if counts and len(counts) == len(members):
            summed[metric] = {outcome: sum(one[outcome] for one in counts) for outcome in counts[0]}
    return summed


def _leaves(name: str, children: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for child in children.get(name, ()):
        if children.get(child):
            yield from _leaves(child, children)
        else:
            yield child


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """(metric, value, standard error) of one row of lm-eval's results, whose keys are "acc,none" and "acc_stderr,none"."""
    for name, value in row.items():
        metric, _, filter_name = name.partition(",")
        if not filter_name or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        stderr = row.get(f"{metric}_stderr,{filter_name}")
        yield _key(metric, filter_name), float(value), float(stderr) if isinstance(stderr, (int, float)) else None


def _raw(row: Mapping[str, Any], key: str) -> float:
    return next(value for name, value, _ in _values(row) if name == key)
