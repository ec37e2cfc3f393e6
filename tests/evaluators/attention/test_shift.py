"""Figures from curves, by hand and by scipy; coverage of the new intervals by simulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from evaluators.attention.shift import CONSTANT, FEW_LAYERS, NO_BEFORE, attention_figures, dominance_of, shift_of
from evaluators.attention.table import ObservedDialogue
from evaluators.statistics.numbers import correlation, number_mean, rank_correlation

UP = (0.1, 0.2, 0.4)


def row(name: str = "a", **fields) -> ObservedDialogue:
    """A dialogue of one image, whose curves are given."""
    values = {"before": UP, "image": (0.01, 0.01, 0.01), "between": (), "after": UP}
    values |= {"n_before": 2, "n_image": 10, "n_between": 0, "n_after": 3, "layers": (0, 1, 2)}
    names = {"dialogue": f"V:{name}", "tier": "V", "group": name, "cluster": name, "history_clusters": ()}
    return ObservedDialogue(**names | values | fields)


def test_equal_forms_have_no_shift_and_opposite_ones_two() -> None:
    assert shift_of(row(after=tuple(3 * x + 1 for x in UP))) == pytest.approx(0, abs=1e-12)
    assert shift_of(row(after=tuple(-x for x in UP))) == pytest.approx(2)


@pytest.mark.oracle
def test_a_shift_is_one_minus_scipys_correlation() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(12), rng.random(12)
    found = shift_of(row(before=tuple(before), after=tuple(after), layers=tuple(range(12))))
    assert found == pytest.approx(1 - stats.pearsonr(before, after).statistic, abs=1e-12)


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"before": (), "n_before": 0}, NO_BEFORE),
        ({"layers": (0, 1), "before": (0.1, 0.2), "after": (0.2, 0.1)}, FEW_LAYERS),
        ({"before": (0.1, 0.1, 0.1)}, CONSTANT),
    ],
)
def test_a_shift_that_does_not_exist_has_a_reason(fields: dict, reason: str) -> None:
    assert shift_of(row(**fields)) == reason
    figures = attention_figures([row(**fields), row(**fields, name="b")])
    assert figures.pooled.shift.value is None and figures.without_shift == {reason: 2}


def test_dominance_by_hand() -> None:
    """Text has 5 tokens with 2 · 0.2 + 3 · 0.1 = 0.7, the image 10 with 0.3: (0.7 / 5) / (0.3 / 10) = 4.667 and 0.7 / (5 / 15) = 2.1."""
    mdi, aei = dominance_of(row(before=(0.2,) * 3, after=(0.1,) * 3, image=(0.03,) * 3))
    assert (mdi, aei) == (pytest.approx(14 / 3), pytest.approx(2.1))
    assert dominance_of(row(image=(0.0,) * 3)) is None


def test_a_geometric_mean_of_dominance() -> None:
    figures = attention_figures([row("a"), row("b", image=(0.04,) * 3)])
    one, other = (dominance_of(row(image=(x,) * 3))[0] for x in (0.01, 0.04))
    assert figures.pooled.mdi.value == pytest.approx((one * other) ** 0.5)


def test_dialogues_of_one_target_are_one_cluster() -> None:
    rows = [
        row(name, tier=tier, dialogue=f"{tier}:{name}", after=(0.1, x, 0.4))
        for tier in ("V", "TV")
        for name, x in zip("abc", (0.2, 0.1, 0.3), strict=True)
    ]
    figures = attention_figures(rows)
    assert figures.pooled.shift.clusters == 3 and figures.pooled.shift.n == 6
    assert [one.tier for one in figures.tiers] == ["TV", "V"] and {one.shift.clusters for one in figures.tiers} == {3}


def test_curves_are_means_over_dialogues_with_text_on_both_sides() -> None:
    rows = [row("a"), row("b", image=(0.03, 0.02, 0.01)), row("c", before=(), n_before=0, image=(9.0,) * 3)]
    figures = attention_figures(rows)
    assert [figure.value for figure in figures.curves["image"]] == pytest.approx([0.02, 0.015, 0.01])
    assert "between" not in figures.curves and figures.router == {}


@pytest.mark.oracle
def test_a_mean_of_independent_numbers_has_scipys_interval() -> None:
    values = np.random.default_rng(2).normal(size=20)
    found = number_mean(values, np.arange(20))
    interval = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(interval) and found.method == "t"


def test_numbers_that_do_not_vary_have_no_interval() -> None:
    assert number_mean([1.0, 1.0, 1.0], [0, 1, 2]).low is None
    assert number_mean([1.0, 2.0], [0, 0]).low is None


@pytest.mark.oracle
def test_correlations_equal_scipys() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=9), rng.integers(0, 4, 9)
    pearson = stats.pearsonr(x, y)
    found = correlation(x, y)
    assert found.value == pytest.approx(pearson.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(pearson.confidence_interval(0.95)))
    assert rank_correlation(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_few_or_equal_models_have_no_correlation() -> None:
    assert correlation([1, 2, 3], [1, 3, 2]).value is None and "4" in correlation([1, 2, 3], [1, 3, 2]).note
    assert correlation([1, 1, 1, 1], [1, 2, 3, 4]).value is None
    exact = rank_correlation([1, 2, 3, 4], [1, 4, 9, 16])
    assert exact.value == pytest.approx(1) and exact.low is None


@pytest.mark.slow
@pytest.mark.parametrize("n, rho", [(6, 0.5), (20, 0.0), (20, 0.7)])
def test_intervals_of_correlations_cover(n: int, rho: float) -> None:
    """Bivariate normal models, 3000 times: 95 % less Monte-Carlo error; Spearman's population value is 6/π · asin(ρ/2)."""
    rng = np.random.default_rng(4)
    hits = {"pearson": 0, "spearman": 0}
    truth = {"pearson": rho, "spearman": 6 / np.pi * np.arcsin(rho / 2)}
    for _ in range(3000):
        x = rng.normal(size=n)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
        for name, found in (("pearson", correlation(x, y)), ("spearman", rank_correlation(x, y))):
            hits[name] += found.low is not None and found.low <= truth[name] <= found.high
    assert hits["pearson"] >= 0.935 * 3000 and hits["spearman"] >= 0.925 * 3000, hits


