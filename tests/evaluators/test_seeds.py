"""Means over seeds: an analysis of variance by hand, statsmodels' mixed model, simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators.statistics import Dependence
from evaluators.statistics.seeds import accuracy_over_seeds, difference_over_seeds


def alone(n: int) -> Dependence:
    return Dependence.of(np.arange(n))


@pytest.mark.oracle
def test_variance_equals_a_two_way_analysis_of_variance_by_hand() -> None:
    """Without tiers and clusters: (MS of seeds + MS of items - MS of the rest) / (S · n)."""
    rng = np.random.default_rng(0)
    s, n = 4, 30
    y = rng.normal(size=(s, 1)) * 0.3 + rng.normal(size=n) + rng.normal(size=(s, n)) * 0.5
    rest = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    ms_seed = n * np.sum((y.mean(1) - y.mean()) ** 2) / (s - 1)
    ms_item = s * np.sum((y.mean(0) - y.mean()) ** 2) / (n - 1)
    ms_rest = np.sum(rest**2) / ((s - 1) * (n - 1))
    found = difference_over_seeds(y, alone(n))
    assert found.figure.se == pytest.approx(np.sqrt((ms_seed + ms_item - ms_rest) / (s * n)))
    assert found.between == pytest.approx(np.sqrt((ms_seed - ms_rest) / n))
    assert found.per_seed == pytest.approx(y.mean(1)) and found.figure.value == pytest.approx(y.mean())


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_standard_error_equals_that_of_a_mixed_model_of_statsmodels() -> None:
    import pandas as pd
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng = np.random.default_rng(1)
    s, n = 5, 24
    y = rng.normal(size=(s, 1)) * 0.6 + rng.normal(size=n) + rng.normal(size=(s, n)) * 0.5
    data = pd.DataFrame({"y": y.ravel(), "seed": np.repeat(np.arange(s), n), "item": np.tile(np.arange(n), s), "all": 1})
    crossed = {"seed": "0 + C(seed)", "item": "0 + C(item)"}
    fit = MixedLM.from_formula("y ~ 1", groups="all", re_formula="0", vc_formula=crossed, data=data).fit(reml=True)
    found = difference_over_seeds(y, alone(n))
    assert found.figure.se == pytest.approx(float(fit.bse["Intercept"]), rel=2e-3)
    assert found.between**2 == pytest.approx(float(fit.vcomp[fit.model.exog_vc.names.index("seed")]), rel=5e-3)


def simulated(rng: np.random.Generator, seeds: int, clusters: int, items: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Right answers [S, n] of clusters of items, and the cluster of each; a seed moves every item's chance, with SD `spread`."""
    cluster = np.repeat(np.arange(clusters), items)
    level = np.clip(rng.beta(6, 2, clusters)[cluster], 0.1, 0.9)
    effect = rng.normal(0, spread, (seeds, 1))
    return (rng.random((seeds, len(cluster))) < level + effect).astype(float), cluster


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.03), (5, 0.05), (10, 0.02)])
def test_interval_covers(seeds: int, spread: float) -> None:
    """1,000 runs: the standard error of a coverage of .95 is .007."""
    rng = np.random.default_rng(9)
    covered = plain = 0
    truth = float(np.mean(np.clip(np.random.default_rng(0).beta(6, 2, 2_000_000), 0.1, 0.9)))
    tiers = np.tile([0, 1], 100)
    for _ in range(1000):
        right, cluster = simulated(rng, seeds, 100, 2, spread)
        figure = accuracy_over_seeds(right, Dependence.of(cluster), tiers).figure
        covered += figure.low <= truth <= figure.high
        half = 1.96 * right.mean(0).std() / 200**0.5
        plain += abs(right.mean() - truth) <= half
    assert 0.93 <= covered / 1000 <= 0.985
    assert plain < covered  # the yardstick: items as if they were independent, and seeds as if they were all there are


@pytest.mark.slow
def test_one_seed_s_own_interval_is_too_narrow_for_what_another_seed_would_give() -> None:
    rng = np.random.default_rng(3)
    truth = float(np.mean(np.clip(np.random.default_rng(0).beta(6, 2, 2_000_000), 0.1, 0.9)))
    covered = 0
    from evaluators.statistics import mean

    for _ in range(400):
        right, cluster = simulated(rng, 1, 300, 2, 0.06)
        figure = mean(right[0], cluster)
        covered += figure.low <= truth <= figure.high
    assert covered / 400 < 0.75


def test_difference_has_a_test_and_an_interval_that_agree() -> None:
    rng = np.random.default_rng(2)
    d = rng.choice([-1.0, 0, 1], p=[0.05, 0.75, 0.2], size=(3, 400))
    found = difference_over_seeds(d, Dependence.of(np.arange(400) // 2))
    assert found.p is not None and (found.p < 0.05) == (found.figure.low > 0)


def test_all_right_under_every_seed_has_a_width() -> None:
    found = accuracy_over_seeds(np.ones((3, 50)), alone(50), np.zeros(50, dtype=np.int64))
    assert found.figure.value == found.figure.high == 1 and 0.8 < found.figure.low < 0.99 and found.between == 0


def test_seeds_that_never_differ_have_the_items_interval_or_a_wider_one() -> None:
    right = np.tile((np.arange(200) % 5 > 0).astype(float), (3, 1))
    found = accuracy_over_seeds(right, alone(200), np.zeros(200, dtype=np.int64))
    assert found.between == 0 and found.figure.se == pytest.approx((0.16 / 199) ** 0.5)


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="one seed"):
        difference_over_seeds(np.zeros((1, 5)), alone(5))
