"""From predictions to `results.json`: every figure of docs/spec/iit.md#figures that one run can give by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from evaluators import statistics
from evaluators.statistics import Floats, Ints
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

METRICS: dict[str, Callable[[Prediction], bool]] = {
    "acc": lambda p: p.outcome == "correct",
    "acc_norm": lambda p: p.chosen_norm == p.answer,
    "acc_bytes": lambda p: p.chosen_bytes == p.answer,
}
Key = TypeVar("Key")


def summarise(
    predictions: Sequence[Prediction], unavailable: Mapping[str, str], complete: bool, benchmark_tiers: Iterable[str] | None = None
) -> Results:
    """All figures of one run.

    Args:
        predictions: one row per scored turn, in any order; those with outcome "error" count only in the strict figure. Under own
            history the turns before the target enter `positions` only.
        unavailable: tier -> reason, for the tiers that were asked for and that the model cannot run.
        complete: every item finished without an error of the machine.
        benchmark_tiers: every tier of the benchmark; None where all of them were asked for. A mean over tiers of the benchmark of which
            one has no result does not exist; it is never taken over the rest in silence.

    Raises:
        ValueError: a turn occurs twice, or a tier is both run and unavailable.
    """
    targets = by_turn(p for p in predictions if p.is_target)
    rows = _by(targets.values(), lambda p: p.tier)
    if both := sorted(rows.keys() & unavailable.keys()):
        raise ValueError(f"tiers {both} have predictions although they are unavailable")
    samples = {tier: _sample(rows[tier]) for tier in sorted(rows, key=tier_order)}
    tiers = [
        _tier_result(tier, rows[tier], samples[tier]) if tier in rows else _missing_tier(tier, unavailable[tier])
        for tier in sorted(rows.keys() | unavailable.keys(), key=tier_order)
    ]
    asked = {tier.tier for tier in tiers}
    whole = asked | set(() if benchmark_tiers is None else benchmark_tiers)
    answered = [tier for tier in samples if samples[tier].rows]
    reasons = dict.fromkeys(whole - asked, "not every tier was asked for") | {
        tier.tier: tier.acc.note for tier in tiers if tier.acc.value is None
    }
    return Results(
        complete=complete,
        n_dialogues=len(targets),
        outcomes=_count_outcomes(targets.values()),
        iit=_score(whole, samples, reasons, "no tier"),
        t_score=_score([tier for tier in whole if tier.endswith("T")], samples, reasons, "no tier ends in T"),
        v_score=_score([tier for tier in whole if tier.endswith("V")], samples, reasons, "no tier ends in V"),
        text_only_score=_score([tier for tier in whole if "V" not in tier], samples, reasons, "every tier has a visual turn"),
        subset_score=_score(answered, samples, {}, "no finished item") if whole > asked else {},
        subset_tiers=tuple(answered) if whole > asked else (),
        tiers=tuple(tiers),
        breakdown=_breakdown(rows),
        interleaving=_interleaving(rows),
        positions=_positions(predictions),
    )


def by_turn(predictions: Iterable[Prediction]) -> dict[tuple[str, int], Prediction]:
    """Predictions by (dialogue, position), sorted, so that no figure depends on the order they were made in.

    Raises:
        ValueError: a turn occurs twice.
    """
    turns: dict[tuple[str, int], Prediction] = {}
    for p in predictions:
        if turns.setdefault((p.dialogue, p.position), p) is not p:
            raise ValueError(f"turn {p.position} of dialogue {p.dialogue!r} occurs twice")
    return dict(sorted(turns.items()))


def finished(p: Prediction) -> bool:
    """Whether the turn has an answer, right, wrong or unparsed; errors have none."""
    return p.outcome != "error"


def right(p: Prediction) -> bool:
    """Whether the turn's answer is correct; unparsed replies and errors are not."""
    return p.outcome == "correct"


def chance_level(p: Prediction) -> float:
    """Probability, 0 … 1, of the right answer for a uniform guess among the turn's k choices: 1/k."""
    return 1 / len(p.choices)


# ---------------------------------------------------------------- tiers


@dataclass(frozen=True)
class _Sample:
    """The finished items of one tier as arrays, [n] each."""

    metrics: dict[str, Floats]
    cluster: Ints
    chance: float | None
    rows: tuple[Prediction, ...]

    @property
    def histories(self) -> list[tuple[str, ...]]:
        """The clusters of each item's history turns."""
        return [p.history_clusters for p in self.rows]

    def mean(self, metric: str) -> Figure:
        """Accuracy by a metric of METRICS."""
        return statistics.mean(self.metrics[metric], self.cluster, self.histories)


def _sample(rows: Iterable[Prediction]) -> _Sample:
    done = tuple(p for p in rows if finished(p))
    metrics = {name: np.array([is_right(p) for p in done], dtype=np.float64) for name, is_right in METRICS.items()}
    chance = float(np.mean([chance_level(p) for p in done])) if done else None
    return _Sample(metrics, statistics.codes(p.cluster for p in done), chance, done)


