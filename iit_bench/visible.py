"""Text that models and data sets wrote, made safe to look at: what a reader could not see is spelled out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from json import dumps

_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need these two format characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, lone surrogates, unassigned, line separators
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters, marks and a symbol that fonts draw as nothing
STACKED = 8  # marks on one letter, more than any language writes; further ones would be drawn over other lines, or hide a message
# Finds every text with blanks or more marks than that, and a few others, without a look at each character.
_DOUBTFUL = re.compile(rf"[{_BLANK}]|[^\w\s\x00-\x7f]{{{STACKED + 1}}}")


def visible(text: str) -> str:
    """Spell out what a reader could not see, or a terminal would obey: controls, direction overrides, lone surrogates (`⟨U+202E⟩`).

    So are letters that are drawn as nothing, and marks beyond the eighth on one letter. Line breaks and tabs stay.
    """
    return text if _is_plain(text) else _spelled(text, lambda character: f"⟨U+{ord(character):04X}⟩")


def escaped(json: str) -> str:
    """JSON in which the same characters are spelled with its own escapes; its values stay what they are."""
    return json if _is_plain(json) else _spelled(json, lambda character: dumps(character)[1:-1])


def _is_plain(text: str) -> bool:
    return text.replace("\n", "").isprintable() and (text.isascii() or not _DOUBTFUL.search(text))


def _spelled(text: str, spell: Callable[[str], str]) -> str:
    parts, marks = [], 0  # marks since the last letter
    for character in text:
        is_hidden = _is_hidden(character)
        marks = marks + 1 if not is_hidden and _is_mark(character) else 0
        parts.append(spell(character) if is_hidden or marks > STACKED else character)
    return "".join(parts)


def _is_hidden(character: str) -> bool:
    if character in _BLANK:
        return True
    return character not in "\n\t" and character not in _JOINERS and unicodedata.category(character) in _HIDDEN


def _is_mark(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) in ("Mn", "Me")


def clipped(text: str, most: int) -> str:
    """The visible text, or its first `most` characters and how many it has."""
    return visible(text) if len(text) <= most else f"{visible(text[:most])} … ({len(text):,} characters)"
