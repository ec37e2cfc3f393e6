"""Which answers of a run are shown: by outcome, tier, source, subject, item, and by what became of them since a base run."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from evaluators.iit.columns import Turns
from evaluators.iit.comparison import check_comparable
from evaluators.iit.ledger import transitions
from evaluators.runs.reading import is_iit, is_of_tasks, read_runs
from evaluators.show.records import Key, reasons
from iit_bench.errors import UserError
from iit_bench.storage.runs import AnyRun, TaskRun
from iit_bench.types import Outcome, Prediction, TaskItem

RowT = TypeVar("RowT", Prediction, TaskItem)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What `iit-bench show` and `iit-bench diff` keep; an empty field keeps all."""

    outcomes: tuple[Outcome, ...] = ()  # any of them
    tiers: tuple[str, ...] = ()  # any of them, as "VT"
    sources: tuple[str, ...] = ()  # of suite iit sources, of the suites text and vqa tasks
    subjects: tuple[str, ...] = ()
    items: tuple[str, ...] = ()  # ids of dialogues, of their targets, or of items of a task
    lost_against: Path | None = None  # a base run that has these items right, and this one not
    gained_against: Path | None = None  # a base run that has these items wrong, and this one right

    def in_words(self) -> str:
        """For the sentence that nothing was found."""
        parts = [*self.outcomes, *(f"tier {name}" for name in self.tiers), *(f"source {name}" for name in self.sources)]
        parts += [*(f"subject {name}" for name in self.subjects), *(f"item {name}" for name in self.items)]
        against = (("lost", self.lost_against), ("gained", self.gained_against))
        parts += [f"{word} against {str(base)!r}" for word, base in against if base is not None]
        return ", ".join(parts) or "any answer"


ALL = Filter()


@dataclass(frozen=True, kw_only=True)
class Rows(Generic[RowT]):
    """The answers of a run in their order, and which of them a filter keeps."""

    run: AnyRun
    name: str
    rows: dict[Key, RowT]
    kept: frozenset[Key]
    why: dict[Key, str]  # of answers that are errors
    earlier: dict[str, list[str]]  # own history: dialogue -> the model's replies to the turns before its target

    @property
    def places(self) -> frozenset[Key]:
        """Every item that was scored."""
        return frozenset(self.rows)


def one_run(path: Path) -> AnyRun:
    """The one run that a path stands for.

    Raises:
        UserError: it is none, or holds several.
    """
    runs = read_runs(path)
    if len(runs) > 1:
        named = ", ".join(repr(str(run.path)) for run in runs[:3])
        raise UserError(f"{str(path)!r} holds {len(runs)} runs ({named}{', …' if len(runs) > 3 else ''}); name one of them")
    return runs[0]


def rows_of(run: AnyRun, only: Filter, by_outcome: bool = True) -> Rows[Any]:
    """The answers of a run, and those that a filter keeps; `by_outcome` False leaves outcomes and transitions out of account.

    Raises:
        UserError: the filter names a tier, source, subject or item that the run does not have, or a base that it cannot be compared with.
    """
    if is_iit(run):
        targets: dict[Key, Prediction] = {(row.dialogue, row.position): row for row in run.predictions if row.is_target}
        return _kept(run, targets, only, _TURN, by_outcome, _earlier(run.predictions) if run.run["history"] == "own" else {})
    assert is_of_tasks(run)
    if only.tiers or only.subjects:
        raise UserError(
            f"run {str(run.path)!r} is of suite {run.run['suite']}, which has no tiers and subjects; filter by --source and --item"
        )
    return _kept(run, shown_items(run), only, _ITEM, by_outcome, {})


def _earlier(predictions: Sequence[Prediction]) -> dict[str, list[str]]:
    replies: dict[str, list[str]] = {}
    for row in sorted(predictions, key=lambda row: row.position):
        if not row.is_target:
            replies.setdefault(row.dialogue, []).append(row.reply)
    return replies


