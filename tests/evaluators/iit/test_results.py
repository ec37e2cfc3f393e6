"""What `summarise` puts into results.json: which rows enter which figure, and its note where there is none."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from evaluators.iit.results import summarise
from iit_bench.storage.tables import decode
from iit_bench.types import Figure, Prediction, Results, TierResult, tier_order

TIERS = ["".join(t) for k in (1, 2, 3) for t in itertools.product("TV", repeat=k)]


def tier_of(results: Results, tier: str) -> TierResult:
    return next(t for t in results.tiers if t.tier == tier)


def random_run(predict, seed: int, tiers: list[str], n: int = 40, errors: float = 0.0) -> list[Prediction]:
    """`n` targets per modality; two V targets share an image."""
    rng = np.random.default_rng(seed)
    rows = []
    for tier in tiers:
        for i in range(n):
            level = 0.9 - 0.1 * len(tier) - (0.2 if tier[-1] == "V" else 0)
            outcome = "error" if rng.random() < errors else "correct" if rng.random() < level else "wrong"
            cluster = f"image {i // 2}" if tier[-1] == "V" else f"fact {i}"
            rows.append(predict(tier, f"{tier[-1]}{i}", outcome, cluster=cluster, source=f"s{i % 2}", subject=f"part {i % 3}"))
    return rows


# ---------------------------------------------------------------- which rows count


def test_error_is_left_out_of_accuracy_and_wrong_in_the_strict_figure(predict) -> None:
    outcomes = ["correct"] * 5 + ["wrong"] * 2 + ["unparsed"] + ["error"] * 2
    results = summarise([predict("T", f"q{i}", outcome) for i, outcome in enumerate(outcomes)], {}, complete=False)
    tier = tier_of(results, "T")
    assert (tier.acc.value, tier.acc.n) == (5 / 8, 8)
    assert (tier.acc.low, tier.acc.high) == pytest.approx(proportion_confint(5, 8, method="wilson"))
    assert (tier.acc_strict.value, tier.acc_strict.n) == (5 / 10, 10)
    assert tier.outcomes == results.outcomes == {"correct": 5, "wrong": 2, "unparsed": 1, "truncated": 0, "error": 2}
    assert results.n_dialogues == 10 and results.complete is False


def test_the_three_metrics_take_their_own_choice(predict) -> None:
    rows = [predict("T", "a", "correct", norm=1, in_bytes=0), predict("T", "b", "wrong", norm=0, in_bytes=0)]
    tier = tier_of(summarise(rows, {}, True), "T")
    assert (tier.acc.value, tier.acc_norm.value, tier.acc_bytes.value) == (0.5, 0.5, 1.0)


def test_unparsed_is_wrong_under_every_metric(predict) -> None:
    tier = tier_of(summarise([predict("T", "a", "unparsed")], {}, True), "T")
    assert (tier.acc.value, tier.acc_norm.value, tier.acc_bytes.value, tier.acc_strict.value) == (0, 0, 0, 0)


def test_chance_is_the_mean_over_items_of_one_over_k(predict) -> None:
    rows = [
        predict("T", "a", choices=2),
        predict("T", "b", choices=4),
        predict("T", "c", "wrong", choices=4),
        predict("T", "d", "error", choices=8),
    ]
    tier = tier_of(summarise(rows, {}, True), "T")
    assert tier.chance == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert tier.acc_corrected.value == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))


def test_tiers_go_from_text_only_to_multimodal_rich(predict) -> None:
    results = summarise(random_run(predict, 0, TIERS[::-1], n=3), {}, True)
    assert [t.tier for t in results.tiers] == sorted(TIERS, key=tier_order)
    assert [t.visual_share for t in results.tiers] == sorted(t.visual_share for t in results.tiers)


def test_order_of_predictions_does_not_matter(predict) -> None:
    rows = random_run(predict, 1, TIERS, errors=0.1)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    assert asdict(summarise(rows, {}, True)) == asdict(summarise(shuffled, {}, True))


def test_a_turn_that_is_there_twice_is_refused(predict) -> None:
    with pytest.raises(ValueError, match="twice"):
        summarise([predict("T", "a"), predict("T", "a", "wrong")], {}, True)


def test_items_of_one_image_are_clustered(predict) -> None:
    rows = random_run(predict, 2, ["V"])
    x, cluster = [p.outcome == "correct" for p in rows], [p.cluster for p in rows]
    fit = sm.OLS(np.array(x, float), np.ones(len(x))).fit(
        cov_type="cluster", cov_kwds={"groups": np.unique(cluster, return_inverse=True)[1]}
    )
    acc = tier_of(summarise(rows, {}, True), "V").acc
    assert (acc.n, acc.clusters) == (40, 20) and acc.se == pytest.approx(float(fit.bse[0]))


# ---------------------------------------------------------------- means over tiers


def test_iit_t_and_v_scores_are_unweighted_means_over_tiers(predict) -> None:
    results = summarise(random_run(predict, 3, TIERS) + [predict("T", f"more {i}", "wrong") for i in range(30)], {}, True)
    for figures, ending in ((results.iit, ""), (results.t_score, "T"), (results.v_score, "V")):
        tiers = [t for t in results.tiers if t.tier.endswith(ending)]
        for metric in ("acc", "acc_norm", "acc_bytes", "acc_corrected"):
            assert figures[metric].value == pytest.approx(np.mean([getattr(t, metric).value for t in tiers])), (ending, metric)
        assert figures["acc"].n == sum(t.acc.n for t in tiers)
    assert results.iit["acc"].clusters == 40 + 30 + 20  # targets, extra targets, images: the same in every tier


def test_corrected_iit_score_weighs_tiers_by_their_chance(predict) -> None:
    rows = [predict("T", f"t{i}", "correct" if i < 9 else "wrong", choices=2) for i in range(12)]
    rows += [predict("V", f"v{i}", "correct" if i < 8 else "wrong", choices=4) for i in range(12)]
    figure = summarise(rows, {}, True).iit["acc_corrected"]
    assert figure.value == pytest.approx(((0.75 - 0.5) / 0.5 + (2 / 3 - 0.25) / 0.75) / 2)
    # independent halves: the variance of a sum of two independent means
    var = 0.75 * 0.25 / 12 / 0.5**2 / 4 + (2 / 3) * (1 / 3) / 12 / 0.75**2 / 4
    assert figure.se == pytest.approx(np.sqrt(var * 24 / 23))
    assert figure.low is not None and figure.high is not None and figure.low < figure.value < figure.high


def test_same_targets_in_many_tiers_do_not_count_as_new_ones(predict) -> None:
    once = summarise([predict("T", f"q{i}", "correct" if i % 3 else "wrong") for i in range(30)], {}, True).iit["acc"]
    often = summarise([predict(t, f"q{i}", "correct" if i % 3 else "wrong") for t in ("T", "TT", "VT") for i in range(30)], {}, True).iit[
        "acc"
    ]
    assert often.value == once.value and often.se == pytest.approx(once.se)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=0.005)


def test_a_tier_that_cannot_be_run_takes_the_means_it_belongs_to_away(predict) -> None:
    reason = "the model takes no images"
    results = summarise(random_run(predict, 4, ["T", "TT"]), {"V": reason, "TV": reason}, True)
    assert [t.tier for t in results.tiers] == ["T", "TT", "TV", "V"]
    assert tier_of(results, "TV").acc == Figure(None, note=reason) and tier_of(results, "TV").chance is None
    assert results.iit["acc"] == Figure(None, note=reason)
    assert results.v_score["acc"].value is None and results.t_score["acc"].value is not None
    assert set(results.iit) == {"acc", "acc_norm", "acc_bytes", "acc_corrected"}


def test_a_tier_without_a_finished_item_reports_it(predict) -> None:
    results = summarise([predict("T", "a"), predict("V", "b", "error")], {}, False)
    assert tier_of(results, "V").acc.note == "no finished item" and tier_of(results, "V").acc_strict.value == 0
    assert results.iit["acc"].note == "no finished item"


def test_a_benchmark_without_visual_targets_has_no_v_score(predict) -> None:
    results = summarise([predict("T", "a")], {}, True)
    assert results.v_score["acc"] == Figure(None, note="no tier ends in V") and results.iit["acc"].value == 1


def test_nothing_run_gives_results_without_values() -> None:
    results = summarise([], {}, True)
    assert results.tiers == () and results.iit["acc"].value is None and results.n_dialogues == 0
    assert summarise([], {"V": "x"}, True).iit["acc"].note == "x"


def test_a_tier_cannot_be_both_run_and_unavailable(predict) -> None:
    with pytest.raises(ValueError, match="unavailable"):
        summarise([predict("V", "a")], {"V": "the model takes no images"}, True)


# ---------------------------------------------------------------- parts


def test_breakdown_parts_add_up_to_their_tier(predict) -> None:
    results = summarise(random_run(predict, 5, ["T", "TV", "V"], errors=0.1), {}, True)
    for tier in results.tiers:
        parts = [b for b in results.breakdown if b.tier == tier.tier]
        assert [(b.source, b.subject) for b in parts] == sorted(itertools.product(["s0", "s1"], ["part 0", "part 1", "part 2"]))
        assert sum(b.acc.n for b in parts) == tier.acc.n
        assert sum(b.acc.n * b.acc.value for b in parts if b.acc.value is not None) == pytest.approx(tier.outcomes["correct"])


def test_own_history_turns_enter_positions_and_nothing_else(predict) -> None:
    targets = [predict("TT", "a"), predict("TT", "b", "wrong"), predict("T", "a")]
    history = [predict("TT", "a", "wrong", position=0), predict("TT", "b", "wrong", position=0)]
    with_history, without = summarise(targets + history, {}, True), summarise(targets, {}, True)
    assert [(b.tier, b.position, b.acc.value, b.acc.n) for b in with_history.positions] == [
        ("T", 0, 1.0, 1),
        ("TT", 0, 0.0, 2),
        ("TT", 1, 0.5, 2),
    ]
    assert asdict(with_history) | {"positions": ()} == asdict(without)


# ---------------------------------------------------------------- interleaving effects


def test_interleaving_effect_pairs_the_same_targets_with_and_without_history(predict) -> None:
    rows = random_run(predict, 6, ["T", "TT", "VT"], errors=0.05)
    results = summarise(rows, {}, True)
    right = {(p.tier, p.group): p.outcome == "correct" for p in rows if p.outcome != "error"}
    assert [(r.over, r.against) for r in results.interleaving] == [("TT", "T"), ("VT", "T")]
    for effect in results.interleaving:
        pairs = [
            (right[effect.over, f"T{i}"], right["T", f"T{i}"])
            for i in range(40)
            if {("T", f"T{i}"), (effect.over, f"T{i}")} <= right.keys()
        ]
        table = [[sum(a == x and b == y for a, b in pairs) for y in (True, False)] for x in (True, False)]
        assert effect.difference.n == len(pairs) < 40
        assert effect.difference.value == pytest.approx(np.mean([a - b for a, b in np.array(pairs, int)]))
        assert (effect.only_a, effect.only_b) == (table[0][1], table[1][0])
        assert effect.test == "mcnemar exact" and effect.p == pytest.approx(mcnemar(table, exact=True).pvalue)


@pytest.mark.slow
def test_interleaving_is_adjusted_over_all_tiers_and_clustered_where_images_repeat(predict) -> None:
    results = summarise(random_run(predict, 7, TIERS), {}, True)
    assert [r.over for r in results.interleaving] == [t for t in sorted(TIERS, key=tier_order) if len(t) > 1]
    assert {r.test for r in results.interleaving if r.against == "V"} == {"cluster sign-flip"}
    p = [r.p for r in results.interleaving]
    assert [r.p_holm for r in results.interleaving] == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_no_interleaving_effect_without_the_single_turn_tier(predict) -> None:
    results = summarise([predict("TV", "a"), predict("TT", "b"), predict("T", "b")], {}, True)
    assert [r.over for r in results.interleaving] == ["TT"]


def test_interleaving_effect_without_a_shared_finished_item_reports_it(predict) -> None:
    effect = summarise([predict("T", "a", "error"), predict("TT", "a")], {}, False).interleaving[0]
    assert effect.difference.value is None and effect.p is None and effect.p_holm is None
    assert effect.difference.note == "no item finished on both sides"


# ---------------------------------------------------------------- the file


def test_results_survive_json(predict) -> None:
    rows = [*random_run(predict, 8, TIERS, n=6, errors=0.2), predict("TT", "T0", "wrong", position=0)]
    for results in (summarise(rows, {}, False), summarise([predict("T", "a")], {"V": "no images"}, True)):
        text = json.dumps(asdict(results), allow_nan=False)
        assert decode(Results, json.loads(text)) == results
