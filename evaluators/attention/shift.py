"""Figures from curves: attention shift, modality dominance, and means per layer (docs/spec/iit.md#attention-shift)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluators.attention.table import ObservedDialogue, observed_of
from evaluators.statistics import components
from evaluators.statistics.dependence import Dependence
from evaluators.statistics.numbers import number_mean, pearson
from iit_bench.storage.runs import IitRun
from iit_bench.types import KINDS, Figure, Kind, tier_order

FEWEST_LAYERS = 3  # with 2, any two curves correlate by 1 or -1
NO_BEFORE, NO_AFTER = "no text before the image", "no text after the image"
FEW_LAYERS, CONSTANT = f"fewer than {FEWEST_LAYERS} layers", "a curve that is constant over the layers"


@dataclass(frozen=True, kw_only=True)
class TierAttention:
    """Means over the dialogues of one tier, or over all ("*")."""

    tier: str  # pattern of modalities, or "*"
    shift: Figure  # 1 - Pearson over layers of the curves before and after
    mdi: Figure  # attention per text token / per image token, geometric mean
    aei: Figure  # share of attention on text / share of tokens that are text


@dataclass(frozen=True, kw_only=True)
class AttentionFigures:
    """What was observed of one model."""

    layers: tuple[int, ...]  # of the curves
    pooled: TierAttention  # over all tiers
    tiers: tuple[TierAttention, ...]  # in tier_order
    curves: Mapping[Kind, tuple[Figure, ...]]  # kind -> mean weight per token, one figure per layer
    router_layers: tuple[int, ...]  # Wings
    router: Mapping[Kind, tuple[Figure, ...]]  # kind -> mean weight of the visual learner, one figure per layer with a router
    without_shift: Mapping[str, int]  # reason -> observed dialogues whose shift does not exist


@dataclass(frozen=True, eq=False)
class ObservedModel:
    """What was observed of a run's model."""

    figures: AttentionFigures
    about: Mapping[str, Any]  # table.ATTENTION_FIELDS


def observed_model(run: IitRun) -> ObservedModel | None:
    """The figures of a run's model, from its folder; None where nothing was observed.

    Raises:
        UserError: as `table.observed_of`.
    """
    observed = observed_of(run)
    figures = None if observed is None else attention_figures(observed.rows)
    return None if observed is None or figures is None else ObservedModel(figures, observed.about)


def shift_of(row: ObservedDialogue) -> float | str:
    """The shift of one dialogue; where it does not exist, the reason."""
    if not row.before:
        return NO_BEFORE
    if not row.after:
        return NO_AFTER
    if len(row.layers) < FEWEST_LAYERS:
        return FEW_LAYERS
    found = pearson(row.before, row.after)
    return CONSTANT if found is None else 1 - found


def dominance_of(row: ObservedDialogue) -> tuple[float, float] | None:
    """MDI and AEI of one dialogue; None where there is no text, no image, or no attention on one of the two."""
    text = sum(row.tokens(kind) * float(np.mean(row.curve(kind))) for kind in KINDS if kind != "image" and row.curve(kind))
    n_text = sum(row.tokens(kind) for kind in KINDS if kind != "image")
    image = row.n_image * float(np.mean(row.image)) if row.image else 0.0
    if not text or not image or not n_text:
        return None
    return (text / n_text) / (image / row.n_image), (text / (text + image)) / (n_text / (n_text + row.n_image))


def attention_figures(rows: Sequence[ObservedDialogue]) -> AttentionFigures | None:
    """All figures of one model; None without a dialogue. Curves are over the dialogues with text on both sides of an image."""
    if not rows:
        return None
    shifts = [shift_of(row) for row in rows]
    both = [row for row in rows if row.before and row.after and row.image]
    names = sorted({row.tier for row in rows}, key=tier_order)
    routed = next((row.router_layers for row in rows if row.router_layers), ())
    return AttentionFigures(
        layers=rows[0].layers,
        pooled=_means("*", rows),
        tiers=tuple(_means(tier, [row for row in rows if row.tier == tier]) for tier in names),
        curves=_curves(both, ObservedDialogue.curve),
        router_layers=routed,
        router=_curves(both, ObservedDialogue.router),
        without_shift=dict(Counter(shift for shift in shifts if isinstance(shift, str))),
    )


def _means(tier: str, rows: Sequence[ObservedDialogue]) -> TierAttention:
    shifts = {i: shift for i, row in enumerate(rows) if not isinstance(shift := shift_of(row), str)}
    dominance = {i: found for i, row in enumerate(rows) if (found := dominance_of(row)) is not None}

    def figure(values: Mapping[int, float]) -> Figure:
        return _mean(list(values.values()), [rows[i] for i in values])

    return TierAttention(
        tier=tier,
        shift=_within(figure(shifts), 0.0, 2.0),
        mdi=_exponential(figure({i: float(np.log(mdi)) for i, (mdi, _) in dominance.items()})),
        aei=figure({i: aei for i, (_, aei) in dominance.items()}),
    )


def _within(figure: Figure, lowest: float, highest: float) -> Figure:
    """A figure whose interval does not leave the values that are possible."""
    if figure.low is None or figure.high is None:
        return figure
    return replace(figure, low=max(figure.low, lowest), high=min(figure.high, highest))


def _exponential(figure: Figure) -> Figure:
    """From a mean of logarithms to the geometric mean. Some dialogues give an image next to nothing, and would decide any other mean."""
    value, low, high = (None if one is None else float(np.exp(one)) for one in (figure.value, figure.low, figure.high))
    method = f"{figure.method}, of logarithms" if figure.method else ""
    return replace(figure, value=value, low=low, high=high, se=None, method=method)


def _mean(values: Sequence[float], rows: Sequence[ObservedDialogue]) -> Figure:
    return number_mean(values, _dependence(rows)) if values else Figure(None, note="no dialogue has it")


def _dependence(rows: Sequence[ObservedDialogue]) -> Dependence:
    joined = components((row.group for row in rows), (row.cluster for row in rows))
    return Dependence.of(joined, histories=[row.history_clusters for row in rows])


def _curves(rows: Sequence[ObservedDialogue], of: Callable[[ObservedDialogue, Kind], tuple[float, ...]]) -> dict[Kind, tuple[Figure, ...]]:
    """Per kind the mean over the dialogues that have it, one figure per layer."""
    curves: dict[Kind, tuple[Figure, ...]] = {}
    for kind in KINDS:
        having = [row for row in rows if of(row, kind)]
        if having:
            values, dependence = np.array([of(row, kind) for row in having]), _dependence(having)
            curves[kind] = tuple(number_mean(values[:, layer], dependence) for layer in range(values.shape[1]))
    return curves