def shown_items(run: TaskRun) -> dict[Key, TaskItem]:
    """Each item once, by the metric that tables show of its task."""
    metrics = {result.task: result.metric for result in run.results.tasks if not result.members}
    items: dict[Key, TaskItem] = {}
    for item in run.items:
        key = (item.task, item.item)
        if key not in items or item.metric == metrics.get(item.task):
            items[key] = item
    return items


_WHOLE = {"limit": None, "until": None}  # what a run.json says of a whole run

_TURN: dict[str, Callable[[Any], Sequence[str]]] = {
    "tiers": lambda row: (row.tier,),
    "sources": lambda row: (row.source,),
    "subjects": lambda row: (row.subject,),
    "items": lambda row: (row.dialogue, row.group),
}
_ITEM: dict[str, Callable[[Any], Sequence[str]]] = {
    "sources": lambda row: (row.task,),
    "items": lambda row: (row.item, f"{row.task}/{row.item}"),
}


def _kept(
    run: AnyRun,
    rows: dict[Key, Any],
    only: Filter,
    fields: dict[str, Callable[[Any], Sequence[str]]],
    by_outcome: bool,
    earlier: dict[str, list[str]],
) -> Rows[Any]:
    kept = set(rows)
    for field, names_of in fields.items():
        wanted = set(getattr(only, field))
        if wanted:
            there = {name for row in rows.values() for name in names_of(row)}
            if unknown := sorted(wanted - there):
                raise UserError(_unknown(run, field.removesuffix("s"), unknown[0], sorted(there)))
            kept = {key for key in kept if wanted.intersection(names_of(rows[key]))}
    if by_outcome:
        if only.outcomes:
            kept = {key for key in kept if rows[key].outcome in only.outcomes}
        for wanted_transition, base in (("lost", only.lost_against), ("gained", only.gained_against)):
            if base is not None:
                kept &= _moved(run, rows, one_run(base), wanted_transition, kept)
    return Rows(run=run, name=str(run.run["name"]), rows=rows, kept=frozenset(kept), why=reasons(run.errors), earlier=earlier)


def _unknown(run: AnyRun, what: str, name: str, there: Sequence[str]) -> str:
    shown = ", ".join(there) if len(there) <= 20 else f"{', '.join(there[:3])}, … ({len(there)})"
    return f"run {str(run.path)!r} has no {what} {name!r}; it has {shown or 'none'}"


def _moved(run: AnyRun, rows: dict[Key, Any], base: AnyRun, wanted: str, kept: Set[Key]) -> set[Key]:
    """The items of a transition, lost or gained, among those that both runs finished.

    Raises:
        UserError: the two are not of one suite, or were not asked the same; or the base was asked none of the items that are `kept`.
    """
    if is_iit(run) and is_iit(base):
        # Only turns that both finished count, so one of the runs may be a subset: limited, or decided early.
        check_comparable({**run.run, **_WHOLE}, {**base.run, **_WHOLE})
        moves = transitions(Turns.of_run(run), Turns.of_run(base))
        if kept and not kept & moves.keys():
            raise UserError(
                f"base {str(base.path)!r} answered none of the {len(kept):,} items that the other filters keep; its tiers are "
                f"{', '.join(base.run['tiers'])}"
            )
        return {key for key, moved in moves.items() if moved == wanted}
    if is_iit(run) or is_iit(base):
        raise UserError(f"runs {str(run.path)!r} and {str(base.path)!r} are of different suites; name a base of suite {run.run['suite']}")
    assert is_of_tasks(base)
    others = shown_items(base)
    had, has = (True, False) if wanted == "lost" else (False, True)
    finished = [key for key, row in rows.items() if key in others and "error" not in (row.outcome, others[key].outcome)]
    return {key for key in finished if (others[key].outcome == "correct", rows[key].outcome == "correct") == (had, has)}
