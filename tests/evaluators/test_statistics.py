"""Point figures, standard errors, intervals and tests against statsmodels, scipy and brute force."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from evaluators import statistics
from evaluators.statistics import exact
from evaluators.statistics.histories import codes, distinct, ranks

pytestmark = pytest.mark.oracle


def clustered_sample(seed: int, n_clusters: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """0/1 values and cluster codes; clusters of one to five items, alike within a cluster."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), rng.integers(1, 6, n_clusters))
    return (rng.random(len(cluster)) < rng.beta(1.5, 1, n_clusters)[cluster]).astype(int), cluster


def sm_cluster_se(design: np.ndarray, y: np.ndarray, cluster: np.ndarray, contrast: np.ndarray) -> float:
    """Cluster-robust SE of contrast · coefficients, with the correction G/(G-1) alone."""
    fit = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False})
    n_clusters = len(np.unique(cluster))
    return float(np.sqrt(contrast @ fit.cov_params() @ contrast * n_clusters / (n_clusters - 1)))


# ---------------------------------------------------------------- clusters


def test_components_join_items_that_share_a_group_or_a_cluster() -> None:
    rng = np.random.default_rng(0)
    groups, clusters = rng.integers(0, 40, 60).tolist(), rng.integers(0, 40, 60).tolist()
    label = list(range(60))
    for _ in range(60):  # spread the smallest label until nothing moves
        for i, j in itertools.combinations(range(60), 2):
            if groups[i] == groups[j] or clusters[i] == clusters[j]:
                label[i] = label[j] = min(label[i], label[j])
    found = statistics.components([f"g{g}" for g in groups], [f"c{c}" for c in clusters])
    assert found.tolist() == statistics.codes(label).tolist()
    assert 1 < len(set(label)) < 60


def test_a_group_and_a_cluster_of_the_same_name_are_different_things() -> None:
    assert statistics.components(["x", "y"], ["y", "z"]).tolist() == [0, 1]


def test_components_of_nothing_are_nothing() -> None:
    assert statistics.components([], []).tolist() == []


# ---------------------------------------------------------------- accuracies


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (299, 300)])
def test_interval_is_wilsons_where_no_cluster_repeats(right: int, n: int) -> None:
    figure = statistics.mean([1] * right + [0] * (n - right), np.arange(n))
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert (figure.value, figure.n, figure.clusters, figure.method) == (right / n, n, n, "wilson")


@pytest.mark.parametrize("seed", range(5))
def test_standard_error_is_that_of_a_cluster_robust_regression(seed: int) -> None:
    x, cluster = clustered_sample(seed)
    fit = sm.OLS(x, np.ones(len(x))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    figure = statistics.mean(x, cluster)
    assert figure.value == pytest.approx(x.mean())
    assert figure.se == pytest.approx(float(fit.bse[0]), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_interval_is_wilsons_on_the_effective_number_of_items(seed: int) -> None:
    x, cluster = clustered_sample(seed)
    fit = sm.OLS(x, np.ones(len(x))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    sizes = np.bincount(cluster)
    n, p, usual = sizes.sum(), x.mean(), (sizes**2).sum() / sizes.sum()
    kish = n / usual
    # two pseudo-clusters of the usual size that answer all right, two that answer all wrong
    pseudo = 2 * usual * (p**2 + (1 - p) ** 2)
    items = n * (n * p * (1 - p) + pseudo) / (n**2 * fit.bse[0] ** 2 + usual * pseudo)
    items = np.clip(items * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, kish - 1)) ** 2, kish, n)
    figure = statistics.mean(x, cluster)
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(x.mean() * items, items, method="wilson"), abs=1e-9)
    assert kish < items < len(x)


