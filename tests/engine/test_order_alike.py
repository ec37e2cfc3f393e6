"""Requests whose prompts begin alike share batches; the others are put in order by length, as without prompts."""

from __future__ import annotations

import itertools
import random

from iit_bench.engine.plan import BatchLimits, order_alike, plan_batches
from iit_bench.token_trees import symbols

HEADER = list(range(1000, 1040))


def job(prompts):
    named = {f"k{number:03d}": symbols(prompt) for number, prompt in enumerate(prompts)}
    return {key: len(prompt) + 8 for key, prompt in named.items()}, named


def runs(keys, group_of):
    """How many stretches of equal groups an order has."""
    return len(list(itertools.groupby(keys, key=group_of)))


def test_each_group_stays_together():
    generator = random.Random(0)
    groups = [[generator.randrange(500) for _ in range(generator.randrange(30, 60))] for _ in range(6)]
    prompts = [
        [*HEADER, *group, *(generator.randrange(500) for _ in range(generator.randrange(3, 9)))] for group in groups for _ in range(5)
    ]
    lengths, named = job(prompts)
    order = order_alike(lengths, named)
    assert sorted(order) == sorted(lengths)
    assert runs(order, lambda key: int(key[1:]) // 5) == 6
    firsts = [max(lengths[key] for key in block) for block in itertools.batched(order, 5)] if hasattr(itertools, "batched") else []
    assert firsts == sorted(firsts, reverse=True)


def test_prompts_with_nothing_but_a_header_in_common_are_in_order_of_length():
    generator = random.Random(1)
    prompts = [[*HEADER, number, *(generator.randrange(500) for _ in range(generator.randrange(1, 200)))] for number in range(40)]
    lengths, named = job(prompts)
    assert order_alike(lengths, named) == sorted(lengths, key=lambda key: (-lengths[key], key))


def test_an_equal_job_in_another_order_gives_equal_batches_within_the_limits():
    generator = random.Random(2)
    prompts = [[generator.randrange(3) for _ in range(generator.randrange(1, 30))] for _ in range(200)]
    lengths, named = job(prompts)
    limits = BatchLimits(7, 150)
    batches = plan_batches(lengths, limits, named)
    keys = list(lengths)
    generator.shuffle(keys)
    assert plan_batches({key: lengths[key] for key in keys}, limits, {key: named[key] for key in reversed(keys)}) == batches
    assert sorted(key for batch in batches for key in batch) == sorted(lengths)
    assert all(len(batch) <= 7 and max(lengths[key] for key in batch) * len(batch) <= 150 for batch in batches)


def test_equal_prompts_and_beginnings_of_others_end_in_finite_time():
    lengths, named = job([[1, 2, 3], [1, 2, 3], [1, 2], [1], [1, 2, 3, 4], []])
    assert sorted(order_alike(lengths, named)) == sorted(lengths)


def test_an_order_that_costs_more_padding_than_it_saves_is_not_taken():
    pairs = [[[number, 5, *range(2, 2 + length)] for length in (3, 300)] for number in range(4)]
    lengths, named = job([prompt for pair in pairs for prompt in pair])
    limits = BatchLimits(4, 10**6)
    assert plan_batches(lengths, limits, named) == plan_batches(lengths, limits)


def test_an_order_that_saves_more_than_it_pads_is_taken():
    texts = [[*range(start, start + 100)] for start in (0, 1000)]
    lengths, named = job([[*text, *range(5000, 5000 + more)] for more in range(1, 9) for text in texts])
    batches = plan_batches(lengths, BatchLimits(8, 10**6), named)
    assert [{int(key[1:]) % 2 for key in batch} for batch in batches] in ([{0}, {1}], [{1}, {0}])
