"""The cells of the experiment as arrays: who answered which target of which tier right, with the base LLM's answer beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluators.statistics import Dependence, Floats, Ints, codes
from iit_bench.errors import UserError
from iit_bench.lab.cells import BASE, CellResult, items, read
from iit_bench.types import tier_order

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, float]  # (method, LLM rate)


@dataclass(frozen=True)
class Measure:
    """A group of tiers that is reported as one figure: the mean over its tiers."""

    key: str
    title: str
    takes: Callable[[str], bool]  # tier -> whether it belongs to it
    against_base: bool  # reported as the difference from the base LLM, in points; else as accuracy


TEXT = Measure("text", "text alone", lambda tier: "V" not in tier, True)
AFTER = Measure("after", "text after an image", lambda tier: tier.endswith("T") and "V" in tier, True)
VQA = Measure("vqa", "VQA", lambda tier: tier == "V", False)
IIT = Measure("iit", "all tiers", lambda tier: True, False)


@cache
def of_tier(tier: str) -> Measure:
    """One tier by itself."""
    return Measure(f"tier {tier}", tier, lambda one: one == tier, False)


@dataclass(frozen=True, eq=False)
class Arm:
    """One method at one LLM rate, under its seeds."""

    seeds: tuple[int, ...]
    right: Floats  # 0/1 per seed and row of the grid, [S, n]; NaN where the cell has no such row


@dataclass(frozen=True, eq=False)
class Grid:
    """All cells that are done, over the rows (tier, target) that any of them has."""

    results: tuple[CellResult, ...]  # failed ones and the base's among them
    tier: np.ndarray  # of each row, str, [n], in tier_order
    source: np.ndarray  # of each row's target, str, [n]
    cluster: Ints  # code of what its target depends on, [n]
    base: Floats  # [n], 0/1; NaN where the base has no answer, see `_of_base`
    arms: Mapping[Key, Arm]

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names, from text-only to multimodal-rich."""
        return tuple(sorted(set(self.tier.tolist()), key=tier_order))

    def rates(self, method: str, fewest: int = 1) -> tuple[float, ...]:
        """The rates at which a method has so many seeds that are done, rising."""
        return tuple(sorted(rate for (name, rate), arm in self.arms.items() if name == method and len(arm.seeds) >= fewest))

    @property
    def methods(self) -> tuple[CellResult, ...]:
        """One cell per method, for its label and role: main, then control, then ablations, in the order of their names."""
        found = {one.cell.method: one for one in self.results if one.cell.method != BASE}
        order = ("main", "control", "ablation")
        return tuple(sorted(found.values(), key=lambda one: (order.index(one.cell.role), one.cell.method)))

    def label(self, method: str) -> str:
        """The method as reports write it."""
        return next(one.cell.label for one in self.results if one.cell.method == method)


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of a figure: the answers of one or more arms to the same rows, and how these depend on each other."""

    values: tuple[Floats, ...]  # one [S, n] per arm, over its own seeds
    base: Floats  # [n]; NaN where there is none
    cluster: Ints  # code of what each row's target depends on, as in the grid, [n]
    dependence: Dependence  # the same
    tiers: Ints  # code 0 … T-1, [n]


def block(grid: Grid, measure: Measure, keys: Sequence[Key]) -> Block | None:
    """The answers of several arms, each under its own seeds, to the rows that all of them have; None where there are none.

    Args:
        grid: of the experiment.
        measure: which tiers. Of a measure against the base, the rows that the base has too.
        keys: the arms.
    """
    arms = [grid.arms[key] for key in keys if key in grid.arms]
    if len(arms) < len(keys):
        return None
    taken = np.array([measure.takes(tier) for tier in grid.tier.tolist()], dtype=bool)
    values = [arm.right for arm in arms]
    known = taken & np.all([~np.isnan(one).any(axis=0) for one in values], axis=0)
    if measure.against_base:
        known &= ~np.isnan(grid.base)
    rows = np.flatnonzero(known)
    if not len(rows):
        return None
    tiers = codes(grid.tier[rows].tolist())
    cluster = grid.cluster[rows]
    return Block(tuple(one[:, rows] for one in values), grid.base[rows], cluster, Dependence.of(cluster), tiers)


# ---------------------------------------------------------------- from files


def load(folder: Path) -> Grid:
    """The grid of a folder of cells.

    Raises:
        UserError: as `cells.read`, or no cell is done, or two cells were asked another benchmark or started from another LLM.
    """
    results = read(folder)
    done = [one for one in results if one.state == "done"]
    if not done:
        raise UserError(f"{str(folder)!r} has no cell that is done; run `iit-bench lab` until it has some")
    for name, words in (("benchmark", "were asked another benchmark"), ("llm", "started from another LLM")):
        if len({one.inputs.get(name) for one in done}) > 1:
            here = {one.inputs.get(name): one.cell.name for one in done}
            raise UserError(f"{str(folder)!r}: cells {' and '.join(list(here.values())[:2])} {words}; keep cells of one grid in a folder")
    return grid_of(results, items(folder))


def grid_of(results: Sequence[CellResult], table: pd.DataFrame) -> Grid:
    """The grid of cells and their items (`cells.items`)."""
    table = table.assign(correct=table["correct"].astype(float))
    wide = table.pivot(index=["tier", "item"], columns=["method", "rate", "seed"], values="correct")
    wide = wide.loc[sorted(wide.index, key=lambda row: (tier_order(row[0]), row[1]))]
    of_row = table.drop_duplicates(["tier", "item"]).set_index(["tier", "item"])[["cluster", "source"]].loc[wide.index]
    arms: dict[Key, Arm] = {}
    columns = [(str(one[0]), float(one[1]), int(one[2])) for one in wide.columns.to_list()]
    right = wide.to_numpy(dtype=np.float64).T
    for key in sorted({(method, rate) for method, rate, _ in columns if method != BASE}):
        places = [place for place, column in enumerate(columns) if column[:2] == key]
        arms[key] = Arm(tuple(columns[place][2] for place in places), right[places])
    own = [place for place, column in enumerate(columns) if column[0] == BASE]
    index = [(str(row[0]), str(row[1])) for row in wide.index.to_list()]
    base = _of_base(index, right[own[0]] if own else np.full(len(index), np.nan))
    tiers, sources = np.array([tier for tier, _ in index]), np.array(of_row["source"].tolist())
    return Grid(tuple(results), tiers, sources, codes(of_row["cluster"].tolist()), base, arms)


def _of_base(index: Sequence[tuple[str, str]], own: Floats) -> Floats:
    """The base's answer to each row. It takes no images: of a text target after an image, its answer without the visual turns.

    So VT is compared with T, TVT with TT, and VVT with T: the same target, in the dialogue without the turns that the base cannot read.
    """
    known = dict(zip(index, own.tolist(), strict=True))
    answers = list(own.tolist())
    for place, (tier, item) in enumerate(index):
        if np.isnan(answers[place]) and tier.endswith("T") and "V" in tier:
            without = tier.replace("V", "")
            answers[place] = known.get((without, item), known.get(("T", item), np.nan))
    return np.array(answers, dtype=np.float64)