def _tier_result(tier: str, rows: Sequence[Prediction], sample: _Sample) -> TierResult:
    acc, acc_norm, acc_bytes = map(sample.mean, METRICS)
    strict = statistics.mean([right(p) for p in rows], statistics.codes(p.cluster for p in rows), [p.history_clusters for p in rows])
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
        outcomes=_count_outcomes(()),
    )


def _count_outcomes(rows: Iterable[Prediction]) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for p in rows:
        counts[p.outcome] += 1
    return counts


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
    parts = [samples[tier] for tier in wanted]
    rows = [p for part in parts for p in part.rows]
    cluster = statistics.components([p.group for p in rows], [p.cluster for p in rows])
    strata = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    values = {name: np.concatenate([part.metrics[name] for part in parts]) for name in METRICS}
    histories = [p.history_clusters for p in rows]
    figures = {name: statistics.weighted_mean(values[name], cluster, strata, histories=histories) for name in METRICS}
    chances = np.array([part.chance for part in parts], dtype=np.float64)
    # mean_t (acc_t - c_t)/(1 - c_t) is linear in the weighted mean of acc_t with weights 1/(1 - c_t).
    weights = 1 / (1 - chances)
    weighted = statistics.weighted_mean(values["acc"], cluster, strata, weights.tolist(), histories=histories)
    figures["acc_corrected"] = statistics.linear(weighted, float(weights.mean()), -float(np.mean(chances * weights)))
    return figures


# ---------------------------------------------------------------- parts of tiers


def _breakdown(rows: Mapping[str, Sequence[Prediction]]) -> tuple[Breakdown, ...]:
    """Accuracy per tier, source and subject, in that order."""
    parts = _by((p for tier in rows.values() for p in tier), lambda p: (p.tier, p.source, p.subject))
    order = sorted(parts, key=lambda key: (tier_order(key[0]), *key[1:]))
    return tuple(
        Breakdown(tier=tier, source=source, subject=subject, **_part(parts[tier, source, subject])) for tier, source, subject in order
    )


def _positions(predictions: Sequence[Prediction]) -> tuple[PositionResult, ...]:
    """Accuracy per tier and position over all sources where history turns were scored too (own history)."""
    if all(p.is_target for p in predictions):
        return ()
    parts = _by(by_turn(predictions).values(), lambda p: (p.tier, p.position))
    order = sorted(parts, key=lambda key: (tier_order(key[0]), key[1]))
    return tuple(PositionResult(tier=tier, position=position, **_part(parts[tier, position])) for tier, position in order)


def _part(rows: Sequence[Prediction]) -> dict[str, Any]:
    """The fields `chance`, `acc` and `acc_norm` of a `Breakdown` or `PositionResult`."""
    sample = _sample(rows)
    acc, acc_norm = map(sample.mean, ("acc", "acc_norm"))
    return {"chance": sample.chance, "acc": acc, "acc_norm": acc_norm}


def _interleaving(rows: Mapping[str, Sequence[Prediction]]) -> tuple[PairedResult, ...]:
    """Each tier of two turns or more against the same targets without history, where that tier was run; Holm over tiers."""
    single_turn = {tier: {p.group: p for p in rows[tier]} for tier in ("T", "V") if tier in rows}
    effects = []
    for tier in sorted(rows, key=tier_order):
        single = tier[-1]
        if len(tier) > 1 and single in single_turn:
            pairs = [(p, single_turn[single][p.group]) for p in rows[tier] if p.group in single_turn[single]]
            effects.append(paired_result(pairs, over=tier, against=single))
    return statistics.with_holm(effects)


def paired_result(pairs: Iterable[tuple[Prediction, Prediction]], *, over: str, against: str) -> PairedResult:
    """Accuracy of the first minus accuracy of the second over the pairs that both sides finished.

    Variances are by components of group and cluster, and by the clusters of both sides' histories.
    """
    done = [(a, b) for a, b in pairs if finished(a) and finished(b)]
    cluster = statistics.components([a.group for a, _ in done], [a.cluster for a, _ in done])
    right_a, right_b = [right(a) for a, _ in done], [right(b) for _, b in done]
    return statistics.paired(right_a, right_b, cluster, over=over, against=against, histories=histories_of(done))


def histories_of(pairs: Iterable[tuple[Prediction, Prediction]]) -> list[tuple[str, ...]]:
    """The clusters of the history turns of each pair, of both sides."""
    return [(*a.history_clusters, *b.history_clusters) for a, b in pairs]


def _by(rows: Iterable[Prediction], key: Callable[[Prediction], Key]) -> dict[Key, list[Prediction]]:
    parts: dict[Key, list[Prediction]] = defaultdict(list)
    for p in rows:
        parts[key(p)].append(p)
    return parts
