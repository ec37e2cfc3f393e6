"""The figures of a run folder without a seal, or of an earlier format version, computed again from its predictions or items.

Where items do not suffice (a figure that the tool's own standard error gave, or that weighs items by what items.parquet does not hold), the
stored figure is kept and the task's notes name it. A stored mean of 1 is kept only if it follows from the items: earlier versions took
partial credits none of which is 0 for full marks. What takes VLMEvalKit's table in the folder (MME's points, which they got wrong likewise,
F1 and the like) is computed from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from evaluators.iit import comparison, forgetting
from evaluators.iit.columns import Turns
from evaluators.iit.results import summarise
from evaluators.runs.made_again import COUNTED_OFTEN, by_table
from evaluators.runs.outcomes import outcomes_by_metric
from evaluators.statistics import codes, mean, weighted_mean
from iit_bench.errors import UserError
from iit_bench.storage.format import sha256_file
from iit_bench.storage.runs import IitRun, Run, TaskRun, folder_label, load_run
from iit_bench.types import Figure, Forgetting, Results, SuiteResults, TaskItem, TaskResult

Items = Mapping[tuple[str, str], Sequence[TaskItem]]  # (task, metric) -> its items


def recomputed(run: Run[Any]) -> Run[Any]:
    """The run with its figures recomputed; what cannot be is as it was stored."""
    of_iit = isinstance(run.results, Results)
    return dataclasses.replace(run, results=_iit(run) if of_iit else _tasks(run))


def own_figures(run: IitRun) -> Results:
    """All figures that the run's predictions give; forgetting, which takes another run, and what is no figure as they were stored."""
    turns, stored = Turns.of_run(run), run.results
    answered = turns.take(turns.is_target).by_tier()
    unavailable = {result.tier: result.acc.note for result in stored.tiers if result.tier not in answered}
    results = summarise(turns, unavailable, stored.complete, run.run["benchmark"]["tiers"])
    return dataclasses.replace(results, forgetting=stored.forgetting, advice=stored.advice, decision=stored.decision)


def _iit(run: IitRun) -> Results:
    """All figures; those of forgetting where the base run is found."""
    stored = run.results.forgetting
    return dataclasses.replace(own_figures(run), forgetting=stored and _forgetting(run, stored))


def _forgetting(run: IitRun, stored: Forgetting) -> Forgetting:
    """Measured again against the base run, where it is found.

    Else it has no values where an earlier version computed them otherwise, and is as it was stored where only the seal is missing.
    """
    again = next((again for path in _bases(run, stored) if (again := _against(path, run, stored))), None)
    if again is None and not run.outdated:
        return stored
    why = f"the base run {stored.base_run!r} was not found, and an earlier iit-bench made the stored figures"
    return again or forgetting.unknown(stored, why)


def _bases(run: IitRun, stored: Forgetting) -> list[Path]:
    """Where the base run may be: as it was named, beside the run, and beside the folder of `--suite all` that the run is part of."""
    named = run.run.get("arguments", {}).get("base")
    beside = [folder / stored.base_run for folder in (run.path.absolute().parent, run.path.absolute().parent.parent)]
    return [*([Path(named), Path(named) / "iit"] if named else []), *beside]


def forgetting_again(run: IitRun) -> Forgetting | None:
    """Forgetting of a run, measured again against its base; None where there is none, or the base is not there as it was.

    It is there where a run of its name, in a folder of its name, is asked alike, has the same tiers, and has not been written since.
    """
    stored = run.results.forgetting
    for path in _bases(run, stored) if stored is not None else ():
        if stored is None or folder_label(path) != stored.base_run or not (path / "run.json").is_file():
            continue
        try:
            base = _base(path, _written(path))
            comparison.check_comparable(run.run, base.run, subset=True)
            if base.run["name"] != stored.base or not (base.run["ended"] or "never") <= (run.run["ended"] or ""):
                continue
            again = forgetting.forgetting(Turns.of_run(run), Turns.of_run(base), stored.base, stored.base_run)
        except UserError:
            continue
        if again.tiers == stored.tiers:
            ledger = again.ledger if stored.ledger is not None else None  # a run of before there were ledgers
            return dataclasses.replace(again, asked_apart=stored.asked_apart, ledger=ledger)
    return None


def base_as_it_was(run: IitRun) -> IitRun | None:
    """The base of a run until decided, whose predictions have the hash that its run.json names; None where it is not there."""
    stored, digest = run.results.forgetting, (run.run.get("until") or {}).get("base_sha256")
    for path in _bases(run, stored) if stored is not None and digest else ():
        table = path / "predictions.parquet"
        if table.is_file() and sha256_file(table) == digest:
            try:
                return _base(path, _written(path))
            except UserError:
                continue
    return None


