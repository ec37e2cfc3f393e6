"""What a trained Wings model answers while one of its learners is silent at some tokens: which output harms, and where.

The same weights are compared with themselves, answer by answer and seed by seed, so a difference is the effect of that output alone. It is
not that of a model trained without it. The cells are written by docs/make_silenced.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from evaluators.lab.answers import AFTER, VQA, Grid, Measure, block
from evaluators.lab.effects import Effect, missing, with_holm
from evaluators.statistics import Dependence, Floats, Ints, codes
from evaluators.statistics.seeds import contrast_over_seeds
from iit_bench.lab.cells import Cell
from iit_bench.types import Figure

if TYPE_CHECKING:
    import pandas as pd

ROUTER = "router.parquet"
MEASURES = (AFTER, VQA)


@dataclass(frozen=True)
class Silencing:
    """Which learners are silent at which tokens that see both."""

    method: str  # of its cells
    label: str
    silent: tuple[tuple[Literal["visual", "textual"], Literal["text", "image", "everywhere"]], ...]


WHOLE = Silencing("wings", "nothing", ())
VISUAL_AT_TEXT = Silencing("silent-visual-text", "visual learner, at text", (("visual", "text"),))
BOTH = Silencing("silent-both", "both learners, everywhere", (("visual", "everywhere"), ("textual", "everywhere")))
SILENCINGS = (
    VISUAL_AT_TEXT,
    Silencing("silent-visual-image", "visual learner, at image tokens", (("visual", "image"),)),
    Silencing("silent-visual", "visual learner, everywhere", (("visual", "everywhere"),)),
    Silencing("silent-textual-text", "textual learner, at text", (("textual", "text"),)),
    Silencing("silent-textual", "textual learner, everywhere", (("textual", "everywhere"),)),
    BOTH,
)


@dataclass(frozen=True, kw_only=True)
class Silenced:
    """A silencing at one rate of the LLM."""

    rate: float
    label: str
    effects: tuple[Effect, ...]  # silent minus whole, of MEASURES


@dataclass(frozen=True, kw_only=True)
class Routed:
    """The router's weight of the visual learner where a reply begins, mean over layers, dialogues and seeds."""

    rate: float
    text: Figure  # at text questions with an image before
    image: Figure  # at questions on an image
    more: Figure  # image - text


def cell_of(silencing: Silencing, trained: Cell) -> Cell:
    """The cell of a trained model under a silencing."""
    return replace(trained, method=silencing.method, label=silencing.label)


def effects(grid: Grid) -> tuple[Silenced, ...]:
    """Every silencing at every rate, as one family of tests; of those whose seeds are the whole models'."""
    asked = [(one, rate) for rate in grid.rates(WHOLE.method) for one in SILENCINGS if (one.method, rate) in grid.arms]
    family = with_holm([_effect(grid, one, rate, measure) for one, rate in asked for measure in MEASURES])
    each = len(MEASURES)
    return tuple(
        Silenced(rate=rate, label=one.label, effects=family[each * place : each * (place + 1)]) for place, (one, rate) in enumerate(asked)
    )


def _effect(grid: Grid, silencing: Silencing, rate: float, measure: Measure) -> Effect:
    keys = [(silencing.method, rate), (WHOLE.method, rate)]
    found = block(grid, replace(measure, against_base=False), keys)
    seeds = [grid.arms[key].seeds for key in keys]
    if found is None or seeds[0] != seeds[1] or len(seeds[0]) < 2:
        return missing("fewer than two seeds, or not those of the whole models")
    silent, whole = found.values
    over = contrast_over_seeds(silent - whole, found.dependence, found.tiers, largest=1.0)
    return Effect(figure=over.figure, seeds=len(whole), per_seed=over.per_seed, df=over.df, p=over.p)


def routed(table: pd.DataFrame) -> tuple[Routed, ...]:
    """Where the router looks, by rate.

    Args:
        table: of docs/make_silenced.py: rate, seed, tier, item, cluster, weight.
    """
    found = []
    for rate, rows in table.groupby("rate"):
        wide = rows.pivot(index=["tier", "item", "cluster"], columns="seed", values="weight")
        weights, cluster = wide.to_numpy(dtype=np.float64).T, codes(wide.index.get_level_values("cluster").tolist())
        on_image = np.array([str(tier).endswith("V") for tier in wide.index.get_level_values("tier")])
        means = [_mean(weights[:, of], cluster[of]) for of in (~on_image, on_image)]
        signed = np.where(on_image, 2.0, -2.0) * weights  # the contrast is the mean of both parts
        more = contrast_over_seeds(signed, Dependence.of(cluster), on_image.astype(np.int64), largest=1.0).figure
        found.append(Routed(rate=float(str(rate)), text=means[0], image=means[1], more=more))
    return tuple(found)


def _mean(weights: Floats, cluster: Ints) -> Figure:
    return contrast_over_seeds(weights, Dependence.of(codes(cluster.tolist())), np.zeros(len(cluster), dtype=np.int64), largest=1.0).figure
