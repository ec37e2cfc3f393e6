"""Accuracy over visual share: which points the figures draw, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Turns
from evaluators.statistics import Dependence
from iit_bench.types import tier_order, visual_share
from reports.entries import Entry, all_tiers
from reports.plots import Curve, Point, curves_plot
from reports.section import Drawing, figure
from reports.shared import chance_by_tier

_PANELS = (("all", "All targets", "TV"), ("text", "Text targets", "T"), ("visual", "Visual targets", "V"))


def panels(entries: Sequence[Entry], suffix: str = "", keys: Sequence[str] = ("all", "text", "visual")) -> list[Drawing]:
    """All targets, then text and visual targets apart, where `keys` names them; a figure without a point is left out. `suffix` ends ids."""
    answered = {entry.name: answered_by_tier(entry.turns) for entry in entries}
    chance = chance_by_tier(entries)
    drawn = []
    for key, heading, endings in (panel for panel in _PANELS if panel[0] in keys):
        tiers = [tier for tier in all_tiers(entries) if tier[-1] in endings]
        curves = [Curve(entry.style, curve_points(answered[entry.name], tiers), entry.name) for entry in entries]
        if any(curve.points for curve in curves):
            description = f"{heading}: accuracy over visual share, one line per model. The numbers are in the table of tiers."
            plot = curves_plot(curves, _chance_points(chance, tiers), key=f"curve-{key}{suffix}", description=description)
            drawn.append(figure(plot, f"{heading}: accuracy in %, by visual share"))
    return drawn


def curve_points(answered: Mapping[str, Turns], tiers: Sequence[str]) -> tuple[Point, ...]:
    """One point per visual share: acc averaged over the tiers that have it, each tier weighing the same, as in the scores.

    Args:
        answered: as `answered_by_tier` gives it.
        tiers: the tiers of the panel. A share of which one is missing is left out: its mean would be over other tiers than another model's.

    The interval is by connected components of group and cluster, since a target comes back under every history, and by history cluster.
    """
    points = []
    for share in sorted({visual_share(tier) for tier in tiers}):
        parts = [answered[tier] for tier in sorted(tiers, key=tier_order) if visual_share(tier) == share and tier in answered]
        if len(parts) < sum(visual_share(tier) == share for tier in tiers):
            continue
        rows = Turns.concat(parts)
        strata = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        dependence = Dependence.of(statistics.components(rows.group.code, rows.cluster.code), histories=rows.histories)
        figure = statistics.weighted_mean(rows.acc, dependence, strata)
        assert figure.value is not None and figure.low is not None and figure.high is not None  # rows is not empty
        points.append(Point(share, figure.value, figure.low, figure.high))
    return tuple(points)


def answered_by_tier(turns: Turns) -> dict[str, Turns]:
    """The finished target turns of each tier that has some."""
    done = turns.take(turns.is_target & turns.finished)
    return {tier: done.take(rows) for tier, rows in done.by_tier().items()}


def _chance_points(chance: Mapping[str, float], tiers: Sequence[str]) -> list[tuple[float, float]]:
    shares = sorted({visual_share(tier) for tier in tiers if tier in chance})
    return [(share, float(np.mean([chance[t] for t in tiers if t in chance and visual_share(t) == share]))) for share in shares]
