from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.targets import apportion, sample_targets
from iit_bench.errors import UserError
from iit_bench.types import Question

Make = Callable[..., Question]


@pytest.mark.slow
@given(st.integers(0, 500), st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 60), min_size=1, max_size=12))
def test_shares_add_up_and_stay_within_one_of_the_exact_quota(total: int, weights: dict[str, int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares.values()) == total
    for key, weight in weights.items():
        exact = total * weight / sum(weights.values())
        assert floor(exact - 1e-9) <= shares[key] <= ceil(exact + 1e-9)


def test_largest_remainders_get_the_rest() -> None:
    assert apportion(10, {"a": 47, "b": 16, "c": 158, "d": 20, "e": 5, "f": 1}) == {"a": 2, "b": 1, "c": 6, "d": 1, "e": 0, "f": 0}
    assert apportion(4, {"x": 1, "y": 1, "z": 1}) == {"x": 2, "y": 1, "z": 1}  # a tie goes to the first


def test_sources_share_equally_and_subjects_by_size(question: Make) -> None:
    big = [question(f"big/{i}", subject="a" if i < 60 else "b") for i in range(80)]
    small = [question(f"small/{i}") for i in range(20)]
    chosen = sample_targets({"big": big, "small": small}, 24, 0, "text")
    assert Counter(q.id.split("/")[0] for q in chosen) == {"big": 12, "small": 12}
    assert Counter(q.subject for q in chosen if q.id.startswith("big")) == {"a": 9, "b": 3}


def test_the_sample_depends_on_the_seed_and_not_on_the_order_of_the_source(question: Make) -> None:
    pool = [question(f"q/{i}") for i in range(50)]
    first = sample_targets({"s": pool}, 10, 0, "text")
    assert sample_targets({"s": pool[::-1]}, 10, 0, "text") == first
    assert {q.id for q in sample_targets({"s": pool}, 10, 1, "text")} != {q.id for q in first}


def test_a_smaller_size_is_contained_in_a_larger_one(question: Make) -> None:
    pool = [question(f"q/{i}") for i in range(50)]
    small, large = (sample_targets({"s": pool}, n, 0, "text") for n in (10, 20))
    assert {q.id for q in small} < {q.id for q in large}


def test_too_few_questions_name_the_source_and_the_count(question: Make) -> None:
    pools = {"rich": [question(f"r/{i}") for i in range(50)], "poor": [question(f"p/{i}") for i in range(7)]}
    with pytest.raises(UserError, match=r"source 'poor' has 7 usable questions, but --size 20 needs 10 .* at most 14"):
        sample_targets(pools, 20, 0, "text")
    assert len(sample_targets(pools, 14, 0, "text")) == 14
