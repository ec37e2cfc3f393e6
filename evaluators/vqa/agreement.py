"""Whether our figure of a data set is VLMEvalKit's own; if not, why, or that nobody knows why.

VLMEvalKit's figure is computed again from the rows that it scored, by its own way of counting, without `evaluators.statistics`. A
difference is explained only where this gives VLMEvalKit's number exactly; any other is a warning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_bench.types import Figure, TaskItem

TOLERANCE = 1e-9
SPLITS = ("test", "validation", "val", "dev")  # best first, as VLMEvalKit chooses its primary metric
PERCEPTION = ("OCR", "artwork", "celebrity", "color", "count", "existence", "landmark", "position", "posters", "scene")
REASONING = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")
# AMBER's categories, as VLMEvalKit joins them before it averages over them; other categories are their own.
_AMBER = {f"discriminative-attribute-{kind}": "Attribute" for kind in ("state", "number", "action")}
_AMBER |= {"discriminative-hallucination": "Existence", "discriminative-relation": "Relation", "relation": "Relation"}

Rows = Sequence[Mapping[str, Any]]


def best_split(splits: Iterable[str | None]) -> str | None:
    """The split whose figure is the data set's: the first of SPLITS that is present, else the first by name; None if there are none."""
    present = set(splits)
    return next((name for name in SPLITS if name in present), min((name for name in present if name), default=None))


def differences(
    task: str, kind: str, figure: Figure, metrics: Mapping[str, float], rows: Rows, items: Sequence[TaskItem]
) -> tuple[list[str], list[str]]:
    """Notes on explained differences between our main figure and VLMEvalKit's, and warnings of unexplained ones.

    Args:
        task: the data set.
        kind: how it is scored, as `evaluators.vqa.datasets.kind_of` names it.
        figure: our main figure.
        metrics: VLMEvalKit's figures by name.
        rows: what VLMEvalKit scored.
        items: our items of these rows, in the same order; a failed one has score 0.
    """
    theirs = _main_figure(task, kind, metrics, rows)
    if figure.value is None or not rows:
        return [], []
    if theirs is None:
        return ["VLMEvalKit gave no figure of this kind to compare with; ours is the mean over the rows that it scored"], []
    if _close(theirs, figure.value):
        return [], []
    scored, ours = [float(row["score"]) for row in rows], [item.score for item in items]
    if not _close(figure.value, counted(task, kind, rows, ours)) or not _close(theirs, counted(task, kind, rows, scored, amber=True)):
        why = "the rows that it scored do not explain the difference: trust neither figure before it is understood"
        return [], [f"VLMEvalKit's own figure is {theirs:.6g}, ours {figure.value:.6g}; {why}"]
    failed = sum(item.outcome == "error" for item in items)
    reasons = [f"{failed} items failed, which count as wrong here"] if scored != ours else []
    reasons += ["the mean over its categories, which count alike"] if task == "AMBER" else []
    return [f"VLMEvalKit's own figure is {theirs:.6g} ({'; '.join(reasons)})"], []


def counted(task: str, kind: str, rows: Rows, scores: Sequence[float], amber: bool = False) -> float:
    """The main figure of rows with these scores: a fraction, or points of MME. Plain sums, apart from `evaluators.statistics`.

    Args:
        task: the data set.
        kind: how it is scored.
        rows: the rows' categories, splits and images.
        scores: one per row.
        amber: count AMBER as VLMEvalKit's main figure of it does, not as our accuracy.
    """
    pairs = list(zip(rows, scores, strict=True))
    if kind in ("choice", "circular"):
        split = best_split(row["split"] for row in rows)
        pairs = [(row, score) for row, score in pairs if split is None or row["split"] == split]
    if kind == "mme":
        return _mme(pairs)
    if task == "AMBER" and amber:
        return mean_of_categories(rows, scores)
    if "POPE" in task and kind == "yes/no":
        return _mean([score for row, score in pairs for _ in range(times(task, row))])
    return _mean([score for _, score in pairs])


def times(task: str, row: Mapping[str, Any]) -> int:
    """How often VLMEvalKit counts a row: in POPE once in each of its categories, which commas separate."""
    return str(row["category"]).count(",") + 1 if "POPE" in task else 1


def mean_of_categories(rows: Rows, scores: Sequence[float]) -> float:
    """AMBER's "Avg ACC", a fraction: the mean of its categories' means."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for row, score in zip(rows, scores, strict=True):
        groups[_AMBER.get(row["category"], row["category"])].append(score)
    return _mean([_mean(group) for group in groups.values()])


def f1(task: str, rows: Rows) -> float:
    """F1 of "Yes" over rows with VLMEvalKit's columns `answer` and `extracted`; 0 where it is neither an answer nor a reply."""
    hits = misses = 0
    for row in rows:
        gold, said = row["answer"] == "Yes", row["extracted"] == "Yes"
        hits += times(task, row) * (gold and said)
        misses += times(task, row) * (gold != said)
    return 2 * hits / (2 * hits + misses) if hits else 0.0


def _mme(pairs: Sequence[tuple[Mapping[str, Any], float]]) -> float:
    """Per category 100 · accuracy over questions + 100 · accuracy over images whose two questions are both right."""
    of_image: dict[Any, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, score in pairs:
        of_image[row["category"]][row["image_path"]].append(score)
    points = 0.0
    for category in PERCEPTION + REASONING:
        if images := of_image.get(category):
            points += 100 * _mean([score for scores in images.values() for score in scores])
            points += 100 * _mean([float(scores[0] * scores[1]) if len(scores) > 1 else 0.0 for scores in images.values()])
    return points


def _main_figure(task: str, kind: str, metrics: Mapping[str, float], rows: Rows) -> float | None:
    """VLMEvalKit's own number for our main figure, in the same unit; None if it gave none."""
    if kind in ("choice", "circular"):
        if task == "MMVP":  # its "Overall" counts pairs of questions
            return metrics.get("Average")
        split = best_split(row["split"] for row in rows)
        return metrics.get("Overall" if split in (None, "none") else f"{split}|Overall")
    if kind == "mme":
        known = [metrics[name] for name in ("perception", "reasoning") if name in metrics]
        return sum(known) if known else None
    names = ("Overall|aAcc", "Overall|acc", "Overall", "acc", "Avg ACC")
    percent = next((metrics[name] for name in names if name in metrics), None)
    return None if percent is None else percent / 100


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(1.0, abs(one))
