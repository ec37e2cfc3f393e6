from __future__ import annotations

import re

import pytest

from builders.tiers import parse_tiers
from iit_bench.errors import UserError


def test_full_is_every_pattern_of_up_to_three_turns() -> None:
    tiers = parse_tiers("full")
    assert len(tiers) == len(set(tiers)) == 14
    assert all(re.fullmatch("[TV]{1,3}", tier) for tier in tiers)


def test_tiers_go_from_text_only_to_multimodal_rich() -> None:
    shares = [tier.count("V") / len(tier) for tier in parse_tiers("full")]
    assert shares == sorted(shares)
    assert parse_tiers("full")[0] == "T"
    assert parse_tiers("full")[-1] == "VVV"


def test_paper_names_the_six_settings() -> None:
    assert set(parse_tiers("paper")) == {"T", "TT", "TTT", "TTV", "TV", "V"}


def test_a_list_is_ordered_and_each_tier_counts_once() -> None:
    assert parse_tiers("V,TV, T,TV") == ("T", "TV", "V")
    assert parse_tiers("TTTTTTTV") == ("TTTTTTTV",)


@pytest.mark.parametrize(("text", "named"), [("T,TXV", "'TXV'"), ("tv", "'tv'"), ("TTTTTTTTV", "9 turns"), (" ,", "names no tier")])
def test_an_impossible_tier_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse_tiers(text)