def test_copies_of_an_item_in_its_cluster_add_no_certainty() -> None:
    rng = np.random.default_rng(1)
    x = (rng.random(60) < 0.7).astype(int)
    once, thrice = statistics.mean(x, np.arange(60)), statistics.mean(np.repeat(x, 3), np.repeat(np.arange(60), 3))
    assert thrice.value == once.value
    assert thrice.se == pytest.approx(once.se, rel=1e-12)
    assert thrice.n == 180 and thrice.clusters == 60
    # clusters that answer as one: Wilson on the clusters, up to the factor G/(G-1) of an SE that is estimated
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=0.002)


@pytest.mark.parametrize("value", [0, 1])
def test_interval_at_the_ends_has_width_and_counts_clusters_not_items(value: int) -> None:
    figure = statistics.mean([value] * 12, np.repeat(np.arange(4), 3))
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(4 * value, 4, method="wilson"), abs=1e-12)
    assert figure.value == value and figure.low <= value <= figure.high and figure.high - figure.low > 0.3


def test_one_cluster_is_one_observation() -> None:
    figure = statistics.mean([1, 0, 1, 1], [7, 7, 7, 7])
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(0.75, 1, method="wilson"), abs=1e-12)
    assert figure.clusters == 1 and figure.se is None


def test_no_item_gives_no_value_and_reports_it() -> None:
    figure = statistics.mean([], [])
    assert (figure.value, figure.low, figure.n, figure.note) == (None, None, 0, "no finished item")


def test_clusters_that_balance_out_are_not_taken_for_certainty() -> None:
    figure = statistics.mean([1, 0] * 10, np.repeat(np.arange(10), 2))  # each cluster half right: SE is 0
    assert figure.se == 0
    assert figure.low is not None and figure.high is not None
    wide, narrow = proportion_confint(5, 10, method="wilson"), proportion_confint(10, 20, method="wilson")
    assert wide[0] < figure.low <= narrow[0] and narrow[1] <= figure.high < wide[1]


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_mean_over_tiers_has_the_standard_error_of_a_regression_on_tiers(weights: list[float] | None) -> None:
    parts = [clustered_sample(seed, n_clusters=30) for seed in (1, 2, 3)]
    x, cluster = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])  # codes are shared between tiers
    tier = np.repeat(np.arange(3), [len(p[0]) for p in parts])
    share = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    figure = statistics.weighted_mean(x, cluster, tier, weights)
    assert figure.value == pytest.approx(share @ [p[0].mean() for p in parts])
    assert figure.se == pytest.approx(sm_cluster_se(np.eye(3)[tier], x, cluster, share), rel=1e-9)
    assert figure.low is not None and figure.high is not None and figure.low < figure.value < figure.high


def test_mean_over_tiers_that_are_all_right_is_exactly_one() -> None:
    figure = statistics.weighted_mean(np.ones(33), np.tile(np.arange(11), 3), np.repeat(np.arange(3), 11), [0.1, 0.2, 0.3])
    assert figure.value == figure.high == 1
    assert figure.low == pytest.approx(proportion_confint(11, 11, method="wilson")[0], abs=0.08)


def test_chance_correction_moves_value_bounds_and_se_alike() -> None:
    figure = statistics.mean([1, 1, 1, 0], np.arange(4))
    corrected = statistics.chance_corrected(figure, 0.25)
    assert corrected.value == pytest.approx((0.75 - 0.25) / 0.75)
    assert figure.low is not None and figure.se is not None
    assert corrected.low == pytest.approx((figure.low - 0.25) / 0.75) and corrected.se == pytest.approx(figure.se / 0.75)
    assert statistics.chance_corrected(statistics.mean([], []), None).value is None


# ---------------------------------------------------------------- paired differences


