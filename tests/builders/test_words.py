from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from builders.words import contains, mixed, words


def test_words_are_case_folded_and_free_of_punctuation() -> None:
    assert words("What's the STRASSE-Größe, in 3.5 km²?") == ("what's", "the", "strasse", "grösse", "in", "3", "5", "km2")


def test_every_character_of_an_unspaced_script_is_a_word() -> None:
    assert words("中国的首都 Beijing 是") == ("中", "国", "的", "首", "都", "beijing", "是")


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=3))
def test_a_part_is_found_exactly_where_a_substring_search_finds_it(sequence: list[str], part: list[str]) -> None:
    assert contains(tuple(sequence), tuple(part)) == (bool(part) and "".join(part) in "".join(sequence))


def test_a_word_inside_a_word_is_not_found() -> None:
    assert not contains(words("a scattered pattern"), words("cat"))
    assert contains(words("Is there a Black Cat?"), words("black cat"))


def test_mixing_agrees_with_splitmix64s_published_sequence() -> None:
    # The first outputs of splitmix64 from state 0; each is the finaliser applied to a multiple of the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(gamma * (i + 1)) % 2**64 for i in range(3)], np.uint64)
    assert [int(x) for x in mixed(states, 0)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
