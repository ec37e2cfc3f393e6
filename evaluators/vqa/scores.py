"""From the rows that VLMEvalKit scored to figures with intervals; each figure's value is VLMEvalKit's own, or `agreement.py` says why not.

Accuracies are fractions. MME's points are VLMEvalKit's: per category 100 · (accuracy over questions + accuracy over images whose two
questions are both right), so 200 per category. HallusionBench's are aAcc (questions), fAcc (figures with all questions right) and qAcc
(questions right on all their figures).
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from evaluators.runs.outcomes import count_outcomes, outcomes_by_metric
from evaluators.statistics import codes, linear, mean, weighted_mean
from evaluators.vqa.agreement import PERCEPTION, REASONING, best_split, differences, f1, mean_of_categories, times
from evaluators.vqa.notes import notes_of_replies, notes_of_table
from iit_bench.types import Figure, Outcome, TaskItem, TaskResult

if TYPE_CHECKING:
    from iit_bench.engine.run import Failure

FACTS = "facts.json"  # in TASK of VLMEvalKit's result files: what results.json says of a data set and none of these do
NO_IMAGE = "acc without image"  # metric of the rows that VLMEvalKit leaves out
Reply: TypeAlias = "str | Failure"  # a reply, or why there is none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """One message that the model was asked, and its reply."""

    part: str  # "main" or "no-image"
    index: str  # VLMEvalKit's, of the row
    unit: str  # the question, which circular copies share
    cluster: str  # its image
    reply: Reply  # reasoning before it in <think> marks
    no_answer: bool = False  # it ends inside its reasoning
    at_limit: bool = False  # it ends at the limit of tokens


def task_result(
    task: str, facts: Mapping[str, Any], answered: Sequence[Answered], scored: Mapping[str, Any]
) -> tuple[TaskResult, list[TaskItem]]:
    """Figures of a data set and the items they are made of.

    Args:
        task: the data set.
        facts: line 1 of the worker's prompts file.
        answered: every message, in order.
        scored: the worker's scores file: per part {"kind", "metrics", "rows", "guessed"} or {"failure"}.
    """
    main, extra = scored.get("main"), scored.get("no-image")
    shown = _part(task, "main", main, answered) if main else _Part(metric=NO_IMAGE)
    items, scores, notes, parts = list(shown.items), dict(shown.figures), list(shown.notes), [shown]
    if extra:
        more = _part(task, "no-image", extra | {"kind": _plain_kind(extra)}, answered)
        parts.append(more)
        items += more.items
        scores |= more.figures
        notes += [
            f"{facts['rows no-image']} rows have no image: VLMEvalKit leaves them out of its figures; "
            f"they were asked as text, see {NO_IMAGE!r}",
            *more.notes,
        ]
    notes += notes_of_table(facts)
    if facts["published"] is False:
        notes.append("the table is not the one that VLMEvalKit publishes today (its md5 differs)")
    result = TaskResult(
        task=task,
        state="failed" if any(part.failed for part in parts) else "scored",
        metric=shown.metric,
        scores=scores,
        outcomes=count_outcomes(items),
        metric_outcomes=outcomes_by_metric(items),
        best=shown.best,
        notes=tuple(notes),
        warnings=tuple(warning for part in parts for warning in part.warnings),
        output_type=facts.get("type", ""),
        dataset_class=facts.get("class", ""),
        n_documents=facts.get("rows main"),
        n_without_image=facts.get("rows no-image", 0),
        documents_sha256=facts.get("sha256", ""),
    )
    return result, items


def _plain_kind(scored: Mapping[str, Any]) -> str:
    """Rows without an image have no figures or pairs to be counted by: they are counted one by one, circular copies together."""
    kind: str = scored.get("kind", "other")
    return "yes/no" if kind in ("mme", "hallusion") else kind


# ---------------------------------------------------------------- one part


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """What VLMEvalKit made of one part of a data set."""

    metric: str  # that tables show
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    items: Sequence[TaskItem] = ()
    best: float | None = 1.0  # the highest value that `metric` can take
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    failed: bool = False  # it could not be scored


def _part(task: str, part: str, scored: Mapping[str, Any], answered: Sequence[Answered]) -> _Part:
    mine = [one for one in answered if one.part == part]
    metric = NO_IMAGE if part != "main" else {"mme": "total", "hallusion": "aAcc"}.get(scored.get("kind", ""), "acc")
    if "failure" in scored:
        note = f"VLMEvalKit failed to score it ({scored['failure']}); see vlmeval.log"
        return _Part(metric=metric, figures={metric: Figure(None, n=len(mine), note=note)}, notes=[note], failed=True)
    kind, rows, metrics = scored["kind"], scored["rows"], scored["metrics"]
    if not rows:
        own = own_figures(metrics, len(mine))
        shown = max(own, key=_primary, default=metric)
        return _Part(metric=shown, figures=own or {metric: Figure(None, note="VLMEvalKit gave no number")}, best=None)
    items = _items(rows, mine, task=task, part=part, kind=kind, metric=metric)
    best: float | None = 1.0
    figures: dict[str, Figure] = {}
    if part == "main" and kind == "mme":
        figures, best = mme_points(rows, items)
    elif part == "main" and kind == "hallusion":
        figures = hallusion(rows, items)
    figures |= means(items)
    if part == "main" and kind == "yes/no":
        figures |= _yes_no(task, rows, items, metrics)
    notes, warnings = differences(task, kind, figures[metric], metrics, rows, items) if part == "main" else ([], [])
    notes = [*notes, *notes_of_replies(scored.get("guessed", {}))]
    return _Part(metric=metric, figures=figures, items=items, best=best, notes=notes, warnings=warnings)


def own_figures(metrics: Mapping[str, float], n: int) -> dict[str, Figure]:
    """The figures of a part of a data set, of n messages, whose scores by item VLMEvalKit does not write."""
    return {name: Figure(value, n=n, note="VLMEvalKit's own, without scores by item") for name, value in metrics.items()}


def facts_of(facts: Mapping[str, Any], answered: Sequence[Answered], scored: Mapping[str, Any]) -> dict[str, Any]:
    """What `task_result` (with the same arguments) says of a data set and no result file of VLMEvalKit does, as JSON.

    Returns:
        "documents", "without image": rows of the data set before any limit; "figures": per part without scores by item, the number of
        messages ("n") and VLMEvalKit's numbers ("metrics").
    """
    without = {part: one["metrics"] for part, one in scored.items() if "failure" not in one and not one["rows"]}
    n = Counter(one.part for one in answered)
    figures = {part: {"n": n[part], "metrics": metrics} for part, metrics in without.items()}
    return {"documents": facts.get("rows main"), "without image": facts.get("rows no-image", 0), "figures": figures}


def _primary(name: str) -> tuple[int, str]:
    """Key that sorts VLMEvalKit's column names by how likely one is its main number; ties by name."""
    lower = name.lower()
    return next((10 - i for i, word in enumerate(("overall", "acc", "score", "avg")) if word in lower), 0), name