def test_paired_standard_error_is_that_of_a_cluster_robust_regression() -> None:
    a, cluster = clustered_sample(3)
    b = np.random.default_rng(0).permutation(a)
    fit = sm.OLS(a - b, np.ones(len(a))).fit(cov_type="cluster", cov_kwds={"groups": cluster})
    result = statistics.paired(a, b, cluster, over="TT", against="T")
    assert result.difference.se == pytest.approx(float(fit.bse[0]), rel=1e-12)
    assert (result.only_a, result.only_b) == (int(np.sum(a > b)), int(np.sum(a < b)))
    assert (result.test, result.over, result.against) == ("cluster sign-flip", "TT", "T")


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither"), [(50, 9, 2, 10), (5, 0, 0, 5), (0, 0, 8, 0), (1, 0, 0, 0), (100, 30, 31, 4)]
)
def test_singletons_get_mcnemar_and_bonett_price(both: int, only_a: int, only_b: int, neither: int) -> None:
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    n = len(a)
    result = statistics.paired(a, b, np.arange(n), over="TT", against="T")
    assert result.test == "mcnemar exact"
    assert result.p == pytest.approx(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue, abs=1e-12)
    p12, p21 = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = stats.norm.ppf(0.975) * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    expected = (max(-1.0, p12 - p21 - half), min(1.0, p12 - p21 + half))
    assert (result.difference.low, result.difference.high) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "cluster", [np.arange(20), np.repeat(np.arange(10), 2), np.zeros(20, dtype=int)], ids=["singletons", "pairs", "one"]
)
def test_no_discordant_pair_is_not_proof_of_equality(cluster: np.ndarray) -> None:
    x = np.tile([1, 0, 1, 1], 5)
    result = statistics.paired(x, x, cluster, over="TT", against="T")
    assert result.difference.value == 0 and result.p == 1
    assert result.difference.low is not None and result.difference.high is not None
    assert result.difference.low < -0.05 and result.difference.high > 0.05
    assert result.detectable_floor == 6 and result.difference.note == "no pair differs"


def test_pairs_without_items_give_no_value() -> None:
    result = statistics.paired([], [], [], over="TT", against="T")
    assert (result.difference.value, result.p, result.p_holm, result.detectable) == (None, None, None, None)
    assert result.difference.note == "no item finished on both sides"


