"""All that is reported about the cells of an experiment, computed once for the page and for the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.lab.answers import AFTER, TEXT, VQA, Grid, Key, of_tier
from evaluators.lab.attention import ShiftFigures, shift
from evaluators.lab.claims import FULL, EqualVqa, Pairing, Test, ablated, at_equal, claims, pairings
from evaluators.lab.effects import Effect, accuracy, change
from evaluators.lab.sources import SourceFigures, by_source
from iit_bench.lab.cells import BASE, CellResult, Count

PATH = ("V", "T", "VT")  # dev scores that are reported along a training
PROJECTOR = "projector"  # name of the method in a grid


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """One method at one rate."""

    key: Key
    seeds: int
    text: Effect  # change against the base LLM
    after: Effect  # the same, of text after an image
    vqa: Effect  # accuracy
    tiers: Mapping[str, Effect]  # tier -> accuracy


@dataclass(frozen=True, kw_only=True)
class PathFigures:
    """Dev accuracies of one method at one rate along its training, over all seeds: counts only, so without intervals."""

    key: Key
    seeds: int
    by_step: Mapping[int, Mapping[str, float]]  # step -> V, T, VT -> accuracy


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a method costs: means over its cells."""

    method: str
    cells: int
    trained: int  # parameters trained in the last stage, at a rate that trains most
    total: int
    steps: int
    tokens: int  # of a training's last stage, padding not counted
    cpu_train: float  # CPU seconds of the last stage
    cpu_stage1: float  # of stage 1, which the cells of a seed share
    relative: float | None  # cpu_train over that of full tuning per step; None without it
    memory: float | None = None  # bytes of the process at the peak of the last stage's steps; None where no cell has it


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that is reported."""

    grid: Grid
    arms: tuple[ArmFigures, ...]  # in the order of grid.methods, then by rate
    claims: tuple[Test, ...]
    against_full: tuple[Pairing, ...]  # every main method against full tuning
    equal_vqa: tuple[EqualVqa, ...]  # every main method against full tuning at equal VQA
    against_control: tuple[Pairing, ...]  # every main method against the control without images
    ablations: tuple[Pairing, ...]  # every ablation against the method it changes
    frozen: tuple[Pairing, ...]  # with the LLM frozen, every method with learners against the projector only
    shift: ShiftFigures
    sources: SourceFigures  # VQA, source by source
    path: tuple[PathFigures, ...]
    costs: tuple[Cost, ...]
    failed: tuple[CellResult, ...]
    absent: tuple[str, ...]  # names of cells that the grid would have, and that are not there


def findings(grid: Grid, planned: Sequence[str] = (), priors: Mapping[str, float] | None = None) -> Findings:
    """All figures of a grid.

    Args:
        grid: its cells.
        planned: names of the cells that the experiment plans (`Cell.name`); without them, those that a full table of the methods' rates and
            seeds would have.
        priors: the benchmark's question prior of each source (`evaluators.lab.sources.priors`).
    """
    roles = {role: [one.cell.method for one in grid.methods if one.cell.role == role] for role in ("main", "control", "ablation")}
    main = [method for method in roles["main"] if method != FULL]
    return Findings(
        grid=grid,
        arms=tuple(_arm(grid, (one.cell.method, rate)) for one in grid.methods for rate in grid.rates(one.cell.method)),
        claims=claims(grid),
        against_full=pairings(grid, [(method, FULL) for method in main]),
        equal_vqa=at_equal(grid, main),
        against_control=pairings(grid, [(method, control) for control in roles["control"] for method in roles["main"]]),
        ablations=pairings(grid, [(method, ablated(method)) for method in roles["ablation"]]),
        frozen=pairings(grid, [(one.cell.method, PROJECTOR) for one in grid.methods if one.cell.method != PROJECTOR]),
        shift=shift(grid),
        sources=by_source(grid, priors or {}),
        path=_path(grid),
        costs=_costs(grid),
        failed=tuple(one for one in grid.results if one.state == "failed"),
        absent=_absent(grid, planned),
    )


def _arm(grid: Grid, key: Key) -> ArmFigures:
    return ArmFigures(
        key=key,
        seeds=len(grid.arms[key].seeds),
        text=change(grid, TEXT, key),
        after=change(grid, AFTER, key),
        vqa=accuracy(grid, VQA, key),
        tiers={tier: accuracy(grid, of_tier(tier), key) for tier in grid.tiers},
    )


# ---------------------------------------------------------------- along the training


def _path(grid: Grid) -> tuple[PathFigures, ...]:
    """Of the arms whose trainings were scored on their way."""
    made = []
    for one in grid.methods:
        for rate in grid.rates(one.cell.method):
            cells = [cell for cell in grid.results if (cell.cell.method, cell.cell.rate, cell.state) == (one.cell.method, rate, "done")]
            steps = sorted(set.intersection(*({point.step for point in cell.path} for cell in cells)))
            counts = {step: [point.scores for cell in cells for point in cell.path if point.step == step] for step in steps}
            by_step = {step: {name: _pooled([of[name] for of in all_of if name in of]) for name in PATH} for step, all_of in counts.items()}
            if len(steps) > 1:
                made.append(PathFigures(key=(one.cell.method, rate), seeds=len(cells), by_step=by_step))
    return tuple(made)


def _pooled(counts: Sequence[Count]) -> float:
    n = sum(one.n for one in counts)
    return sum(one.correct for one in counts) / n if n else float("nan")


# ---------------------------------------------------------------- cost, and what is not there


def _costs(grid: Grid) -> tuple[Cost, ...]:
    done = [one for one in grid.results if one.state == "done" and one.cell.method != BASE]
    per_step = {}
    made = []
    for one in grid.methods:
        cells = [cell for cell in done if cell.cell.method == one.cell.method]
        if not cells:
            continue
        train, stage1 = (float(np.mean([cell.cpu_seconds.get(part, 0.0) for cell in cells])) for part in ("train", "stage1"))
        steps = round(np.mean([cell.steps for cell in cells]))
        per_step[one.cell.method] = train / steps if steps else None
        first = cells[0]
        tokens = round(np.mean([cell.tokens for cell in cells]))
        made.append((first, len(cells), steps, tokens, train, stage1))
    full = per_step.get(FULL)
    return tuple(
        Cost(
            method=first.cell.method,
            cells=n,
            trained=max(cell.parameters.get("trained", 0) for cell in done if cell.cell.method == first.cell.method),
            total=first.parameters.get("total", 0),
            steps=steps,
            tokens=tokens,
            cpu_train=train,
            cpu_stage1=stage1,
            relative=None if not full or not (own := per_step[first.cell.method]) else own / full,
            memory=_memory([cell for cell in done if cell.cell.method == first.cell.method]),
        )
        for first, n, steps, tokens, train, stage1 in made
    )


def _memory(cells: Sequence[CellResult]) -> float | None:
    known = [cell.peak_memory for cell in cells if cell.peak_memory is not None]
    return float(np.mean(known)) if known else None


def _absent(grid: Grid, planned: Sequence[str]) -> tuple[str, ...]:
    """Names of cells that are not there, done or failed."""
    from iit_bench.lab.cells import Cell

    there = {one.cell.name for one in grid.results}
    if not planned:
        made = []
        for one in grid.methods:
            own = [other.cell for other in grid.results if other.cell.method == one.cell.method]
            for rate in sorted({cell.rate for cell in own}):
                made += [
                    Cell(method=one.cell.method, label="", role="main", rate=rate, seed=seed) for seed in sorted({c.seed for c in own})
                ]
        planned = [cell.name for cell in made]
    return tuple(name for name in planned if name not in there)
