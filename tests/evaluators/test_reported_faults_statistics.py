"""Figures that were wrong and are right now, one test per reported fault: intervals, variances, tests, detectable differences."""

import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from evaluators import statistics
from evaluators.statistics import Dependence, power

# ---------------------------------------------------------------- near 0 and 1


def test_partial_credits_without_a_zero_are_not_a_mean_of_one() -> None:
    """`x.all()` was taken for "all are 1": half credit everywhere became exactly 1.0. Right: the mean."""
    assert statistics.mean([0.5, 0.5, 1.0], np.arange(3)).value == pytest.approx(2 / 3)
    assert statistics.weighted_mean([0.25] * 4, np.arange(4), [0, 0, 1, 1], [0.1, 0.7]).value == pytest.approx(0.25)


def pooled(wrong: int, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers, clusters and tiers of 300 targets in 7 tiers with `wrong` wrong answers, each in a target of its own or target by target."""
    order = np.arange(2100) if how == "apart" else np.arange(2100).reshape(7, 300).T.ravel()
    x = np.ones(2100)
    x[order[:wrong]] = 0
    return x, np.tile(np.arange(300), 7), np.repeat(np.arange(7), 300)


@pytest.mark.parametrize("how", ["apart", "together"])
def test_one_more_error_never_raises_the_lower_bound(how: str) -> None:
    """One more wrong answer among 2,100 raised the lower bound by a point. Right: never, and mirrored below ½."""
    figures = [statistics.weighted_mean(*pooled(wrong, how)) for wrong in range(60)]
    mirrored = [statistics.weighted_mean(1 - x, c, t) for x, c, t in (pooled(wrong, how) for wrong in range(60))]
    for better, worse in itertools.pairwise(figures):
        assert better.low is not None and worse.low is not None and worse.low < better.low
    for better, worse in zip(figures, mirrored, strict=True):
        assert better.low is not None and worse.high == pytest.approx(1 - better.low)


@pytest.mark.slow
def test_one_more_error_never_raises_the_lower_bound_whatever_the_clusters() -> None:
    """As above, over clusters of unlike sizes, few and many, and errors that fall together or apart."""
    rng = np.random.default_rng(0)
    for trial in range(150):
        n_clusters = int(rng.choice([3, 5, 10, 30, 100]))
        cluster = np.repeat(np.arange(n_clusters), rng.choice([1, 1, 2, 3, 10], n_clusters) if trial % 2 else 5)
        x = np.ones(len(cluster))
        wrong = min(int(rng.choice([0, 1, 2, 3, 5, 10, 20])), len(x) // 3)
        x[rng.permutation(len(x))[:wrong] if trial % 3 else np.arange(wrong)] = 0
        before = statistics.mean(x, cluster)
        for i in rng.permutation(np.flatnonzero(x == 1))[:10]:
            after = statistics.mean(np.where(np.arange(len(x)) == i, 0, x), cluster)
            assert before.low is not None and after.low is not None and after.value is not None
            assert after.value < 0.5 or after.low <= max(0.5, before.low) + 1e-12


@pytest.mark.slow
def test_one_more_error_never_raises_the_lower_bound_where_histories_are_shared() -> None:
    """The same with two-way variances: errors apart, by target, and by history."""
    rng = np.random.default_rng(4)
    cluster, tier = np.tile(np.arange(80), 3), np.repeat(np.arange(3), 80)
    histories = [() if t == 0 else (int(rng.integers(20)), int(rng.integers(20)) + 20)[: t + 1] for t in tier]
    by_history = np.argsort([max(h, default=99) for h in histories], kind="stable")
    for order in (rng.permutation(240), np.argsort(cluster, kind="stable"), by_history):
        for wrong in (0, 1, 2, 5, 20):
            x = np.where(np.isin(np.arange(240), order[:wrong]), 0, 1)
            before = statistics.weighted_mean(x, cluster, tier, histories=histories)
            for i in rng.choice(order[wrong:], 8, replace=False):
                after = statistics.weighted_mean(np.where(np.arange(240) == i, 0, x), cluster, tier, histories=histories)
                assert before.low is not None and after.low is not None and after.low <= max(0.5, before.low) + 1e-12


def test_all_right_counts_as_many_items_as_there_are_clusters() -> None:
    """At 1 the data hold no information on dependence: Wilson on the 300 targets, not on 2,100 answers."""
    figure = statistics.weighted_mean(*pooled(0, "apart"))
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(300, 300, method="wilson"), abs=1e-9)


# ---------------------------------------------------------------- variance by history


def two_ways(seed: int, n: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers of which each depends on its target (of 60) and on its history cluster (of 20)."""
    rng = np.random.default_rng(seed)
    target, history = np.repeat(np.arange(n // 4), 4), rng.integers(0, 20, n)
    logit = 1 + rng.normal(0, 1, n // 4)[target] + rng.normal(0, 1.5, 20)[history]
    return (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int), target, history


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(4))
def test_variance_is_two_way_where_histories_are_shared(seed: int) -> None:
    """300 visual targets rested on 49 history images, which the SE did not know. Right: statsmodels' two-way covariance."""
    x, target, history = two_ways(seed)
    fit = sm.OLS(x, np.ones(len(x))).fit()
    both, by_target, by_history = (float(np.squeeze(v)) for v in cov_cluster_2groups(fit, target, history))
    figure = statistics.mean(x, target, histories=[[h] for h in history])
    assert figure.se == pytest.approx(np.sqrt(max(both, by_target, by_history)), rel=1e-9)
    assert figure.method == "two-way clustered wilson"
    assert both > 1.2 * by_target  # the histories matter here


def test_an_item_with_several_history_clusters_depends_on_all_that_share_one() -> None:
    """Longer histories have several clusters. Right: a pair of items counts once, whether it shares one cluster or two."""
    rng = np.random.default_rng(3)
    n = 60
    target = np.repeat(np.arange(20), 3)
    histories = [rng.choice(15, rng.integers(0, 4), replace=False).tolist() for _ in range(n)]
    u = rng.normal(size=n)
    u -= u.mean()
    pairs = [(i, j) for i in range(n) for j in range(n)]
    shares = {(i, j): i == j or bool(set(histories[i]) & set(histories[j])) for i, j in pairs}
    by_target = sum(u[i] * u[j] for i, j in pairs if target[i] == target[j]) * 20 / 19
    n_histories = len({h for one in histories for h in one}) + sum(not one for one in histories)
    n_both = len({(int(t), *sorted(h)) for t, h in zip(target, histories, strict=True)})
    by_history = sum(u[i] * u[j] for i, j in pairs if shares[i, j]) * n_histories / (n_histories - 1)
    by_both = sum(u[i] * u[j] for i, j in pairs if shares[i, j] and target[i] == target[j]) * n_both / (n_both - 1)
    expected = max(by_target, by_history, by_target + by_history - by_both)
    assert Dependence.of(target, histories=histories).variance(u) == pytest.approx(expected, rel=1e-9)


def test_histories_that_serve_one_target_only_change_nothing() -> None:
    """Where no history cluster serves two groups, figures and tests are those by target cluster."""
    x, target, _ = two_ways(0)
    own = [[f"h{t}"] for t in target]
    assert statistics.mean(x, target, histories=own) == statistics.mean(x, target)
    y = np.roll(x, 1)
    assert statistics.paired(x, y, target, over="TT", against="T", histories=own) == statistics.paired(x, y, target, over="TT", against="T")


def test_the_test_is_a_t_test_on_the_two_way_variance_where_histories_are_shared() -> None:
    """A sign-flip by target took targets with a common history for independent. Right: t on the two-way variance, never below it."""
    x, target, history = two_ways(1)
    y = two_ways(2)[0]
    histories = [[h] for h in history]
    result = statistics.paired(x, y, target, over="TT", against="T", histories=histories)
    plain = statistics.paired(x, y, target, over="TT", against="T")
    fit = sm.OLS(x - y, np.ones(len(x))).fit()
    both, by_target, by_history = (float(np.squeeze(v)) for v in cov_cluster_2groups(fit, target, history))
    se = np.sqrt(max(both, by_target, by_history))
    df = len(x) ** 2 / np.sum(np.bincount(history) ** 2) - 1
    assert (result.test, plain.test) == ("two-way t", "cluster sign-flip")
    assert result.df == pytest.approx(df) and result.difference.se == pytest.approx(se)
    by_t = 2 * stats.t.sf(abs((x - y).mean()) / se, df)
    assert plain.p is not None and result.p == pytest.approx(max(by_t, plain.p))


def test_four_pairs_one_way_are_not_significant_by_t() -> None:
    """With few discordant pairs t is too sure (4 of 4 one way: p = .05); exact: .125. Right: the larger p."""
    b = np.ones(300)
    a = np.where(np.arange(300) < 4, 0, 1)
    result = statistics.paired(a, b, np.arange(300), over="TT", against="T", histories=[[i % 150] for i in range(300)])
    assert result.test == "two-way t" and result.p == pytest.approx(0.125)


# ---------------------------------------------------------------- detectable differences


@pytest.mark.oracle
@pytest.mark.parametrize(("only_a", "only_b", "tests"), [(1, 0, 1), (1, 0, 12), (6, 4, 12), (30, 20, 1), (60, 55, 12)])
def test_detectable_difference_is_found_with_the_power_it_promises(only_a: int, only_b: int, tests: int) -> None:
    """(1.96 + 0.84)·SE promised power .8 and had .07 to .60. Right: the very test, at Holm's first step, has .8 (brute force)."""
    n = 300
    a = np.r_[np.ones(only_a), np.zeros(only_b), np.ones(n - only_a - only_b)]
    b = np.r_[np.zeros(only_a), np.ones(only_b), np.ones(n - only_a - only_b)]
    one = statistics.paired(a, b, np.arange(n), over="TT", against="T")
    result = statistics.with_holm([one] * tests)[0]
    assert result.detectable is not None
    assert exact_power(result.detectable, max(result.detectable, (only_a + only_b) / n), n, 0.05 / tests) == pytest.approx(0.8, abs=0.02)
    smaller = result.detectable * 0.9
    assert exact_power(smaller, max(smaller, (only_a + only_b) / n), n, 0.05 / tests) < 0.8


def exact_power(difference: float, discordant: float, n: int, alpha: float) -> float:
    """Over every number of discordant pairs and every split of them: the probability that twice scipy's binomial tail is at most alpha."""
    one_way = (1 + difference / discordant) / 2
    found = 0.0
    for d in range(1, n + 1):
        weight = stats.binom.pmf(d, n, discordant)
        if weight < 1e-9:
            continue
        k = np.arange(d // 2 + 1, d + 1)
        found += weight * stats.binom.pmf(k[2 * stats.binom.sf(k - 1, d, 0.5) <= alpha], d, one_way).sum()
    return float(found)


@pytest.mark.parametrize(("tests", "least"), [(1, 6), (12, 9)])
def test_few_discordant_pairs_have_a_floor(tests: int, least: int) -> None:
    """With one discordant pair of 300 nothing can be significant. Right: a field with the least number that can, all one way."""
    b = np.ones(300)
    a = np.where(np.arange(300) < 1, 0, 1)
    result = statistics.with_holm([statistics.paired(a, b, np.arange(300), over="TT", against="T")] * tests)[0]
    assert result.detectable_floor == least
    assert statistics.mcnemar_exact(least, 0) <= 0.05 / tests < statistics.mcnemar_exact(least - 1, 0)
    assert result.detectable is not None and result.detectable > least / 300
    many = statistics.paired(np.where(np.arange(300) < 40, 0, 1), b, np.arange(300), over="TT", against="T")
    assert many.detectable_floor is None


def test_where_nothing_can_be_found_nothing_is_promised() -> None:
    """Three items can never differ significantly."""
    result = statistics.paired([1, 0, 1], [0, 0, 1], np.arange(3), over="TT", against="T")
    assert result.detectable is None and result.detectable_floor == 6


@pytest.mark.oracle
def test_detectable_difference_of_means_is_that_of_the_t_test() -> None:
    """Scores that are not 0/1: the power of the t test by statsmodels."""
    from statsmodels.stats.power import TTestPower

    rng = np.random.default_rng(5)
    a, b = rng.normal(0.5, 0.2, 40), rng.normal(0.45, 0.2, 40)
    result = statistics.with_holm([statistics.paired_means(a, b, np.arange(40), over="x", against="y")] * 3)[0]
    effect = TTestPower().solve_power(nobs=40, alpha=0.05 / 3, power=0.8, alternative="two-sided")
    assert result.detectable == pytest.approx(effect * np.std(a - b, ddof=1), rel=2e-3)


@pytest.mark.parametrize("discordant", [0, 1, 5, 17, 200])
def test_critical_counts_are_those_of_the_exact_test(discordant: int) -> None:
    """The inverted test rejects exactly where the test does."""
    for alpha in (0.05, 0.05 / 12):
        most = int(power.critical(discordant, alpha)[-1])
        rejects = [k for k in range(discordant // 2 + 1) if statistics.mcnemar_exact(k, discordant - k) <= alpha]
        assert most == (max(rejects) if rejects else -1)


# ---------------------------------------------------------------- retention


def test_retention_says_what_the_difference_says() -> None:
    """Its bootstrap contradicted the difference in its row: one included no loss, the other did not. Right: one interval, scaled."""
    rng = np.random.default_rng(2)
    contradictions = 0
    for _ in range(100):
        base = rng.random(120) < 0.97
        a = np.where(rng.random(120) < 0.04, ~base, base)
        d = statistics.paired(a, base, np.arange(120), over="T*", against="base").difference
        kept = statistics.retention(a, base, np.full(120, 0.25), np.arange(120))
        assert None not in (d.low, d.high, kept.low, kept.high)
        contradictions += (d.low <= 0 <= d.high) != (kept.low <= 1 <= kept.high)  # type: ignore[operator]
    assert contradictions == 0
