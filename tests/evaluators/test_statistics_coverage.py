"""Simulations where no library has the interval: how often does a 95% interval hold the truth, and a 5% test reject it when it is true?

Each would fail with the interval a newcomer would write (items taken as independent, or a plain normal interval), and shows that too.
"""

from collections.abc import Callable

import numpy as np
import pytest

from evaluators import statistics

RUNS = 400
# 400 runs of an exact 95% interval cover less than 92% one time in 200.
ENOUGH = 0.92

Sizes = Callable[[np.random.Generator, int], np.ndarray]


def equal(size: int) -> Sizes:
    return lambda rng, n: np.full(n, size)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([1, 1, 1, 2, 3, 10], n)


def levels(rng: np.random.Generator, n: int, p: float, icc: float) -> np.ndarray:
    """Chance of a right answer per cluster, [n]; beta with mean `p` and intra-cluster correlation `icc`."""
    if icc == 0 or p in (0, 1):
        return np.full(n, p)
    return rng.beta(p * (1 / icc - 1), (1 - p) * (1 / icc - 1), n)


@pytest.mark.parametrize(
    ("n_clusters", "sizes", "p", "icc"),
    [(10, equal(5), 0.9, 0.3), (30, equal(2), 0.98, 0.3), (30, equal(5), 0.5, 0.8), (100, equal(5), 0.9, 0.3), (10, skewed, 0.5, 0.3)],
)
def test_clustered_accuracy_interval_covers(n_clusters: int, sizes: Sizes, p: float, icc: float) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(RUNS):
        cluster = np.repeat(np.arange(n_clusters), sizes(rng, n_clusters))
        figure = statistics.mean(rng.random(len(cluster)) < levels(rng, n_clusters, p, icc)[cluster], cluster)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= p <= figure.high
    assert covered / RUNS >= ENOUGH


def test_an_interval_that_ignores_clusters_does_not_cover() -> None:
    """The yardstick of the tests above: Wilson over items as if they were independent."""
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(30), 5)
    covered = 0
    for _ in range(RUNS):
        x = rng.random(150) < levels(rng, 30, 0.5, 0.8)[cluster]
        low, high = statistics.wilson(float(x.mean()), 150)
        covered += low <= 0.5 <= high
    assert covered / RUNS < 0.8


