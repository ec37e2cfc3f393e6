"""Sums over items that share a history cluster equal the loop over all pairs, and take a time that does not grow with the pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluators.statistics import HistoryCodes, codes
from evaluators.statistics.histories import SharedHistories

Case = tuple[list[tuple[str, ...]], np.ndarray, np.ndarray]


def case(seed: int, n: int = 60, most: int = 4, labels: int = 9) -> Case:
    """Histories of 0 … `most` clusters, some of them twice, target clusters, and influence values."""
    draw = np.random.default_rng(seed)
    histories = [tuple(f"h{i}" for i in draw.integers(0, labels, draw.integers(0, most + 1))) for _ in range(n)]
    return histories, codes(draw.integers(0, 12, n)), draw.normal(size=n)


def shared(histories: list[tuple[str, ...]], cluster: np.ndarray) -> SharedHistories:
    found = SharedHistories.of(HistoryCodes.of(histories), cluster)
    assert found is not None
    return found


def over_pairs(histories: list[tuple[str, ...]], cluster: np.ndarray, u: np.ndarray) -> tuple[float, float]:
    by_history = by_both = 0.0
    for i, j in itertools.product(range(len(u)), repeat=2):
        if i == j or set(histories[i]) & set(histories[j]):
            by_history += u[i] * u[j]
            by_both += u[i] * u[j] * (cluster[i] == cluster[j])
    return by_history, by_both


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(6))
def test_sums_over_shared_histories_equal_the_loop_over_all_pairs(seed: int) -> None:
    histories, cluster, u = case(seed)
    assert shared(histories, cluster).sums(u) == pytest.approx(over_pairs(histories, cluster, u), rel=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(3))
def test_with_long_histories_the_pairs_are_taken_and_give_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, cluster, u = case(seed, most=8)
    by_subsets = shared(histories, cluster).sums(u)
    monkeypatch.setattr(SharedHistories, "_few_subsets", False)
    monkeypatch.setattr("evaluators.statistics.histories._BLOCK", 100)
    assert shared(histories, cluster).sums(u) == pytest.approx(by_subsets, rel=1e-12)
    assert by_subsets == pytest.approx(over_pairs(histories, cluster, u), rel=1e-12)


def test_items_that_all_share_one_history_cluster_cost_one_term_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pairs are 10^10."""
    n = 100_000
    monkeypatch.setattr(SharedHistories, "_pairs", lambda self: pytest.fail("the pairs of items were taken"))
    found = shared([("h",)] * n, np.arange(n))
    u = np.random.default_rng(0).normal(size=n)
    assert found.sums(u) == pytest.approx((u.sum() ** 2, (u**2).sum()), rel=1e-9)
    assert sum(len(item) for _, item, _, _ in found._subsets) == n


@pytest.mark.parametrize("seed", range(6))
def test_clusters_by_history_and_by_both_are_counted_as_sets(seed: int) -> None:
    histories, cluster, _ = case(seed)
    bare = sum(not one for one in histories)
    both = {(c, frozenset(one)) for c, one in zip(cluster.tolist(), histories, strict=True)}
    assert shared(histories, cluster).counts == (len(set().union(*histories)) + bare, len(both))


def test_history_codes_are_taken_and_united_item_by_item() -> None:
    one, other = HistoryCodes.of([("a", "b"), (), ("b", "a", "b")]), HistoryCodes.of([(), ("a",), ("a",)])
    taken = one.take(np.array([2, 0, 2]))
    assert [taken.code[a:b].tolist() for a, b in itertools.pairwise(taken.start)] == [[1, 0, 1], [0, 1], [1, 0, 1]]
    united = one.with_those_of(other).sets
    assert [united.code[a:b].tolist() for a, b in itertools.pairwise(united.start)] == [[0, 1], [0], [0, 1]]


def test_history_clusters_of_one_target_cluster_each_are_not_shared() -> None:
    assert SharedHistories.of(HistoryCodes.of([("a",), ("a", "b"), ("c",)]), np.array([0, 0, 1])) is None
    assert SharedHistories.of(HistoryCodes.of([(), ()]), np.array([0, 1])) is None


def test_codes_of_arrays_are_those_of_lists() -> None:
    numbers = np.random.default_rng(0).integers(0, 20, 300)
    assert codes(numbers).tolist() == codes(numbers.tolist()).tolist()
