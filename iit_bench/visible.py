"""Text that models and data sets wrote, made safe to look at: what a reader could not see is spelled out."""

from __future__ import annotations

import unicodedata
from json import dumps

_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need these two format characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, lone surrogates, unassigned, line separators


def visible(text: str) -> str:
    """Spell out what a reader could not see, or a terminal would obey: controls, direction overrides, lone surrogates (`⟨U+202E⟩`).

    Line breaks and tabs stay.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(f"⟨U+{ord(character):04X}⟩" if _is_hidden(character) else character for character in text)


def escaped(json: str) -> str:
    """JSON in which the same characters are spelled with its own escapes; its values stay what they are."""
    if json.replace("\n", "").isprintable():
        return json
    return "".join(dumps(character)[1:-1] if _is_hidden(character) else character for character in json)


def _is_hidden(character: str) -> bool:
    return character not in "\n\t" and character not in _JOINERS and unicodedata.category(character) in _HIDDEN


def clipped(text: str, most: int) -> str:
    """The visible text, or its first `most` characters and how many it has."""
    return visible(text) if len(text) <= most else f"{visible(text[:most])} … ({len(text):,} characters)"
