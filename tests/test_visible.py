"""Text of models in a terminal or on a page: nothing hidden, nothing that a terminal obeys."""

from __future__ import annotations

import json
import unicodedata

from iit_bench.visible import STACKED, clipped, escaped, visible


def test_no_control_or_direction_character_is_left_but_line_breaks_and_tabs():
    everything = "".join(map(chr, range(0x110000)))
    left = {c for c in visible(everything) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert left == {"\n", "\t", "\u200c", "\u200d"}


def test_escape_sequences_are_spelled_out():
    assert visible("\x1b[31mred\x1b]0;title\x07\r") == "⟨U+001B⟩[31mred⟨U+001B⟩]0;title⟨U+0007⟩⟨U+000D⟩"


def test_letters_that_are_drawn_as_nothing_are_spelled_out():
    for blank in "\u034f\u115f\u1160\u17b4\u2800\u3164\uffa0":
        assert visible(f"a{blank}b") == f"a⟨U+{ord(blank):04X}⟩b"
    assert json.loads(escaped(json.dumps("a\u3164", ensure_ascii=False))) == "a\u3164" and "\u3164" not in escaped('"a\u3164"')


def test_marks_that_would_be_drawn_over_other_lines_are_spelled_out():
    assert visible("a" + "\u0301" * (STACKED + 2) + "b") == "a" + "\u0301" * STACKED + "⟨U+0301⟩" * 2 + "b"
    assert visible("a" + "\u0301\u200d" * STACKED) == "a" + "\u0301\u200d" * (STACKED // 2) + "⟨U+0301⟩⟨U+200D⟩" * (STACKED // 2)
    assert visible("a" + "\ufe01" * 40).count("⟨U+FE01⟩") == 40 - STACKED  # a message in variation selectors


def test_what_languages_and_emoji_write_is_left_as_it_is():
    for text in (
        "Việt Nam, pho\u031b\u0309",
        "שָׁלוֹם בְּרֵאשִׁ֖ית",
        "สวัสดีที่",
        "བསྒྲུབས",
        "مُحَمَّدٌ",
        "한국어",
        "👩\u200d👩\u200d👧\u200d👧❤\ufe0f",
        "«…»—“”·№",
    ):
        assert visible(text) == text


def test_a_long_text_is_cut_before_it_is_spelled_out():
    assert clipped("\x00" * 10, 2) == "⟨U+0000⟩⟨U+0000⟩ … (10 characters)"
    assert clipped("short", 5) == "short"
