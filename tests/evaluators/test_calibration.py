"""Reliability, calibration error and Brier score: scikit-learn and scipy, known answers, simulated coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluators.statistics.calibration import BINS, brier_scores, calibration, softmax
from tests.recompute_calibration import RESOLUTION, bins_of, error
from tests.recompute_statistics import Dependence

START = np.array([0, 3, 5, 9])


@pytest.mark.oracle
def test_softmax_and_brier_equal_scipy_and_a_loop() -> None:
    from scipy.special import softmax as theirs

    scores = np.random.default_rng(0).normal(-700, 300, 9)
    ours = softmax(scores, START)
    parts = [theirs(scores[a:b]) for a, b in itertools.pairwise(START)]
    assert ours == pytest.approx(np.concatenate(parts), abs=1e-15)
    answer = np.array([2, 0, 1])
    by_loop = [sum((p - (i == a)) ** 2 for i, p in enumerate(part)) for part, a in zip(parts, answer, strict=True)]
    assert brier_scores(ours, START, answer) == pytest.approx(by_loop)


@pytest.mark.oracle
def test_bins_equal_the_reliability_curve_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(1)
    confidence = rng.beta(4, 2, 1000)
    right = rng.random(1000) < confidence**1.3
    found = calibration(confidence, right, (confidence - right) ** 2, np.arange(1000))
    truth, mean = calibration_curve(right, confidence, n_bins=BINS, strategy="quantile")
    assert [one.confidence for one in found.bins] == pytest.approx(mean) and [one.accuracy.value for one in found.bins] == pytest.approx(
        truth
    )
    assert {one.accuracy.n for one in found.bins} == {100}
    assert found.ece_plain == pytest.approx(np.mean(np.abs(truth - mean)))


def test_equal_confidences_share_a_bin_and_few_items_have_few_bins() -> None:
    same = calibration(np.full(200, 0.25), np.arange(200) % 4 == 0, np.full(200, 0.75), np.arange(200))
    assert len(same.bins) == 1 and same.ece_plain == pytest.approx(0) and same.ece.value == 0 and same.ece.low == 0
    few = calibration(np.linspace(0.3, 0.9, 45), np.arange(45) % 2 == 0, np.full(45, 0.5), np.arange(45))
    assert len(few.bins) == 2
    (one,) = calibration(np.array([0.6]), np.array([True]), np.array([0.32]), np.zeros(1, dtype=np.int64)).bins
    assert one.accuracy.n == 1


def test_the_same_answers_give_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.random(300)
    right = rng.random(300) < 0.5
    first, second = (calibration(confidence, right, confidence, np.arange(300) // 3) for _ in range(2))
    assert first.ece == second.ece and first.ece.low is not None and first.ece.high is not None
    assert first.ece.low <= first.ece.value <= first.ece.high and first.ece.value <= first.ece_plain <= first.ece.high


def simulated(rng: np.random.Generator, truth, clusters: int, items: int, alike: float):
    """Confidences and outcomes in clusters; items of a cluster share their luck with probability `alike`. And the true chances."""
    cluster = np.repeat(np.arange(clusters), items)
    confidence = np.clip(rng.beta(6, 3, clusters)[cluster] + rng.normal(0, 0.03, len(cluster)), 0.02, 0.999)
    chance = np.clip(truth(confidence), 0, 1)
    luck = np.where(rng.random(len(cluster)) < alike, rng.random(clusters)[cluster], rng.random(len(cluster)))
    return confidence, luck < chance, chance, cluster


def true_error(confidence: np.ndarray, chance: np.ndarray) -> float:
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS)
    place = np.searchsorted(edges, confidence)
    return float(np.abs(np.bincount(place, chance - confidence)).sum() / len(confidence))


TRUTHS = {
    "calibrated": lambda c: c,
    "too sure": lambda c: 0.5 + 0.5 * (c - 0.5),
    "steps": lambda c: c + 0.06 * np.sign(c - 0.7),
    "crossing": lambda c: 0.7 + 0.6 * (c - 0.7),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", TRUTHS)
def test_the_corrected_error_equals_one_by_other_draws(name: str) -> None:
    confidence, right, _, cluster = simulated(np.random.default_rng(6), TRUTHS[name], 300, 3, 0.63)
    found = calibration(confidence, right, (confidence - right) ** 2, cluster).ece
    own, far, plain = error(right - confidence, right.astype(float), bins_of(confidence), Dependence(cluster, None))
    for end in ("low", "value", "high"):
        assert abs(getattr(found, end) - own[end]) <= far[end] + RESOLUTION
    if name == "calibrated":  # the comparison can fail: the error that is not corrected is not near
        assert plain - own["value"] > 2 * far["value"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "clusters", "items", "alike"), [*((name, 300, 3, 0.63) for name in TRUTHS), ("steps", 600, 1, 0.0)])
def test_intervals_cover(name: str, clusters: int, items: int, alike: float) -> None:
    """100 runs: an exact 95% interval covers fewer than 89 one time in 200. The plain error is above the truth in nearly all of them."""
    rng, covered, runs = np.random.default_rng(5), np.zeros(3), 100
    above, values = 0, []
    for _ in range(runs):
        confidence, right, chance, cluster = simulated(rng, TRUTHS[name], clusters, items, alike)
        found = calibration(confidence, right, (confidence - right) ** 2, cluster)
        truths = (true_error(confidence, chance), float(np.mean(confidence - chance)))
        truths += (float(np.mean(chance * (1 - confidence) ** 2 + (1 - chance) * confidence**2)),)
        covered += [one.low <= t <= one.high for one, t in zip((found.ece, found.overconfidence, found.brier), truths, strict=True)]
        above += found.ece_plain > truths[0]
        values.append(found.ece.value - truths[0])
    assert (covered >= 89).all(), covered
    assert abs(np.mean(values)) < 0.02
    if name == "calibrated":
        assert above == runs  # the yardstick: without the correction the error is never right


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(7)
    confidence, right, _, cluster = simulated(rng, TRUTHS["too sure"], 100, 5, 0.9)
    together, apart = (calibration(confidence, right, confidence, one).overconfidence for one in (cluster, np.arange(len(cluster))))
    assert together.se > 1.3 * apart.se
