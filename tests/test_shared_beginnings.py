"""Prompts are cut where the fewest positions are read."""

from __future__ import annotations

import itertools

import numpy as np

from iit_bench.shared_beginnings import cut_beginnings, worth_cutting


def read(prompts, lengths):
    """Positions read if each prompt is cut after so many symbols, by the definition: beginnings and rests padded, each beginning once."""
    beginnings = {tuple(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)}
    rest = max(len(prompt) - length for prompt, length in zip(prompts, lengths, strict=True))
    return len(beginnings) * max(map(len, beginnings)) + len(prompts) * rest


def test_one_header_is_cut_off_all_prompts():
    header = list(range(100, 140))
    prompts = [[*header, 1], [*header, 2, 3], [*header, 4, 5, 6]]
    cuts = cut_beginnings(prompts)
    assert cuts.beginnings[0][1] == 40 and cuts.rows == (0, 0, 0)
    assert cuts.positions == 40 + 3 * 3
    assert worth_cutting(cuts, [41, 42, 43])
    short = [[7, 8, 9, *prompt[40:]] for prompt in prompts]
    assert not worth_cutting(cut_beginnings(short), [4, 5, 6])  # one pass more costs as much


def test_cuts_are_what_they_say_and_as_good_as_any():
    generator = np.random.default_rng(0)
    compared = 0
    for _ in range(60):
        pool = [generator.integers(0, 3, size=generator.integers(2, 6)).tolist() for _ in range(2)]
        prompts = [[*pool[generator.integers(2)], *generator.integers(0, 3, size=generator.integers(1, 4)).tolist()] for _ in range(4)]
        cuts = cut_beginnings(prompts)
        best = min(
            (read(prompts, lengths), len({tuple(p[:n]) for p, n in zip(prompts, lengths, strict=True)}))
            for lengths in itertools.product(*(range(1, len(prompt)) for prompt in prompts))
        )
        if cuts is None:
            continue
        lengths = [cuts.length(i) for i in range(len(prompts))]
        for i, prompt in enumerate(prompts):
            source, length = cuts.beginnings[cuts.rows[i]]
            assert prompts[source][:length] == prompt[:length] and 1 <= length < len(prompt)
        assert cuts.positions >= read(prompts, lengths) >= best[0]
        compared += 1
        if best[1] < len(prompts):
            assert cuts.positions <= 1.25 * best[0]
    assert compared > 40


def test_prompts_are_not_cut_before_the_place_given():
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 10], [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]]
    assert cut_beginnings(prompts, [5, 8, 1]).length(0) >= 8
    assert cut_beginnings(prompts, [9, 9, 10]) is None  # no token would be left


def test_prompts_without_a_common_beginning_are_not_cut():
    assert cut_beginnings([[1, 2, 3], [2, 2, 3], [3, 2, 3]]) is None
    assert cut_beginnings([[1], [2, 3]]) is None