def _items(
    rows: Sequence[Mapping[str, Any]], answered: Sequence[Answered], *, task: str, part: str, kind: str, metric: str
) -> list[TaskItem]:
    """One item per row that VLMEvalKit scored; the circular copies of a question are one."""
    by_row: dict[str, list[Answered]] = defaultdict(list)
    for one in answered:
        by_row[one.unit if kind == "circular" else one.index].append(one)
    best = best_split(row["split"] for row in rows) if kind in ("choice", "circular") else None  # elsewhere splits are one
    name = "acc" if part == "main" and kind == "mme" else metric
    items = []
    for row in rows:
        copies = by_row[row["index"]]
        outcome = _outcome(row, copies)
        of_split = name if part != "main" or best is None or row["split"] == best else f"{name} {row['split']}"
        reply = "\n".join(one.reply if isinstance(one.reply, str) else "" for one in copies)
        score = 0.0 if outcome == "error" else row["score"]
        items.append(
            TaskItem(
                task=task,
                item=row["index"],
                cluster=copies[0].cluster if copies else row["index"],
                metric=of_split,
                score=score,
                outcome=outcome,
                reply=reply,
            )
        )
    return items


def _outcome(row: Mapping[str, Any], copies: Sequence[Answered]) -> Outcome:
    """Partial credit (ANLS, ten annotators) is in the score; the outcome is "correct" only where it is whole."""
    if any(not isinstance(one.reply, str) for one in copies):
        return "error"
    if row["score"] >= 1:
        return "correct"
    if any(one.no_answer or (one.at_limit and row["unparsed"]) for one in copies):
        return "truncated"
    return "unparsed" if row["unparsed"] else "wrong"


def means(items: Sequence[TaskItem]) -> dict[str, Figure]:
    """The mean of the items of each metric."""
    return {name: _mean([item for item in items if item.metric == name]) for name in dict.fromkeys(item.metric for item in items)}