@pytest.mark.parametrize(("p_text", "p_visual"), [(0.95, 0.6), (1.0, 0.5)])
def test_mean_over_tiers_of_the_same_targets_covers(p_text: float, p_visual: float) -> None:
    rng = np.random.default_rng(8)
    n, tiers = 60, 5
    cluster = np.concatenate([np.concatenate([np.arange(n), n + np.arange(n) // 2]) for _ in range(tiers)])
    tier = np.repeat(np.arange(2 * tiers), n)
    covered = 0
    for _ in range(RUNS):
        level = np.concatenate([levels(rng, n, p_text, 0.4), levels(rng, n, p_visual, 0.4)])  # a target keeps its level in every tier
        figure = statistics.weighted_mean(rng.random(len(tier)) < np.tile(level, tiers), cluster, tier)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= (p_text + p_visual) / 2 <= figure.high
    assert covered / RUNS >= ENOUGH


@pytest.mark.parametrize(
    ("n_clusters", "sizes", "p_a", "p_b", "icc"),
    [(40, equal(1), 0.9, 0.6, 0.0), (100, equal(1), 1.0, 0.97, 0.0), (20, equal(3), 0.9, 0.6, 0.5), (30, skewed, 0.6, 0.5, 0.5)],
)
def test_paired_interval_covers(n_clusters: int, sizes: Sizes, p_a: float, p_b: float, icc: float) -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(RUNS):
        cluster = np.repeat(np.arange(n_clusters), sizes(rng, n_clusters))
        luck = rng.random(len(cluster))  # the same luck on both sides for most items, so that pairs agree
        luck_b = np.where(rng.random(len(cluster)) < 0.6, luck, rng.random(len(cluster)))
        a, b = luck < levels(rng, n_clusters, p_a, icc)[cluster], luck_b < levels(rng, n_clusters, p_b, icc)[cluster]
        d = statistics.paired(a, b, cluster, over="TT", against="T").difference
        assert d.low is not None and d.high is not None
        covered += d.low <= p_a - p_b <= d.high
    assert covered / RUNS >= ENOUGH


def test_sign_flip_rejects_a_true_null_at_most_at_its_level_where_mcnemar_would_not() -> None:
    rng = np.random.default_rng(10)
    cluster = np.repeat(np.arange(40), 4)
    flipped = mcnemar = 0
    for _ in range(RUNS):
        a, b = (rng.random(160) < levels(rng, 40, 0.7, 0.6)[cluster] for _ in range(2))
        result = statistics.paired(a, b, cluster, over="TT", against="T")
        assert result.p is not None
        flipped += result.p < 0.05
        mcnemar += statistics.mcnemar_exact(result.only_a, result.only_b) < 0.05
    assert flipped / RUNS < 0.075
    assert mcnemar / RUNS > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("p", [0.98, 0.99, 0.9956, 0.996])
def test_pooled_score_near_one_covers(p: float, icc: float) -> None:
    """300 targets in 7 tiers: SEs from a handful of errors covered .80. The spec demands .94."""
    rng = np.random.default_rng(12)
    cluster, tier = np.tile(np.arange(300), 7), np.repeat(np.arange(7), 300)
    covered = 0
    for _ in range(RUNS):
        figure = statistics.weighted_mean(rng.random(2100) < np.tile(levels(rng, 300, p, icc), 7), cluster, tier)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= p <= figure.high
    assert covered / RUNS >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize(("p_run", "p_base", "least"), [(0.5, 0.9, 0.94), (0.93, 0.95, 0.94), (0.985, 0.99, 0.94)])
def test_retention_interval_covers_near_one_too(p_run: float, p_base: float, least: float) -> None:
    """A bootstrap of the ratio covered .91 near 1."""
    rng = np.random.default_rng(13)
    cluster = np.tile(np.arange(100), 3)
    covered = 0
    for _ in range(RUNS):
        level, luck = levels(rng, 100, p_base, 0.4), rng.random((2, 300))
        base = luck[0] < np.tile(level, 3)
        a = base & (luck[1] < p_run / p_base)
        figure = statistics.retention(a, base, np.full(300, 0.25), cluster)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= (p_run - 0.25) / (p_base - 0.25) <= figure.high
    assert covered / RUNS >= least


@pytest.mark.slow
def test_retention_interval_covers() -> None:
    rng = np.random.default_rng(11)
    cluster = np.repeat(np.arange(60), 3)
    covered, runs = 0, 150
    for _ in range(runs):
        a, b = (rng.random(180) < levels(rng, 60, p, 0.3)[cluster] for p in (0.5, 0.9))
        figure = statistics.retention(a, b, np.full(180, 0.25), cluster)
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= 0.25 / 0.65 <= figure.high
    assert covered / runs >= 0.9


# ---------------------------------------------------------------- shared histories


def with_histories(rng: np.random.Generator, targets: int, of_target: float, of_history: float, n_histories: int = 49) -> tuple:
    """Logits, clusters, tiers and histories of three tiers: none, one history cluster, two; each cluster serves many targets."""
    serving = [np.concatenate([rng.permutation(n_histories) for _ in range(targets // n_histories + 1)])[:targets] for _ in range(2)]
    effect, own = rng.normal(0, of_history, n_histories), rng.normal(0, of_target, targets)
    logits = np.concatenate([own, own + effect[serving[0]], own + effect[serving[0]] + effect[serving[1]]])
    histories = [*[()] * targets, *((h,) for h in serving[0]), *zip(*serving, strict=True)]
    return logits, np.tile(np.arange(targets), 3), np.repeat(np.arange(3), targets), histories


@pytest.mark.slow
@pytest.mark.parametrize(("level", "of_target", "of_history"), [(1, 1, 1), (1, 1, 0), (4.5, 1.5, 1.2)])
def test_interval_covers_where_histories_are_shared(level: float, of_target: float, of_history: float) -> None:
    """49 history clusters behind 300 targets: intervals by target cluster covered .78 and less."""
    rng = np.random.default_rng(14)
    drawn = [with_histories(rng, 300, of_target, of_history)[0] for _ in range(2000)]
    truth = float(np.mean([1 / (1 + np.exp(-level - logits)) for logits in drawn]))
    covered, one_way, runs = 0, 0, 250
    for _ in range(runs):
        logits, cluster, tier, histories = with_histories(rng, 300, of_target, of_history)
        x = rng.random(900) < 1 / (1 + np.exp(-level - logits))
        both = statistics.weighted_mean(x, cluster, tier, histories=histories)
        alone = statistics.weighted_mean(x, cluster, tier)
        assert both.low is not None and both.high is not None and alone.low is not None and alone.high is not None
        covered += both.low <= truth <= both.high
        one_way += alone.low <= truth <= alone.high
    assert covered / runs >= 0.91  # 250 runs of an exact 95% interval cover less one time in 300
    if of_history == 1:
        assert one_way / runs < 0.88


@pytest.mark.slow
@pytest.mark.parametrize(("n_histories", "of_history"), [(49, 1.0), (20, 1.0), (49, 0.0)])
def test_a_true_null_is_rejected_at_its_level_where_histories_are_shared(n_histories: int, of_history: float) -> None:
    """Effects of histories that cancel on average: the exact test by target rejects up to .27."""
    rng = np.random.default_rng(15)
    two_way = by_target = 0
    for _ in range(RUNS):
        h = rng.permutation(np.arange(300) % n_histories)
        own = 1 + rng.normal(0, 1, 300)
        a, b = (rng.random(300) < 1 / (1 + np.exp(-own - rng.normal(0, of_history, n_histories)[h])) for _ in range(2))
        two_way += (statistics.paired(a, b, np.arange(300), over="TT", against="T", histories=[[k] for k in h]).p or 0.0) < 0.05
        by_target += statistics.mcnemar_exact(int(np.sum(a & ~b)), int(np.sum(b & ~a))) < 0.05
    assert two_way / RUNS < 0.08
    assert of_history == 0 or by_target / RUNS > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["sign-flip", "two-way t"])
def test_a_detectable_difference_is_found_in_clusters_and_shared_histories(shared: bool) -> None:
    """The other two tests hold their promise too: the power of 300 runs at a true difference of that size is near .8."""
    rng = np.random.default_rng(16)
    n_clusters, size = 100, 3
    cluster, histories = np.repeat(np.arange(n_clusters), size), [[i % 30] for i in range(n_clusters * size)]

    def runs(rate: float, difference: float) -> tuple[np.ndarray, np.ndarray]:
        """Clusters that differ as a whole, `rate` of them, and more often one way."""
        way = np.where(rng.random(n_clusters) < (1 + difference / rate) / 2, 1, -1) * (rng.random(n_clusters) < rate)
        d = np.repeat(way, size)
        return d == 1, d == -1

    given = {"histories": histories} if shared else {}
    observed = [statistics.paired(*runs(0.2, 0.0), cluster, over="TT", against="T", **given).detectable or 1.0 for _ in range(20)]
    difference = float(np.mean(observed))
    found = sum((statistics.paired(*runs(0.2, difference), cluster, over="TT", against="T", **given).p or 0.0) < 0.05 for _ in range(300))
    assert 0.68 < found / 300 < 0.95
