"""Text that models and data sets wrote, made safe to look at: what a reader could not see is spelled out."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need these two format characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, lone surrogates, unassigned, line separators


def visible(text: str) -> str:
    """Spell out what a reader could not see, or a terminal would obey: controls, direction overrides, lone surrogates (`⟨U+202E⟩`).

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(_spell(character) for character in text)


def _spell(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def clipped(text: str, most: int) -> str:
    """The visible text, or its first `most` characters and how many it has."""
    return visible(text) if len(text) <= most else f"{visible(text[:most])} … ({len(text):,} characters)"
