"""Forgetting and the blind gap: the right items are paired, and figures agree with outside oracles."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evaluators.iit.forgetting import blind_gap, forgetting
from iit_bench.errors import UserError
from iit_bench.types import Prediction

pytestmark = pytest.mark.oracle


def run_of(predict, seed: int, level: float, tiers: tuple[str, ...], n: int = 40, errors: float = 0.0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    rows = []
    for tier in tiers:
        for i in range(n):
            outcome = "error" if rng.random() < errors else "correct" if rng.random() < level else "wrong"
            rows.append(predict(tier, f"{tier[-1]}{i}", outcome, cluster=f"{tier[-1]} cluster {i if tier[-1] == 'T' else i // 2}"))
    return rows


def test_only_t_targets_of_tiers_that_both_ran_are_paired(predict) -> None:
    run = run_of(predict, 0, 0.6, ("T", "TT", "VT", "V", "TV"))
    base = run_of(predict, 1, 0.9, ("T", "TT", "TTT", "V"))
    result = forgetting(run, base, "base-llm", "runs-base")
    assert (result.base, result.base_run, result.tiers) == ("base-llm", "runs-base", ("T", "TT"))
    assert [(r.over, r.against) for r in result.per_tier] == [("T", "this run"), ("TT", "this run")]
    assert (result.pooled.over, result.pooled.difference.n, result.pooled.difference.clusters) == ("T*", 80, 40)


def test_per_tier_figures_are_mcnemar_with_holm(predict) -> None:
    run, base = run_of(predict, 2, 0.75, ("T", "TT", "TTT")), run_of(predict, 3, 0.9, ("T", "TT", "TTT"))
    result = forgetting(run, base, "base-llm", "b")
    expected = []
    for tier, found in zip(("T", "TT", "TTT"), result.per_tier, strict=True):
        a, b = (np.array([p.outcome == "correct" for p in rows if p.tier == tier]) for rows in (run, base))
        expected.append(mcnemar([[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]], exact=True).pvalue)
        assert found.difference.value == pytest.approx(b.mean() - a.mean())
    assert [r.p for r in result.per_tier] == pytest.approx(expected)
    assert [r.p_holm for r in result.per_tier] == pytest.approx(multipletests(expected, method="holm")[1].tolist())


def test_pooled_difference_clusters_targets_over_tiers(predict) -> None:
    run, base = run_of(predict, 4, 0.7, ("T", "TT")), run_of(predict, 5, 0.9, ("T", "TT"))
    pooled = forgetting(run, base, "base-llm", "b").pooled
    d = np.array([(b.outcome == "correct") - (a.outcome == "correct") for a, b in zip(run, base, strict=True)], dtype=float)
    target = np.tile(np.arange(40), 2)
    fit = sm.OLS(d, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": target})
    assert pooled.difference.value == pytest.approx(d.mean()) and pooled.difference.se == pytest.approx(float(fit.bse[0]))
    sums = np.bincount(target, d)
    draws = np.random.default_rng(0).choice([-1, 1], (20000, 40)) @ sums
    assert pooled.test == "cluster sign-flip"
    assert pooled.p == pytest.approx(np.mean(np.abs(draws) >= abs(sums.sum()) - 1e-9), abs=0.01)
    assert pooled.p_holm == pooled.p


def test_retention_is_the_share_of_the_base_above_chance(predict) -> None:
    run, base = run_of(predict, 6, 0.6, ("T", "TT"), n=100), run_of(predict, 7, 0.95, ("T", "TT"), n=100)
    result = forgetting(run, base, "base-llm", "b")
    assert result.acc.value is not None and result.base_acc.value is not None
    assert result.retention.value == pytest.approx((result.acc.value - 0.25) / (result.base_acc.value - 0.25))
    top, bottom = (np.bincount(np.tile(np.arange(100), 2), [(p.outcome == "correct") - 0.25 for p in rows]) for rows in (run, base))
    oracle = stats.bootstrap(
        (top, bottom), lambda x, y: x.sum() / y.sum(), paired=True, method="percentile", rng=np.random.default_rng(0), n_resamples=3000
    )
    assert (result.retention.low, result.retention.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.02)


def test_retention_is_undefined_for_a_base_at_chance(predict) -> None:
    result = forgetting(run_of(predict, 8, 0.9, ("T",)), run_of(predict, 9, 0.25, ("T",)), "random", "b")
    assert result.retention.value is None and result.retention.note.startswith("undefined: ")
    assert result.pooled.difference.value is not None and result.pooled.difference.value < 0


def test_a_model_that_kept_everything_retains_one_with_an_interval(predict) -> None:
    run = run_of(predict, 10, 0.9, ("T", "TT"))
    result = forgetting(run, run, "itself", "b")
    assert result.pooled.difference.value == 0 and result.pooled.p == 1
    assert result.retention.value == 1 and result.retention.low is not None and result.retention.low < 1


def test_items_that_ended_in_an_error_on_either_side_leave_the_pairs_and_n(predict) -> None:
    run, base = run_of(predict, 11, 0.7, ("T",), errors=0.2), run_of(predict, 12, 0.9, ("T",), errors=0.2)
    both = sum(a.outcome != "error" and b.outcome != "error" for a, b in zip(run, base, strict=True))
    result = forgetting(run, base, "base-llm", "b")
    assert both < 40
    assert result.pooled.difference.n == result.acc.n == result.base_acc.n == result.retention.n == both


def test_history_turns_of_own_history_are_no_targets(predict) -> None:
    run = run_of(predict, 13, 0.7, ("TT",))
    extra = [predict("TT", f"T{i}", "wrong", position=0) for i in range(40)]
    assert forgetting(run + extra, run + extra, "x", "b").pooled.difference.n == 40


def test_runs_without_a_common_t_tier_are_refused(predict) -> None:
    with pytest.raises(UserError, match=r"'b' has no tier that ends in T in common"):
        forgetting(run_of(predict, 14, 0.7, ("V", "TT")), run_of(predict, 15, 0.7, ("V", "T")), "x", "b")


def test_blind_gap_compares_only_v_targets_clustered_by_image(predict) -> None:
    seeing, blind = run_of(predict, 16, 0.9, ("V", "TV", "T")), run_of(predict, 17, 0.4, ("V", "TV", "T"))
    *tiers, pooled = blind_gap(seeing, blind, "blind")
    assert [r.over for r in tiers] == ["TV", "V"]
    assert (pooled.over, pooled.difference.n, pooled.difference.clusters) == ("V*", 80, 20)
    for result in (*tiers, pooled):
        assert result.difference.value is not None and result.difference.value > 0.2
        assert result.test == "cluster sign-flip" and result.p is not None and result.p < 0.05


def test_runs_without_a_common_v_tier_have_no_blind_gap(predict) -> None:
    with pytest.raises(UserError, match=r"no tier that ends in V"):
        blind_gap(run_of(predict, 18, 0.9, ("T",)), run_of(predict, 19, 0.9, ("T", "V")), "blind")
