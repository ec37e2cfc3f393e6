"""Every figure of every run as a row of one long table: value, interval, n, and what it is of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from evaluators.statistics import FEW, few_items
from iit_bench.storage.runs import TaskRun, folder_label
from iit_bench.types import Figure, Ledger, PairedResult, TaskResult
from reports.entries import Entry
from reports.models import Models

METRICS = ("acc", "acc_norm", "acc_bytes")
FEW_NOTE = f"few items: under {FEW} that are so, or that are not"
SCORES = ("iit", "t_score", "v_score", "text_only_score", "subset_score")  # fields of `types.Results`


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one run. Fields that do not apply are "" or None."""

    run: str  # display name, unique in the export
    folder: str  # of the run, or the file of another tool
    model: str  # as given on the command line
    checkpoint_sha256: str = ""  # of the weights; "" where there is none
    suite: str  # iit | text | vqa
    tool: str = ""  # the other tool that measured it; "" = iit-bench
    benchmark: str = ""  # suite iit: the benchmark's rows_sha256
    scoring: str = ""  # suite iit: loglikelihood | generate
    style: str = ""  # suite iit: cloze | options | letters
    history: str = ""  # suite iit: gold | own
    kind: str  # score | tier | part | position | interleaving | forgetting | ledger | decision | task
    over: str  # name of the score, tier or task; of a ledger "by: part"
    against: str = ""  # paired figures: what they are compared with
    source: str = ""  # parts: Question.source
    subject: str = ""  # parts: Question.subject
    position: int | None = None  # positions: 0-based turn
    metric: str  # acc, acc_norm, …; of paired figures: difference, retention; of a ledger: lost, kept, …
    value: float | None  # None = the figure does not exist; `note` says why
    low: float | None = None  # of the 95% interval
    high: float | None = None  # of the 95% interval
    se: float | None = None  # standard error
    n: int | None = 0  # items; None = not known
    clusters: int | None = 0  # independent clusters among them
    chance: float | None = None  # accuracy of a uniform guess
    p: float | None = None  # paired figures: two-sided
    p_holm: float | None = None  # paired figures: Holm-adjusted
    only_a: int | None = None  # paired figures: items that only A has right
    only_b: int | None = None  # paired figures: items that only B has right
    method: str = ""  # of the interval, or of the test
    note: str = ""  # why there is no value or interval, or what a reader must know


COLUMNS = tuple(field.name for field in fields(Row))


def rows_of(entries: list[Entry], models: Models) -> Iterator[Row]:
    """The figures of IIT runs in the order of the leaderboard, then those of the other suites' runs."""
    for entry in entries:
        yield from _of_entry(entry)
    for run in models.runs:
        name = next(row.name for row in models.rows if any(models.runs[place] is run for place in row.runs))
        yield from _of_tasks(run, name)


# ---------------------------------------------------------------- suite iit


def _of_entry(entry: Entry) -> Iterator[Row]:
    header, results = entry.header, entry.run.results
    common: dict[str, Any] = {
        "run": entry.name,
        "folder": folder_label(entry.run.path),
        "model": str(entry.model["name"]),
        "checkpoint_sha256": str(entry.model["checkpoint_sha256"]),
        "suite": "iit",
        "tool": str(header.get("tool", "")),
        "benchmark": str(header["benchmark"]["rows_sha256"]),
        **{name: str(header[name]) for name in ("scoring", "style", "history")},
    }
    for name in SCORES:
        for metric, figure in getattr(results, name).items():
            yield _row(common, figure, kind="score", over=name, metric=metric)
    for tier in results.tiers:
        for metric in (*METRICS, "acc_strict", "acc_corrected"):
            yield _row(common, getattr(tier, metric), kind="tier", over=tier.tier, metric=metric, chance=tier.chance)
    for part in results.breakdown:
        of = {"source": part.source, "subject": part.subject, "chance": part.chance}
        for metric in ("acc", "acc_norm"):
            yield _row(common, getattr(part, metric), kind="part", over=part.tier, metric=metric, **of)
    for turn in results.positions:
        for metric in ("acc", "acc_norm"):
            figure = getattr(turn, metric)
            yield _row(common, figure, kind="position", over=turn.tier, position=turn.position, metric=metric, chance=turn.chance)
    for paired in results.interleaving:
        yield _paired(common, paired, "interleaving", paired.against)
    if results.decision is not None and not results.decision.note:
        yield _row(common, results.decision.loss, kind="decision", over="T*", metric="difference")
    if forgotten := results.forgetting:
        for paired in (*forgotten.per_tier, forgotten.pooled):
            yield _paired(common, paired, "forgetting", forgotten.base)
        for metric in ("base_acc", "acc", "retention"):
            yield _row(common, getattr(forgotten, metric), kind="forgetting", over="T*", against=forgotten.base, metric=metric)
        if forgotten.ledger is not None:
            yield from _ledger(common, forgotten.ledger, forgotten.base)


def _ledger(common: dict[str, Any], ledger: Ledger, base: str) -> Iterator[Row]:
    for part in ledger.parts:
        few = few_items(part.counts)
        for suffix, figures in (("", part.rates), (" corrected", part.corrected)):
            for transition, figure in figures.items():
                noted = replace(figure, note="; ".join(filter(None, (figure.note, FEW_NOTE if transition in few else ""))))
                yield _row(common, noted, kind="ledger", over=f"{part.by}: {part.part}", against=base, metric=transition + suffix)


def _paired(common: dict[str, Any], paired: PairedResult, kind: str, against: str) -> Row:
    tested = {name: getattr(paired, name) for name in ("p", "p_holm", "only_a", "only_b")}
    row = _row(common, paired.difference, kind=kind, over=paired.over, against=against, metric="difference")
    return Row(**asdict(row) | tested | {"method": "; ".join(filter(None, (row.method, paired.test)))})


# ---------------------------------------------------------------- suites text and vqa


def _of_tasks(run: TaskRun, name: str) -> Iterator[Row]:
    model = run.run["model"]
    common: dict[str, Any] = {
        "run": name,
        "folder": folder_label(run.path),
        "model": str(model["name"]),
        "checkpoint_sha256": str(model.get("checkpoint_sha256") or ""),
        "suite": run.results.suite,
        "tool": str(run.run.get("tool", "")),
    }
    for result in run.results.tasks:
        for metric, figure in result.scores.items():
            noted = _noted(figure, result, metric)
            yield _row(common, noted, kind="task", over=result.task, metric=metric, chance=result.chance.get(metric))


def _noted(figure: Figure, result: TaskResult, metric: str) -> Figure:
    """The figure; the task's notes and warnings go with the metric that tables show."""
    if metric != result.metric:
        return figure
    return Figure(**asdict(figure) | {"note": "; ".join(filter(None, (figure.note, *result.notes, *result.warnings)))})


def _row(common: dict[str, Any], figure: Figure, **of: Any) -> Row:
    measured = {name: getattr(figure, name) for name in ("value", "low", "high", "se", "n", "clusters", "method", "note")}
    if figure.value is not None and not figure.n:
        measured |= {"n": None, "clusters": None}
    return Row(**common, **measured, **of)
