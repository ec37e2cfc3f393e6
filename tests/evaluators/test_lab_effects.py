"""Figures over cells of the experiment: by hand, against the mixed model of evaluators/statistics/seeds.py, simulated coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from evaluators.lab.answers import AFTER, TEXT, VQA, Arm, Grid, _of_base
from evaluators.lab.claims import rates_of_both
from evaluators.lab.effects import ONLY_ITEMS, PARTLY, accuracy, at_equal_vqa, between_seeds, change, mean_difference, with_holm
from evaluators.statistics import Dependence
from evaluators.statistics.seeds import difference_over_seeds

Points = Mapping[str, Sequence[tuple[float, float, float]]]  # method -> (rate, probability on T, on V)


def grid_of(answers: Mapping[tuple[str, float], np.ndarray], tier: Sequence[str], base: np.ndarray | None = None) -> Grid:
    """A grid of answers [S, n], every target its own cluster."""
    arms = {key: Arm(tuple(range(len(one))), one.astype(float)) for key, one in answers.items()}
    own = np.full(len(tier), np.nan) if base is None else base
    return Grid((), np.array(tier), np.array(["facts"] * len(tier)), np.arange(len(tier)), own, arms)


def drawn(rng: np.random.Generator, points: Points, seeds: int, n: int, spread: float) -> Grid:
    """A grid with crossed random effects of seeds and of items, `n` targets of T and of V."""
    tier = ["T"] * n + ["V"] * n
    item, answers = rng.normal(0, 0.08, 2 * n), {}
    for method, curve in points.items():
        for rate, text, vqa in curve:
            own = np.repeat(rng.normal(0, spread, (seeds, 2)), n, axis=1)
            level = np.repeat([text, vqa], n)
            answers[method, rate] = rng.random((seeds, 2 * n)) < np.clip(level + item + own, 0, 1)
    return grid_of(answers, tier)


@pytest.mark.oracle
def test_one_method_by_itself_has_the_standard_error_of_the_mixed_model() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((4, 60)) < np.clip(0.6 + rng.normal(0, 0.15, (4, 1)) + rng.normal(0, 0.2, 60), 0, 1)).astype(float)
    base = (rng.random(60) < 0.9).astype(float)
    found = change(grid_of({("full", 1e-3): right}, ["T"] * 60, base), TEXT, ("full", 1e-3))
    whole = difference_over_seeds(right - base, Dependence.of(np.arange(60)))
    assert whole.between > 0  # else the two are cautious in different ways
    assert found.figure.se == pytest.approx(whole.figure.se)
    assert found.figure.value == pytest.approx(whole.figure.value) and found.per_seed == pytest.approx(whole.per_seed)


def test_variance_between_seeds_is_that_of_all_methods_at_the_rate() -> None:
    """By hand: the mean over methods of (MS of seeds - MS of the rest) / n, a two-way analysis of variance each."""
    rng = np.random.default_rng(1)
    n, estimates, answers = 40, [], {}
    for method in ("a", "b"):
        y = (rng.random((3, n)) < np.clip(0.6 + rng.normal(0, 0.2, (3, 1)), 0, 1)).astype(float)
        rest = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
        seed = n * np.sum((y.mean(1) - y.mean()) ** 2) / 2
        estimates.append((seed - np.sum(rest**2) / (2 * (n - 1))) / n)
        answers[method, 1e-3] = y
    answers["b", 2e-5] = rng.random((3, n)) < 0.5  # another rate has its own
    found = between_seeds(grid_of(answers, ["T"] * n), TEXT, 1e-3)
    assert found.variance == pytest.approx(max(0.0, float(np.mean(estimates)))) and found.df == 4


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_intervals_cover(spread: float) -> None:
    """150 experiments of three seeds: the standard error of a coverage of .95 is .018."""
    a = [(1e-5, 0.9, 0.5), (1e-4, 0.8, 0.6), (1e-3, 0.5, 0.75)]
    b = [(1e-5, 0.85, 0.55), (1e-4, 0.7, 0.65), (1e-3, 0.3, 0.8)]  # at V .65 method a has .70 on its curve, as b has
    rng, covered, tried = np.random.default_rng(2), np.zeros(3), 150
    for _ in range(tried):
        grid = drawn(rng, {"a": a, "b": b, "c": b}, seeds=3, n=200, spread=spread)
        equal = at_equal_vqa(grid, VQA, TEXT, "a", ("b", 1e-4))
        assert equal is not None
        same = mean_difference(grid, TEXT, [(("a", rate), ("b", rate)) for rate in (1e-5, 1e-4, 1e-3)])
        seen = accuracy(grid, VQA, ("a", 1e-4))
        for place, (figure, truth) in enumerate(((equal.effect.figure, 0.0), (same.figure, 0.35 / 3), (seen.figure, 0.6))):
            covered[place] += figure.low is not None and figure.high is not None and figure.low <= truth <= figure.high
    assert np.all(covered / tried >= 0.9), covered / tried


def test_text_after_an_image_is_compared_with_the_base_s_answer_without_the_image() -> None:
    index = [("T", "1"), ("TT", "1"), ("VT", "1"), ("TVT", "1"), ("VVT", "1"), ("VT", "2"), ("V", "1")]
    own = np.array([1.0, 0.0, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert np.array_equal(_of_base(index, own), [1, 0, 1, 0, 1, np.nan, np.nan], equal_nan=True)
    grid = grid_of({("w", 0.0): np.array([[1, 1, 0, 1], [1, 0, 0, 0]])}, ["T", "T", "VT", "VT"], np.ones(4))
    assert change(grid, TEXT, ("w", 0.0)).figure.value == pytest.approx(-0.25)
    assert change(grid, AFTER, ("w", 0.0)).figure.value == pytest.approx(-0.75)


def exact(curves: Points, n: int = 100) -> Grid:
    """Answers whose means are exactly those of the points, the same under two seeds."""
    right = {
        (method, rate): np.tile(np.concatenate([np.arange(n) < round(text * n), np.arange(n) < round(vqa * n)]), (2, 1))
        for method, points in curves.items()
        for rate, text, vqa in points
    }
    return grid_of(right, ["T"] * n + ["V"] * n)


def test_equal_vqa_is_interpolated_between_neighbouring_rates() -> None:
    curves = {"a": [(1e-5, 0.9, 0.5), (1e-4, 0.8, 0.6), (1e-3, 0.5, 0.8)], "b": [(1e-4, 0.6, 0.7)]}
    found = at_equal_vqa(exact(curves), VQA, TEXT, "a", ("b", 1e-4))
    assert found is not None and found.vqa == pytest.approx(0.7) and found.between == (1e-4, 1e-3)
    assert found.effect.figure.value == pytest.approx(0.65 - 0.6)


def test_a_rate_with_more_vqa_and_more_text_is_taken_as_it_is() -> None:
    curves = {"a": [(1e-5, 0.9, 0.5), (1e-4, 0.8, 0.75), (1e-3, 0.5, 0.8)], "b": [(1e-4, 0.6, 0.7)]}
    found = at_equal_vqa(exact(curves), VQA, TEXT, "a", ("b", 1e-4))
    assert found is not None
    assert found.effect.figure.value == pytest.approx(0.9 + (0.8 - 0.9) * 0.2 / 0.25 - 0.6)  # at V .70, on the way to the second rate
    curves["a"] = [(1e-4, 0.8, 0.75), (1e-3, 0.5, 0.8)]
    found = at_equal_vqa(exact(curves), VQA, TEXT, "a", ("b", 1e-4))
    assert found is not None and found.between == (1e-4, 1e-4) and found.effect.figure.value == pytest.approx(0.2)


def test_a_method_that_never_reaches_the_vqa_has_no_place_there() -> None:
    curves = {"a": [(1e-5, 0.9, 0.5), (1e-4, 0.8, 0.6)], "b": [(1e-4, 0.6, 0.7)]}
    assert at_equal_vqa(exact(curves), VQA, TEXT, "a", ("b", 1e-4)) is None


def test_a_frozen_llm_that_answers_as_its_base_has_no_interval() -> None:
    base = (np.arange(50) % 3 > 0).astype(float)
    found = change(grid_of({("projector", 0.0): np.tile(base, (3, 1))}, ["T"] * 50, base), TEXT, ("projector", 0.0))
    assert found.figure.value == 0 and found.figure.low is None and "no answer differs" in found.figure.note and found.p is None


def test_one_seed_has_an_interval_over_items_and_says_so() -> None:
    rng = np.random.default_rng(3)
    answers = {("a", 1e-3): rng.random((1, 80)) < 0.8, ("b", 1e-3): rng.random((1, 80)) < 0.5}
    found = mean_difference(grid_of(answers, ["T"] * 80), TEXT, [(("a", 1e-3), ("b", 1e-3))])
    assert found.seeds == 1 and found.figure.note == ONLY_ITEMS and found.figure.low is not None


def test_the_smallest_effect_is_larger_in_a_larger_family() -> None:
    grid = drawn(np.random.default_rng(4), {"a": [(1e-3, 0.8, 0.5)], "b": [(1e-3, 0.7, 0.5)]}, seeds=3, n=100, spread=0.02)
    one = mean_difference(grid, TEXT, [(("a", 1e-3), ("b", 1e-3))])
    alone, of_five = with_holm([one])[0], with_holm([one] * 5)[0]
    assert alone.detectable is not None and of_five.detectable is not None and one.figure.se is not None
    assert 2 * one.figure.se < alone.detectable < of_five.detectable
    assert of_five.p_holm == pytest.approx(min(1.0, 5 * (one.p or 0)))
    assert with_holm([replace(one, p=None)])[0].detectable is None


@pytest.mark.oracle
def test_arms_of_unequal_seeds_have_the_variance_of_their_own_means() -> None:
    """By hand: Welch's difference of two means over seeds, and the variance of items' differences between means over seeds."""
    rng = np.random.default_rng(5)
    a, b = ((rng.random((seeds, 90)) < 0.6).astype(float) for seeds in (4, 2))
    grid = grid_of({("a", 1e-3): a, ("b", 1e-3): b}, ["T"] * 90)
    found = mean_difference(grid, TEXT, [(("a", 1e-3), ("b", 1e-3))])
    item = a.mean(0) - b.mean(0)
    between = between_seeds(grid, TEXT, 1e-3).variance
    assert found.seeds == 2 and found.figure.value == pytest.approx(item.mean())
    assert found.figure.se == pytest.approx(np.sqrt(item.var(ddof=1) / 90 + between / 4 + between / 2))


def test_a_rate_with_one_seed_is_in_a_pair_of_its_own_and_not_in_the_claims() -> None:
    rng = np.random.default_rng(6)
    seeds = {1e-4: 2, 1e-3: 1}
    answers = {(name, rate): rng.random((n, 80)) < 0.7 for name in ("wings", "full") for rate, n in seeds.items()}
    grid = grid_of(answers, ["T"] * 40 + ["V"] * 40)
    assert rates_of_both(grid) == [1e-4]
    both = mean_difference(grid, TEXT, [(("wings", rate), ("full", rate)) for rate in seeds])
    assert both.seeds == 1 and both.figure.note == PARTLY
