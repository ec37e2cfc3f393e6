"""Sample sizes: a closed form for McNemar's test, simulated power at the size that is planned, and the inverse of `detectable`."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators import statistics
from evaluators.statistics import power, sample_size


@pytest.mark.oracle
@pytest.mark.parametrize(("difference", "discordant"), [(0.02, 0.1), (0.05, 0.2), (0.1, 0.3), (0.02, 0.02)])
def test_pairs_are_near_the_closed_form_of_connor_and_never_below_it(difference: float, discordant: float) -> None:
    """Connor (1987): (z_{1-α/2} √p + z_{power} √(p - δ²))² / δ²; the exact test is conservative and needs some more."""
    closed = (1.959964 * discordant**0.5 + 0.841621 * (discordant - difference**2) ** 0.5) ** 2 / difference**2
    found = sample_size.pairs_for_mcnemar(difference, discordant, 0.05, 0.8)
    assert found is not None and closed <= found <= 1.12 * closed + 60


@pytest.mark.parametrize(("difference", "discordant", "alpha"), [(0.05, 0.1, 0.05), (0.1, 0.1, 0.05), (0.06, 0.15, 0.0125)])
def test_from_the_planned_size_on_power_is_enough_and_just_below_it_is_not(difference: float, discordant: float, alpha: float) -> None:
    found = sample_size.pairs_for_mcnemar(difference, discordant, alpha, 0.8)
    assert found is not None
    assert all(power.mcnemar_power(difference, discordant, n, alpha) >= 0.8 for n in range(found, found + 60))
    assert power.mcnemar_power(difference, discordant, found - 1, alpha) < 0.8


@pytest.mark.oracle
def test_simulated_power_at_the_planned_size_is_the_power_asked_for() -> None:
    """Independent pairs; 2,000 simulated runs by exact McNemar: the standard error of the power is .009."""
    n = sample_size.pairs_for_mcnemar(0.05, 0.15, 0.05, 0.8)
    rng = np.random.default_rng(1)
    differing = rng.binomial(n, 0.15, 2000)
    only_a = rng.binomial(differing, 2 / 3)  # 10% against 5%
    found = np.mean([statistics.mcnemar_exact(int(a), int(d - a)) < 0.05 and a > d - a for a, d in zip(only_a, differing, strict=True)])
    assert 0.775 <= found <= 0.835


@pytest.mark.slow
@pytest.mark.parametrize(("items", "icc"), [(3, 0.4), (7, 0.2)])
def test_simulated_power_of_clusters_at_the_planned_size(items: int, icc: float) -> None:
    """Items of a cluster come out alike with probability √icc each: the project's own test over clusters, 400 simulated runs."""
    pairs = sample_size.pairs_for_mcnemar(0.08, 0.2, 0.05, 0.8)
    groups = int(np.ceil(pairs * sample_size.design_effect(items, icc) / items))
    rng, cluster = np.random.default_rng(4), np.repeat(np.arange(groups), items)
    found = 0
    for _ in range(400):
        common = rng.choice([-1, 0, 1], p=[0.06, 0.8, 0.14], size=groups)[cluster]
        own = rng.choice([-1, 0, 1], p=[0.06, 0.8, 0.14], size=len(cluster))
        d = np.where(rng.random(len(cluster)) < icc**0.5, common, own)
        result = statistics.paired(d == 1, d == -1, cluster, over="T", against="base")
        found += result.p < 0.05 and result.difference.value > 0
    assert 0.74 <= found / 400 <= 0.88


def test_more_pairs_than_are_searched_for_have_no_number() -> None:
    assert sample_size.pairs_for_mcnemar(0.0001, 0.5, 0.05, 0.8) is None


def test_t_test_needs_more_pairs_where_few_degrees_of_freedom_estimate_its_error() -> None:
    many = sample_size.pairs_for_t(0.1, 0.3, lambda n: n - 1, 0.05, 0.8)
    few = sample_size.pairs_for_t(0.1, 0.3, lambda n: n / 20 - 1, 0.05, 0.8)
    assert many is not None and few is not None and many < few


def test_pilot_of_the_planned_size_detects_what_it_was_planned_for() -> None:
    n = sample_size.pairs_for_mcnemar(0.07, 0.2, 0.05, 0.8)
    assert power.detectable_by_mcnemar(0.2, n, 0.05) == pytest.approx(0.07, rel=2e-3)