@pytest.mark.slow
def test_the_interval_of_a_mean_covers_under_clusters() -> None:
    """20 clusters of unequal sizes with an effect of their own, 2000 times."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, 20)
    cluster = np.repeat(np.arange(20), sizes)
    hits = 0
    for _ in range(2000):
        values = rng.normal(size=20)[cluster] + rng.normal(size=len(cluster))
        found = number_mean(values, cluster)
        hits += found.low <= 0 <= found.high
    assert 0.935 * 2000 <= hits <= 0.975 * 2000, hits / 2000


@pytest.mark.slow
def test_the_interval_of_a_mean_covers_where_histories_are_shared() -> None:
    """60 targets without a history, and after one and two of 30 shared histories that have effects of their own, 1000 times."""
    rng = np.random.default_rng(6)
    target, hits = np.repeat(np.arange(60), 3), 0
    for _ in range(1000):
        drawn, effects = rng.integers(0, 30, (180, 2)), rng.normal(size=30)
        histories = [tuple(pair[:length]) for pair, length in zip(drawn.tolist(), np.tile([0, 1, 2], 60), strict=True)]
        shared = np.array([effects[list(one)].sum() for one in histories])
        found = number_mean(rng.normal(size=60)[target] + 0.7 * shared + rng.normal(size=180), target, histories)
        hits += found.low <= 0 <= found.high
    assert found.method == "two-way clustered t" and 0.92 * 1000 <= hits <= 0.98 * 1000, hits


def test_a_row_keeps_its_fields() -> None:
    assert dataclasses.replace(row(), tier="TV").curve("before") == UP and row().tokens("image") == 10
