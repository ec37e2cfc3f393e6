"""Rows of a step are cut into passes and shared among processes so that little is padding; compared with trying every way."""

from __future__ import annotations

import itertools
import random

import pytest

from iit_bench.training import passes


def cost(lengths: list[int], parts: list[list[int]], fixed_cost: int) -> int:
    return sum(len(part) * max(lengths[row] for row in part) + fixed_cost for part in parts)


def partitions(rows: list[int]) -> itertools.chain[list[list[int]]]:
    """Every way to put rows into passes."""
    if not rows:
        return itertools.chain([[]])
    first, rest = rows[0], rows[1:]

    def ways():
        for parts in partitions(rest):
            yield [[first], *parts]
            for i in range(len(parts)):
                yield [*parts[:i], [first, *parts[i]], *parts[i + 1 :]]

    return ways()


@pytest.mark.parametrize(("most", "fixed_cost"), [(0, 0), (0, 7), (0, 1000), (20, 7), (3, 0)])
def test_no_other_way_to_cut_rows_costs_less(most: int, fixed_cost: int) -> None:
    rng = random.Random(0)
    for _ in range(15):
        lengths = [rng.randint(1, 12) for _ in range(6)]
        found = passes.cut(lengths, most, fixed_cost)
        assert sorted(row for part in found for row in part) == list(range(6))

        def allowed(parts: list[list[int]], lengths: list[int] = lengths) -> bool:
            return not most or all(len(part) == 1 or len(part) * max(lengths[row] for row in part) <= most for part in parts)

        assert allowed(found)
        assert cost(lengths, found, fixed_cost) == min(
            cost(lengths, parts, fixed_cost) for parts in partitions(list(range(6))) if allowed(parts)
        )


def test_rows_sorted_by_length_pad_a_tenth_of_what_one_batch_pads() -> None:
    rng = random.Random(1)
    lengths = [rng.randint(20, 400) for _ in range(64)]
    whole, cut = passes.padding(lengths, [list(range(64))]), passes.padding(lengths, passes.cut(lengths, 0, 100))
    assert cut < whole / 10


@pytest.mark.parametrize("of", [1, 2, 3, 8])
def test_every_row_is_computed_by_one_process_and_all_have_equally_many_passes(of: int) -> None:
    rng = random.Random(of)
    lengths = [rng.randint(5, 60) for _ in range(20)]
    plans = passes.plan(lengths, of, most=100, fixed_cost=10)
    assert len(plans) == of and len({len(plan) for plan in plans}) == 1
    assert sorted(row for plan in plans for one in plan for row in one) == list(range(20))
    tokens = [sum(lengths[row] for one in plan for row in one) for plan in plans]
    assert max(tokens) - min(tokens) <= max(lengths)


def test_more_processes_than_rows_leaves_some_an_empty_pass() -> None:
    assert passes.plan([3, 4], 3, 0, 10) == [[[1]], [[0]], [[]]]


def test_blocks_of_a_packed_pass_leave_little_padding() -> None:
    rng = random.Random(3)
    lengths = [rng.randint(80, 96) for _ in range(16)]
    found = passes.blocks(lengths)
    assert sorted(row for block in found for row in block) == list(range(16))
    assert passes.padding(lengths, [list(range(16))], packs=True) == passes.padding(lengths, found) <= 3 * len(found)
    assert passes.padding(lengths, [list(range(16))]) > 100
    (plan,) = passes.plan(lengths, 1, passes.PACKED, passes.fixed_cost("cpu", True))
    assert len(plan) == 1