@lru_cache(maxsize=1)  # many runs of a report have one base
def _base(path: Path, written: tuple[int, ...]) -> IitRun:
    """The run at a path, as it was last written."""
    return load_run(path, "iit")


def _written(path: Path) -> tuple[int, ...]:
    return tuple(one.stat().st_mtime_ns for name in ("run.json", "results.json", "predictions.parquet") if (one := path / name).is_file())


def _against(path: Path, run: IitRun, stored: Forgetting) -> Forgetting | None:
    """Forgetting against the run at `path`, if it is the base: asked alike, and as accurate on as many items as was stored."""
    if not (path / "run.json").is_file():
        return None
    try:
        base = load_run(path, "iit")
        comparison.check_comparable(run.run, base.run, subset=True)
        again = forgetting.forgetting(Turns.of_run(run), Turns.of_run(base), stored.base, stored.base_run)
    except UserError:
        return None
    pairs = ((again.base_acc, stored.base_acc), (again.acc, stored.acc))
    if not all(_equal(new, old) for new, old in pairs):
        return None
    return dataclasses.replace(again, asked_apart=comparison.asked_apart(base.run, run.run))


def _equal(a: Figure, b: Figure) -> bool:
    same = a.value == b.value if a.value is None or b.value is None else math.isclose(a.value, b.value, abs_tol=1e-9)
    return same and a.n == b.n


def _tasks(run: TaskRun) -> SuiteResults:
    items = items_by_metric(run.items)
    return dataclasses.replace(run.results, tasks=tuple(_task(run, result, items) for result in run.results.tasks))


def items_by_metric(rows: Sequence[TaskItem]) -> Items:
    """The items of each task by metric."""
    items: dict[tuple[str, str], list[TaskItem]] = {}
    for row in rows:
        items.setdefault((row.task, row.metric), []).append(row)
    return items


def _task(run: TaskRun, stored: TaskResult, items: Items) -> TaskResult:
    scores, kept = {}, []
    rows = [row for (task, _), of_metric in items.items() if task in (stored.members or (stored.task,)) for row in of_metric]
    counted = by_table(run, stored, rows).scores if run.results.suite == "vqa" else {}
    for metric, figure in stored.scores.items():
        again = (counted.get(metric) or figure_of_items(stored, metric, items)) if figure.value is not None else None
        scores[metric] = again or figure
        if again is None and figure.value is not None:
            kept.append(metric)
    note = f"{', '.join(kept)}: as stored by an earlier iit-bench, since it cannot be recomputed from the items"
    notes = (*stored.notes, note) if kept else stored.notes
    return dataclasses.replace(stored, scores=scores, notes=notes, metric_outcomes=outcomes_by_metric(rows))


def parts_of(stored: TaskResult, metric: str, items: Items) -> list[Sequence[TaskItem]]:
    """The items that a figure was made from, per task; [] where its interval did not come from items, or weighs some twice."""
    figure = stored.scores[metric]
    if figure.low is None or figure.from_stderr or COUNTED_OFTEN in stored.task:
        return []
    return [rows for task in stored.members or (stored.task,) if (rows := items.get((task, metric)))]


def figure_of_items(stored: TaskResult, metric: str, items: Items) -> Figure | None:
    """None where the stored value is no mean of the items, or its interval did not come from them."""
    figure, parts = stored.scores[metric], parts_of(stored, metric, items)
    if figure.value is None or not parts:
        return None
    scores = [[row.score for row in rows] for rows in parts]
    everything = list(chain.from_iterable(scores))
    if len(everything) != figure.n:
        return None
    by_size = math.isclose(sum(everything) / len(everything), figure.value, abs_tol=1e-9)
    if figure.value == 1 and all(everything) and not by_size:  # credits without a 0, once taken for full marks
        unknown = Figure(None, n=figure.n, note="an earlier iit-bench stored 1, which is not the mean of the items")
        return mean(everything, codes(row.cluster for rows in parts for row in rows)) if stored.members is None else unknown
    if stored.members is None:
        return mean(everything, codes(row.cluster for rows in parts for row in rows)) if by_size else None
    equally = math.isclose(sum(sum(part) / len(part) for part in scores) / len(scores), figure.value, abs_tol=1e-9)
    if not by_size and not equally:
        return None
    strata = [number for number, part in enumerate(scores) for _ in part]
    weights = [float(len(part)) for part in scores] if by_size else None
    clusters = codes((number, row.cluster) for number, part in enumerate(parts) for row in part)
    return weighted_mean(everything, clusters, strata, weights)
