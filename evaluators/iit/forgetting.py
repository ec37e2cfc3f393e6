"""Text-only forgetting and the blind gap: what a model lost against another run (docs/spec/iit.md#text-only-forgetting, #blind-gap)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from evaluators import statistics
from evaluators.iit import comparison
from evaluators.iit.columns import turns
from evaluators.iit.comparison import Predictions
from evaluators.iit.ledger import ledger
from evaluators.iit.results import Pairs
from iit_bench.errors import UserError
from iit_bench.types import Figure, Forgetting, PairedResult

THIS_RUN = "this run"  # side B of forgetting


def forgetting(run: Predictions, base: Predictions, base_name: str, base_run: str) -> Forgetting:
    """Text-only forgetting: the paired difference of a base LLM and a run on T targets, over the tiers both ran.

    Args:
        run, base: predictions of two runs that passed `check_comparable`.
        base_name: name of the base run's model.
        base_run: name of its folder.

    Returns:
        Differences are base - run: what is lost is positive. Accuracies, the pooled difference and retention are over the items both
        sides finished, by components of group and cluster, and by history cluster; chance is the mean 1/k over them. Holm is applied
        over the tiers.

    Raises:
        UserError: no tier that ends in T was run by both.
    """
    run, base = turns(run), turns(base)
    pairs = {tier: of_tier for tier, of_tier in comparison.pair_targets(base, run).items() if tier.endswith("T")}
    check_text_tiers(pairs, pairs, base_run)
    done = Pairs.concat(list(pairs.values())).finished()
    dependence = done.dependence()
    return Forgetting(
        base=base_name,
        base_run=base_run,
        tiers=tuple(pairs),
        per_tier=comparison.per_tier(pairs, THIS_RUN),
        pooled=comparison.pool(pairs, pairs, "T*", THIS_RUN),
        base_acc=statistics.mean(done.a.acc, dependence),
        acc=statistics.mean(done.b.acc, dependence),
        retention=statistics.retention(done.b.acc, done.a.acc, done.a.chance, dependence),
        ledger=ledger(run, base),
    )


def check_text_tiers(run: Iterable[str], base: Iterable[str], base_run: str) -> None:
    """Refuse a base run that forgetting cannot be measured against: the tiers of the two have none in common that ends in T.

    Raises:
        UserError: so it is.
    """
    if not any(tier.endswith("T") for tier in set(run) & set(base)):
        raise UserError(f"base run {base_run!r} has no tier that ends in T in common with this run; evaluate both on such a tier, e.g. T")


def unknown(stored: Forgetting, why: str) -> Forgetting:
    """Forgetting against a base whose run cannot be read: its figures without values, and the reason."""
    nothing = Figure(None, note=why)
    results = [PairedResult(over=over, against=THIS_RUN, difference=nothing) for over in (*stored.tiers, "T*")]
    return replace(stored, per_tier=tuple(results[:-1]), pooled=results[-1], base_acc=nothing, acc=nothing, retention=nothing, ledger=None)


def blind_gap(run: Predictions, blind: Predictions, blind_run: str) -> tuple[PairedResult, ...]:
    """V accuracy with images minus without: one result per tier that ends in V (Holm over them), then the pool "V*".

    Args:
        run, blind: predictions of the same model with and without `--blind`, of two runs that passed `check_comparable`.
        blind_run: name of the blind run's folder.

    Raises:
        UserError: no tier that ends in V was run by both.
    """
    pairs = {tier: of_tier for tier, of_tier in comparison.pair_targets(run, blind).items() if tier.endswith("V")}
    if not pairs:
        raise UserError(f"blind run {blind_run!r} has no tier that ends in V in common with this run; evaluate both on such a tier, e.g. V")
    return (*comparison.per_tier(pairs, blind_run), comparison.pool(pairs, pairs, "V*", blind_run))