@pytest.mark.parametrize("sums", [[3, -1, 2, 2, -5, 1], [1, 1, 1, 1], [0, 0, 4, 0, -2], [2, 2, -2, 1, 3, 3, 1, -1, 0, 4]])
def test_sign_flip_agrees_with_every_sign_pattern_tried_by_scipy(sums: list[int]) -> None:
    nonzero = np.array([s for s in sums if s], dtype=float)
    oracle = stats.permutation_test(
        (nonzero,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert statistics.sign_flip(sums) == pytest.approx(oracle.pvalue, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.5])
def test_sign_flip_of_many_clusters_is_the_count_of_their_sign_patterns(shift: float) -> None:
    sums = np.rint(np.random.default_rng(7).normal(shift, 2, 400)).astype(int).tolist()
    patterns = {0: 1}  # sum -> sign patterns, exact
    for size in filter(None, map(abs, sums)):
        more: dict[int, int] = {}
        for total, count in patterns.items():
            for other in (total - size, total + size):
                more[other] = more.get(other, 0) + count
        patterns = more
    extreme = sum(count for total, count in patterns.items() if abs(total) >= abs(sum(sums)))
    assert statistics.sign_flip(sums) == pytest.approx(float(Fraction(extreme, sum(patterns.values()))), rel=1e-12)


def test_sign_flip_takes_one_pass_per_size_of_cluster_over_no_more_sums_than_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    whole = exact._flipped
    monkeypatch.setattr(exact, "_flipped", lambda *given: passes.append(len(given[0])) or whole(*given))
    sums = np.repeat([1, -1, 2, -3], 10_000)
    assert 0 < statistics.sign_flip(sums) < 1e-3
    assert len(passes) == 3 and max(passes) < 2 * 38 * np.sqrt(np.sum(sums.astype(float) ** 2)) < 0.5 * 2 * np.abs(sums).sum()


def test_codes_and_ranks_are_the_same_whether_numbers_are_near_or_far_apart() -> None:
    draw = np.random.default_rng(8)
    for values in (draw.integers(0, 40, 100), draw.integers(0, 10**12, 100), draw.integers(-50, 50, 100), np.zeros(0, dtype=np.int64)):
        seen: dict[int, int] = {}
        assert codes(values).tolist() == [seen.setdefault(value, len(seen)) for value in values.tolist()]
        assert ranks(values).tolist() == [sorted(set(values.tolist())).index(value) for value in values.tolist()]
        assert distinct(values).tolist() == sorted(set(values.tolist()))


def test_sign_flip_of_single_steps_is_mcnemar() -> None:
    for only_a, only_b in [(0, 0), (3, 0), (12, 5), (150, 120)]:
        assert statistics.sign_flip([1] * only_a + [-1] * only_b) == pytest.approx(statistics.mcnemar_exact(only_a, only_b), rel=1e-9)


def test_sign_flip_of_thousands_of_clusters_approaches_the_normal_test() -> None:
    sums = np.random.default_rng(4).integers(-3, 4, 3000)
    sums[:40] = 3
    z = abs(sums.sum()) / np.sqrt(np.sum(sums.astype(float) ** 2))
    assert statistics.sign_flip(sums) == pytest.approx(2 * stats.norm.sf(z), rel=0.05)


@pytest.mark.slow
def test_holm_agrees_with_statsmodels_and_leaves_absent_tests_out() -> None:
    p = np.random.default_rng(5).random(9) ** 3
    p[3] = p[4]
    expected = multipletests(p, method="holm")[1]
    assert statistics.holm(p.tolist()) == pytest.approx(expected.tolist(), abs=1e-12)
    with_gap = statistics.holm([*p.tolist(), None])
    assert with_gap[-1] is None and with_gap[:-1] == pytest.approx(expected.tolist(), abs=1e-12)
    assert statistics.holm([]) == []


# ---------------------------------------------------------------- retention


def test_retention_interval_is_that_of_the_paired_difference() -> None:
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(80), 2)
    base, a = rng.random(160) < 0.9, rng.random(160) < 0.6
    chance = np.where(np.arange(160) % 3 == 0, 0.5, 0.25)
    figure = statistics.retention(a, base, chance, cluster)
    above = base.mean() - chance.mean()
    assert figure.value == pytest.approx((a.mean() - chance.mean()) / above)
    d = statistics.paired(a, base, cluster, over="TT", against="T").difference
    assert d.low is not None and d.high is not None and d.se is not None
    assert (figure.low, figure.high) == pytest.approx((1 + d.low / above, 1 + d.high / above), abs=1e-12)
    assert figure.se == pytest.approx(d.se / above)
    # SciPy's bootstrap of the ratio, whose denominator varies too, is no wider
    top, bottom = np.bincount(cluster, a - chance), np.bincount(cluster, base - chance)
    oracle = stats.bootstrap(
        (top, bottom),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    assert (figure.low, figure.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.05)
    assert figure.low <= oracle.confidence_interval.low and oracle.confidence_interval.high <= figure.high


def test_retention_is_undefined_unless_the_base_is_surely_above_chance() -> None:
    cluster, chance = np.arange(40), np.full(40, 0.5)
    barely = np.array([1] * 23 + [0] * 17)
    figure = statistics.retention(np.ones(40), barely, chance, cluster)
    assert figure.value is None and figure.note.startswith("undefined: ") and figure.n == 40
    assert statistics.retention([], [], [], []).note.startswith("undefined: ")
    assert statistics.retention(barely, np.array([1] * 36 + [0] * 4), chance, cluster).value is not None


def test_retention_of_a_model_that_never_differs_has_an_interval_of_some_width() -> None:
    x = np.array([1] * 45 + [0] * 5)
    figure = statistics.retention(x, x, np.full(50, 0.25), np.arange(50))
    assert figure.value == 1 and figure.low is not None and figure.high is not None
    assert 0.8 < figure.low < 0.97 and 1.03 < figure.high < 1.2
