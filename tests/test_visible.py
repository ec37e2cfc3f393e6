"""Text of models in a terminal or on a page: nothing hidden, nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata

from iit_bench.visible import clipped, visible


def test_no_control_or_direction_character_is_left_but_line_breaks_and_tabs():
    everything = "".join(map(chr, range(0x110000)))
    left = {c for c in visible(everything) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert left == {"\n", "\t", "\u200c", "\u200d"}


def test_escape_sequences_are_spelled_out():
    assert visible("\x1b[31mred\x1b]0;title\x07\r") == "⟨U+001B⟩[31mred⟨U+001B⟩]0;title⟨U+0007⟩⟨U+000D⟩"


def test_a_long_text_is_cut_before_it_is_spelled_out():
    assert clipped("\x00" * 10, 2) == "⟨U+0000⟩⟨U+0000⟩ … (10 characters)"
    assert clipped("short", 5) == "short"
