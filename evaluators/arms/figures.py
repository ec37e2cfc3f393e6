"""What the change of each arm costs a run (docs/spec/iit.md#gap-of-an-arm); reads run folders only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluators import statistics
from evaluators.arms.names import ARMS, FOLDER
from evaluators.iit import comparison
from evaluators.iit.columns import Turns
from evaluators.iit.results import Pairs
from evaluators.runs.header import what_differs
from iit_bench.storage.runs import IitRun, load_run
from iit_bench.types import Figure, PairedResult

AGAINST = "the arm"  # side B of a gap


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How stable a model's choices are under other orders of the choices."""

    flip_rate: Figure  # share of items whose choice is not the same in all orders
    always_right: Figure  # share that is right in all of them
    accuracy: tuple[Figure, ...]  # with choices moved by 0, 1, 2, … places, over the items that have more choices than that


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """The figures of one arm of a run. Where there are none, they have no value and a `note`."""

    arm: str  # a name of `ARMS`
    path: Path  # its run folder
    run: IitRun | None  # as it is there; None where it is not finished
    acc: Figure  # of the run, over the items both finished
    arm_acc: Figure  # of the arm, over the same items
    per_tier: tuple[PairedResult, ...]  # run (A) minus arm (B), positive = what the change costs; Holm over the tiers
    pooled: PairedResult  # over all its tiers; Holm over the arms of the run
    left_out: Mapping[str, int]  # key of `names.REASONS` → dialogues that are not asked
    orders: Orders | None = None  # of arm `reordered`


def arms_of(run: IitRun) -> tuple[ArmFigures, ...]:
    """The arms of a run that are in its folder, in the order of `ARMS`.

    Raises:
        UserError: a run folder in it is damaged.
    """
    folders = {name: run.path / FOLDER / name for name in ARMS}
    there = {name: folder for name, folder in folders.items() if (folder / "run.json").is_file()}
    if not there:
        return ()
    turns = Turns.of_run(run)
    found = [_of(run, turns, name, folder) for name, folder in there.items()]
    pooled = statistics.with_holm([one.pooled for one in found])
    return tuple(replace(one, pooled=result) for one, result in zip(found, pooled, strict=True))


def arm_run(run: IitRun, name: str) -> IitRun | None:
    """An arm of a run, if it is finished and was asked of the same model in the same way."""
    folder = run.path / FOLDER / name
    if not (folder / "results.json").is_file():
        return None
    arm = load_run(folder, "iit")
    return None if _why_other(run, arm) else arm


def pairs_of(run: Turns, arm: Turns, name: str) -> dict[str, Pairs]:
    """Targets of a run and of its arm by tier, in tier order."""
    return comparison.pair_targets(run, arm, reordered=name == "reordered")


def _of(run: IitRun, turns: Turns, name: str, folder: Path) -> ArmFigures:
    if not (folder / "results.json").is_file():
        return _nothing(name, folder, None, "not finished; the same `iit-bench arms` resumes it")
    arm = load_run(folder, "iit")
    if why := _why_other(run, arm):
        return _nothing(name, folder, arm, f"of another run than this ({why})")
    pairs = pairs_of(turns, Turns.of_run(arm), name)
    if not pairs:
        return _nothing(name, folder, arm, "no target in common with the run")
    whole = Pairs.concat(list(pairs.values()))
    done = whole.finished()
    dependence = done.dependence()
    return ArmFigures(
        arm=name,
        path=folder,
        run=arm,
        acc=statistics.mean(done.a.acc, dependence),
        arm_acc=statistics.mean(done.b.acc, dependence),
        per_tier=comparison.per_tier(pairs, AGAINST),
        pooled=comparison.pool(pairs, pairs, _pool_name(name), AGAINST),
        left_out=dict(arm.run.get("left_out") or {}),
        orders=_orders(run, arm, whole) if name == "reordered" else None,
    )


def _why_other(run: IitRun, arm: IitRun) -> str:
    """In what an arm was asked otherwise than its run; "" where it was asked alike. Its limit, tiers and batches are its own."""
    own = {key: run.run.get(key) for key in ("arm", "limit", "until", "tiers", "engine", "batch_tokens", "arguments") if key in run.run}
    return "; ".join(what_differs(run.run, {**arm.run, "arm": "", **own}))


def _pool_name(name: str) -> str:
    return f"{ARMS[name].targets}*"


def _nothing(name: str, folder: Path, run: IitRun | None, why: str) -> ArmFigures:
    figure = Figure(None, note=why)
    pooled = PairedResult(over=_pool_name(name), against=AGAINST, difference=figure)
    left_out = dict(run.run.get("left_out") or {}) if run else {}
    return ArmFigures(arm=name, path=folder, run=run, acc=figure, arm_acc=figure, per_tier=(), pooled=pooled, left_out=left_out)


# ---------------------------------------------------------------- orders of choices


def _orders(run: IitRun, arm: IitRun, pairs: Pairs) -> Orders:
    """Of the items that have a result in every order, by components of group and cluster and by history cluster."""
    chosen = _chosen(run, arm)
    dialogues = [pairs.a.dialogue.names[code] for code in pairs.a.dialogue.code]
    whole = np.array([dialogue in chosen for dialogue in dialogues], dtype=np.bool_) & pairs.a.finished & pairs.b.finished
    kept = Pairs(pairs.a.take(whole), pairs.b.take(whole))
    rows = [chosen[dialogue] for dialogue, keep in zip(dialogues, whole, strict=True) if keep]
    answers = kept.a.answer.tolist()
    flipped = [len(set(row)) > 1 for row in rows]
    right = [set(row) == {answer} for row, answer in zip(rows, answers, strict=True)]
    dependence = kept.dependence()
    return Orders(
        flip_rate=statistics.mean(flipped, dependence),
        always_right=statistics.mean(right, dependence),
        accuracy=tuple(_accuracy(kept, rows, answers, places) for places in range(max(map(len, rows), default=0))),
    )


def _accuracy(kept: Pairs, rows: Sequence[Sequence[int]], answers: Sequence[int], places: int) -> Figure:
    """With choices moved by so many places."""
    has = np.array([len(row) > places for row in rows], dtype=np.bool_)
    right = [row[places] == answer for row, answer in zip(rows, answers, strict=True) if len(row) > places]
    return statistics.mean(right, Pairs(kept.a.take(has), kept.b.take(has)).dependence())


def _chosen(run: IitRun, arm: IitRun) -> dict[str, tuple[int, ...]]:
    """Per dialogue with a result in every order: the chosen index in the question's own order, moved by 0, 1, 2, … places; -1 = none."""
    table = run.prediction_columns(("dialogue", "is_target", "chosen"))
    dialogues, targets, own = (table[name].to_pylist() for name in ("dialogue", "is_target", "chosen"))
    first = {dialogue: chosen for dialogue, target, chosen in zip(dialogues, targets, own, strict=True) if target}
    moved = arm.prediction_columns(("dialogue", "moved_choices"))
    return {
        dialogue: (first[dialogue], *others)
        for dialogue, others in zip(moved["dialogue"].to_pylist(), moved["moved_choices"].to_pylist(), strict=True)
        if others and dialogue in first
    }
