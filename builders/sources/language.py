"""The language of one row, by the script of its own words (docs/spec/iit.md#building-1-sources).

A table's name is no evidence: an English row in a file called MY_CN.tsv is English. A row's own language column always wins. Scripts cannot
tell apart languages that are written in one script, Latin above all: there the language that was declared for the source is taken.
"""

from __future__ import annotations

import re
from collections import Counter

from builders.words import words

# Characters of a script (beginnings of words, as builders.words cuts them) → the languages written in it, the commonest in data sets first.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "\uac00-\ud7af\u1100-\u11ff": ("ko",),
    "\u3040-\u30ff": ("ja",),
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff": ("zh", "ja", "yue"),
    "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff": ("ar", "fa", "ur", "ps", "ckb", "sd", "ug"),
    "\u0400-\u052f": ("ru", "uk", "bg", "sr", "be", "mk", "kk", "ky", "mn", "tg"),
    "\u0370-\u03ff\u1f00-\u1fff": ("el",),
    "\u0590-\u05ff": ("he", "yi"),
    "\u0e00-\u0e7f": ("th",),
    "\u0900-\u097f": ("hi", "mr", "ne", "sa"),
    "\u0980-\u09ff": ("bn", "as"),
    "\u0a00-\u0a7f": ("pa",),
    "\u0a80-\u0aff": ("gu",),
    "\u0b80-\u0bff": ("ta",),
    "\u0c00-\u0c7f": ("te",),
    "\u0c80-\u0cff": ("kn",),
    "\u0d00-\u0d7f": ("ml",),
    "\u0d80-\u0dff": ("si",),
    "\u0e80-\u0eff": ("lo",),
    "\u1000-\u109f": ("my",),
    "\u10a0-\u10ff": ("ka",),
    "\u0530-\u058f": ("hy",),
    "\u1200-\u137f": ("am", "ti"),
    "\u1780-\u17ff": ("km",),
}
_MATCHERS = [(re.compile(f"[{characters}]"), languages) for characters, languages in SCRIPTS.items()]
_CODE = re.compile("[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_JAPANESE = re.compile("[\u3040-\u30ff]")
_ALSO_LATIN = {"sr", "kk", "ky", "mn", "ug", "tg"}
_NOT_LATIN = {language for languages in SCRIPTS.values() for language in languages} - _ALSO_LATIN


def language_of(text: str, declared: str = "en", stated: str = "") -> str:
    """The language of a row (BCP 47).

    Args:
        text: the row's words: question and choices.
        declared: of the source; taken where the row's script fits it, and for words in Latin script, for which no other evidence is there.
        stated: by the row itself, which is taken if it has the form of BCP 47.
    """
    if is_code(stated.strip()):
        return stated.strip()
    base = declared.split("-")[0].casefold()
    if text.isascii() and base not in _NOT_LATIN:
        return declared  # no script of SCRIPTS is in ASCII
    counts: Counter[tuple[str, ...]] = Counter()
    total = 0
    for word in words(text):
        if not word[0].isalpha():
            continue
        total += 1
        counts.update(languages for matches, languages in _MATCHERS if matches.match(word))
    if not counts or 2 * counts.total() < total:
        return declared if base not in _NOT_LATIN or not total else "en"
    if _JAPANESE.search(text) and base != "zh":
        return "ja"
    languages = max(counts, key=lambda one: (counts[one], one))
    return declared if base in languages else languages[0]


def is_code(text: str) -> bool:
    """Whether a text has the form of a language code of BCP 47."""
    return _CODE.fullmatch(text) is not None
