"""From predictions to `results.json`: every figure of docs/spec/iit.md#figures that one run can give by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import METRICS, Metric, Turns, codes_among, turns
from evaluators.statistics import Dependence
from iit_bench.types import (
    OUTCOMES,
    Breakdown,
    Figure,
    PairedResult,
    PositionResult,
    Prediction,
    Results,
    TierResult,
    tier_order,
    visual_share,
)


def summarise(
    predictions: Turns | Iterable[Prediction], unavailable: Mapping[str, str], complete: bool, benchmark_tiers: Iterable[str] | None = None
) -> Results:
    """All figures of one run.

    Args:
        predictions: one row per scored turn, in any order, or their columns; those with outcome "error" count only in the strict
            figure. Under own history the turns before the target enter `positions` only.
        unavailable: tier -> reason, for the tiers that were asked for and that the model cannot run.
        complete: every item finished without an error of the machine.
        benchmark_tiers: every tier of the benchmark; None where all of them were asked for. A mean over tiers of the benchmark of which
            one has no result does not exist; it is never taken over the rest in silence.

    Raises:
        ValueError: a turn occurs twice, or a tier is both run and unavailable.
    """
    every = turns(predictions)
    targets = every.take(every.is_target)
    rows = {tier: targets.take(index) for tier, index in targets.by_tier().items()}
    if both := sorted(rows.keys() & unavailable.keys()):
        raise ValueError(f"tiers {both} have predictions although they are unavailable")
    samples = {tier: _sample(rows[tier]) for tier in sorted(rows, key=tier_order)}
    tiers = [
        _tier_result(tier, rows[tier], samples[tier]) if tier in rows else _missing_tier(tier, unavailable[tier])
        for tier in sorted(rows.keys() | unavailable.keys(), key=tier_order)
    ]
    asked = {tier.tier for tier in tiers}
    whole = asked | set(() if benchmark_tiers is None else benchmark_tiers)
    answered = [tier for tier in samples if len(samples[tier].turns)]
    reasons = dict.fromkeys(whole - asked, "not every tier was asked for") | {
        tier.tier: tier.acc.note for tier in tiers if tier.acc.value is None
    }
    return Results(
        complete=complete,
        n_dialogues=len(targets),
        outcomes=_count_outcomes(targets),
        iit=_score(whole, samples, reasons, "no tier"),
        t_score=_score([tier for tier in whole if tier.endswith("T")], samples, reasons, "no tier ends in T"),
        v_score=_score([tier for tier in whole if tier.endswith("V")], samples, reasons, "no tier ends in V"),
        text_only_score=_score([tier for tier in whole if "V" not in tier], samples, reasons, "every tier has a visual turn"),
        subset_score=_score(answered, samples, {}, "no finished item") if whole > asked else {},
        subset_tiers=tuple(answered) if whole > asked else (),
        tiers=tuple(tiers),
        breakdown=_breakdown(rows),
        interleaving=_interleaving(rows),
        positions=_positions(every),
    )


# ---------------------------------------------------------------- tiers


@dataclass(frozen=True, eq=False)
class _Sample:
    """The finished turns of one tier or part of it."""

    turns: Turns

    @property
    def chance(self) -> float | None:
        """Mean 1/k; None without a turn."""
        return float(np.mean(self.turns.chance)) if len(self.turns) else None

    @cached_property
    def dependence(self) -> Dependence:
        """By cluster, and by the clusters of the histories."""
        return _by_cluster(self.turns)

    def mean(self, metric: Metric) -> Figure:
        """Accuracy by a metric."""
        return statistics.mean(self.turns.right(metric), self.dependence)


def _sample(rows: Turns) -> _Sample:
    return _Sample(rows.take(rows.finished))


def _by_cluster(rows: Turns) -> Dependence:
    return Dependence.of(statistics.codes(rows.cluster.code), histories=rows.histories)


def _tier_result(tier: str, rows: Turns, sample: _Sample) -> TierResult:
    acc, acc_norm, acc_bytes = map(sample.mean, METRICS)
    strict = statistics.mean(rows.acc, sample.dependence if len(sample.turns) == len(rows) else _by_cluster(rows))
    corrected = statistics.chance_corrected(acc, sample.chance)
    return TierResult(
        tier=tier,
        visual_share=visual_share(tier),
        acc=acc,
        acc_norm=acc_norm,
        acc_bytes=acc_bytes,
        acc_strict=strict,
        chance=sample.chance,
        acc_corrected=corrected,
        outcomes=_count_outcomes(rows),
    )


def _missing_tier(tier: str, reason: str) -> TierResult:
    nothing = Figure(None, note=reason)
    return TierResult(
        tier=tier,
        visual_share=visual_share(tier),
        acc=nothing,
        acc_norm=nothing,
        acc_bytes=nothing,
        acc_strict=nothing,
        chance=None,
        acc_corrected=nothing,
        outcomes=dict.fromkeys(OUTCOMES, 0),
    )


def _count_outcomes(rows: Turns) -> dict[str, int]:
    return dict(zip(OUTCOMES, np.bincount(rows.outcome, minlength=len(OUTCOMES)).tolist(), strict=True))


def _score(tiers: Iterable[str], samples: Mapping[str, _Sample], reasons: Mapping[str, str], otherwise: str) -> dict[str, Figure]:
    """Unweighted means over `tiers`, by metric, clustered by components of group and cluster; no value where one of them has no result.

    Args:
        tiers: of the benchmark.
        samples: the tiers that were run.
        reasons: tier -> why it has no result.
        otherwise: the reason where there is no tier.
    """
    wanted = sorted(tiers, key=tier_order)
    missing = {tier: reasons[tier] for tier in wanted if tier in reasons}
    if missing or not wanted:
        few = ", ".join(missing) if len(missing) <= 3 else f"{len(missing)} of {len(wanted)} tiers"
        note = otherwise if not missing else next(iter(missing.values())) if len(set(missing.values())) == 1 else f"no result for {few}"
        return {name: Figure(None, note=note) for name in (*METRICS, "acc_corrected")}
    parts = [samples[tier].turns for tier in wanted]
    rows = Turns.concat(parts)
    strata = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    dependence = Dependence.of(statistics.components(rows.group.code, rows.cluster.code), histories=rows.histories)
    figures: dict[str, Figure] = {name: statistics.weighted_mean(rows.right(name), dependence, strata) for name in METRICS}
    chances = np.array([samples[tier].chance for tier in wanted], dtype=np.float64)
    # mean_t (acc_t - c_t)/(1 - c_t) is linear in the weighted mean of acc_t with weights 1/(1 - c_t).
    weights = 1 / (1 - chances)
    weighted = statistics.weighted_mean(rows.acc, dependence, strata, weights.tolist())
    figures["acc_corrected"] = statistics.linear(weighted, float(weights.mean()), -float(np.mean(chances * weights)))
    return figures


# ---------------------------------------------------------------- parts of tiers


def _breakdown(rows: Mapping[str, Turns]) -> tuple[Breakdown, ...]:
    """Accuracy per tier, source and subject, in that order."""
    return tuple(
        Breakdown(tier=tier, source=source, subject=subject, **_part(of_tier.take(index)))
        for tier, of_tier in sorted(rows.items(), key=lambda item: tier_order(item[0]))
        for (source, subject), index in sorted(of_tier.by(of_tier.source, of_tier.subject).items())
    )


def _positions(every: Turns) -> tuple[PositionResult, ...]:
    """Accuracy per tier and position over all sources where history turns were scored too (own history)."""
    if every.is_target.all():
        return ()
    parts = {
        (tier, int(position)): of_tier[every.position[of_tier] == position]
        for tier, of_tier in every.by_tier().items()
        for position in np.unique(every.position[of_tier])
    }
    order = sorted(parts, key=lambda key: (tier_order(key[0]), key[1]))
    return tuple(PositionResult(tier=tier, position=position, **_part(every.take(parts[tier, position]))) for tier, position in order)


def _part(rows: Turns) -> dict[str, Any]:
    """The fields `chance`, `acc` and `acc_norm` of a `Breakdown` or `PositionResult`."""
    sample = _sample(rows)
    return {"chance": sample.chance, "acc": sample.mean("acc"), "acc_norm": sample.mean("acc_norm")}


def _interleaving(rows: Mapping[str, Turns]) -> tuple[PairedResult, ...]:
    """Each tier of two turns or more against the same targets without history, where that tier was run; Holm over tiers."""
    effects = []
    for tier in sorted(rows, key=tier_order):
        if len(tier) > 1 and (single := rows.get(tier[-1])) is not None:
            of_group = np.full(len(single.group.names), -1)
            of_group[single.group.code] = np.arange(len(single))
            partner = of_group[rows[tier].group.code]
            effects.append(
                paired_result(Pairs(rows[tier].take(partner >= 0), single.take(partner[partner >= 0])), over=tier, against=tier[-1])
            )
    return statistics.with_holm(effects)


# ---------------------------------------------------------------- pairs


@dataclass(frozen=True, eq=False)
class Pairs:
    """Turns of two runs, or of one, row by row about the same target. Groups and clusters are those of `a`."""

    a: Turns
    b: Turns

    def finished(self) -> Pairs:
        """The pairs that both sides finished."""
        both = self.a.finished & self.b.finished
        return Pairs(self.a.take(both), self.b.take(both))

    @classmethod
    def concat(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of `parts`, one or more, all of the same two runs."""
        return cls(Turns.concat([part.a for part in parts]), Turns.concat([part.b for part in parts]))

    def dependence(self) -> Dependence:
        """By components of group and cluster, and by the clusters of both sides' histories."""
        theirs = self.b.histories
        if self.b.history_names is not self.a.history_names:
            theirs = theirs.recoded(codes_among(self.b.history_names, self.a.history_names))
        cluster = statistics.components(self.a.group.code, self.a.cluster.code)
        return Dependence.of(cluster, histories=self.a.histories.with_those_of(theirs))


def paired_result(pairs: Pairs, *, over: str, against: str) -> PairedResult:
    """Accuracy of A minus accuracy of B over the pairs that both sides finished."""
    done = pairs.finished()
    return statistics.paired(done.a.acc, done.b.acc, done.dependence(), over=over, against=against)