def _mean(items: Sequence[TaskItem]) -> Figure:
    return mean([item.score for item in items], codes(item.cluster for item in items))


# ---------------------------------------------------------------- POPE, AMBER, VSR


def _yes_no(task: str, rows: Sequence[Mapping[str, Any]], items: Sequence[TaskItem], metrics: Mapping[str, float]) -> dict[str, Figure]:
    """Where VLMEvalKit does not count all questions alike; what is no mean over items is its own figure, without an interval."""
    figures = {}
    if "POPE" in task:
        repeated = [item for item, row in zip(items, rows, strict=True) for _ in range(times(task, row))]
        figures["acc"] = dataclasses.replace(_mean(repeated), n=len(items))
    for name, key, whole in (("F1", "Overall|Overall", 100), ("F1", "f1_score", 1), ("Avg ACC", "Avg ACC", 100)):
        if key in metrics:
            figures[name] = Figure(metrics[key] / whole, n=len(rows), note="VLMEvalKit's own, no interval")
    return figures


def figures_of_table(task: str, metrics: Iterable[str], rows: Sequence[Mapping[str, Any]], items: Sequence[TaskItem]) -> dict[str, Figure]:
    """Those figures of a yes/no data set, by the names that they have here, that take more than its items: VLMEvalKit's table of it.

    Args:
        task: the data set.
        metrics: names of the figures that it has.
        rows: of VLMEvalKit's table `…_auxmatch`, with its columns `answer` and `extracted`.
        items: the rows' items, in the same order.
    """
    wanted, own = set(metrics), {}
    if "F1" in wanted:
        own["f1_score"] = f1(task, rows)
    if "Avg ACC" in wanted:
        right = [float(row["answer"].lower() == row["extracted"].lower()) for row in rows]
        own["Avg ACC"] = 100 * mean_of_categories(rows, right)
    figures = _yes_no(task, rows, items, own)
    if "total" in wanted:
        figures |= mme_points(rows, items)[0]
    if "fAcc" in wanted:
        figures |= {name: figure for name, figure in hallusion(rows, items).items() if name != "aAcc"}
    return figures


# ---------------------------------------------------------------- MME, HallusionBench


def mme_points(rows: Sequence[Mapping[str, Any]], items: Sequence[TaskItem]) -> tuple[dict[str, Figure], float]:
    """Points of perception, reasoning and both, and the highest number of points; each image's two answers give 0, 0.5 or 2 of 2 hundreds.

    Args:
        rows: categories and image paths.
        items: the rows' items, in the same order.
    """
    images: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, item in zip(rows, items, strict=True):
        images[row["category"], row["image_path"]].append(item.score)
    figures = {}
    most = 0.0
    for name, group in (("total", PERCEPTION + REASONING), ("perception", PERCEPTION), ("reasoning", REASONING)):
        chosen = {key: scores for key, scores in images.items() if key[0] in group}
        if not chosen:
            figures[name] = Figure(None, note="no category of this group was asked")
            continue
        values = [(sum(scores) / len(scores) + float(min(scores) == 1)) / 2 for scores in chosen.values()]
        tiers = codes(category for category, _ in chosen)
        points = 200.0 * (int(tiers.max()) + 1)
        most = max(most, points)
        figures[name] = dataclasses.replace(
            linear(weighted_mean(values, range(len(values)), tiers), points, 0.0), method="clustered wilson, of images"
        )
    return figures, most


def hallusion(rows: Sequence[Mapping[str, Any]], items: Sequence[TaskItem]) -> dict[str, Figure]:
    """fAcc and qAcc with the sets of figures as clusters, and the mean of aAcc, fAcc and qAcc that leaderboards show."""
    values: list[float] = []
    clusters: list[str] = []
    kinds: list[int] = []
    figures = {}
    for code, (name, place) in enumerate((("aAcc", None), ("fAcc", 4), ("qAcc", 5))):
        groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for row, item in zip(rows, items, strict=True):
            words = row["index"].split("_")
            own = row["index"] if place is None else words[place]
            groups[row["l2-category"], words[3], own].append(item.score)
        sets = ["/".join(group[:2]) for group in groups]
        right = [min(scores) for scores in groups.values()]
        figures[name] = mean(right, codes(sets))
        values, clusters, kinds = values + right, clusters + sets, kinds + [code] * len(right)
    return {**figures, "mean": weighted_mean(values, codes(clusters), kinds)}
