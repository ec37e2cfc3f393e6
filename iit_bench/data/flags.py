"""Flags of countries as pictures (npm package `flag-icons` 7.5.0, MIT; `iit_bench/assets/flags`) and questions about them.

Two sources: `flags` asks which country a flag is of; `flag-facts` asks a fact of that country, its capital, continent or currency, which
needs seeing and knowing at once.

A picture is never asked as it is shipped: it is rendered anew (turned, cropped, waved, lit, with noise) by a hash of country and split, and
the renderings of `dev` and `test` are stronger than those of `train` on average (`STRENGTH`). So evaluation asks about unseen renderings of
flags that were taught. Of `flag-facts` the split is by (relation, country) too: which pairs are `test` is a hash's choice, and those are
never taught through a flag, only the flag and the fact each by itself.

A flag that is another country's too (`FLIES`) is not asked. Flags that are nearly identical (Chad and Romania) are asked, and neither they
nor their countries' facts are choices of each other.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from iit_bench.data import facts
from iit_bench.data.choosing import four_choices, one_of, share, shuffled
from iit_bench.data.rendering import render
from iit_bench.types import Image, Question

Split = Literal["train", "dev", "test"]
FLAGS, FLAG_FACTS = "flags", "flag-facts"  # names of the sources
RELATIONS = ("capital", "continent", "currency")
STRENGTH: dict[Split, tuple[float, float]] = {"train": (0.2, 0.8), "dev": (0.6, 1.0), "test": (0.6, 1.0)}
RENDERINGS: dict[Split, int] = {"train": 16, "dev": 2, "test": 2}  # of each flag
SHARES = {"test": 0.3, "dev": 0.1}  # of the (relation, country) pairs that are never taught through a flag

# Countries and territories with the flag of another one, which is asked for it.
FLIES = {
    **dict.fromkeys(("BL", "GF", "GP", "MF", "PM", "RE", "WF", "YT"), "FR"),
    **dict.fromkeys(("BV", "SJ"), "NO"),
    "BQ": "NL",
    "HM": "AU",
    "SH": "GB",
    "UM": "US",
}
ALIKE = 20.0  # mean difference of two shipped pictures, 0 … 255, below which they are nearly identical

WORDINGS: dict[str, tuple[str, ...]] = {
    "country": (
        "Which country has this flag?",
        "Whose flag is this?",
        "Name the country of this flag.",
        "This is the flag of which country?",
    ),
    "capital": (
        "What is the capital of the country with this flag?",
        "Which city is the capital of the country that flies this flag?",
        "Name the capital city of the country whose flag this is.",
        "The country of this flag has which capital?",
    ),
    "continent": (
        "On which continent is the country with this flag?",
        "Which continent does the country of this flag belong to?",
        "Name the continent of the country whose flag this is.",
        "In what part of the world does this flag fly?",
    ),
    "currency": (
        "What is the currency of the country with this flag?",
        "Which currency is used in the country of this flag?",
        "Name the money of the country whose flag this is.",
        "What do people pay with in the country that flies this flag?",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question before its picture is rendered."""

    source: str  # FLAGS | FLAG_FACTS
    subject: str  # key of WORDINGS
    code: str  # of the country
    split: Split
    number: int  # of the rendering

    @property
    def id(self) -> str:
        """The question's id in a benchmark."""
        return f"{self.source}/{self.subject}/{self.code}/{self.split}-{self.number}"

    @property
    def question(self) -> str:
        """The text of the question, its wording chosen by hash."""
        return one_of(WORDINGS[self.subject], self.id, "wording")

    @property
    def answer(self) -> str:
        """The country's name, or its capital, continent or currency."""
        return answers(self.subject)[self.code]


@dataclass(frozen=True)
class Flags:
    """Questions of one split, and how many countries, or pairs of country and relation, were left out for which reason."""

    questions: tuple[Question, ...]
    left_out: dict[str, int]


@cache
def shipped() -> Mapping[str, bytes]:
    """PNG files of the shipped flags, 64 x 48, by country code in ascending order."""
    folder = resources.files("iit_bench") / "assets" / "flags"
    rows = csv.DictReader((folder / "flags.csv").read_text(encoding="utf-8").splitlines())
    return {row["code"]: (folder / f"{row['code']}.png").read_bytes() for row in rows}


@cache
def pixels(code: str) -> np.ndarray:
    """A shipped flag, uint8 [48, 64, 3]."""
    from iit_bench.images import decode

    return np.asarray(decode(shipped()[code]))


@cache
def names() -> Mapping[str, str]:
    """Country code -> name, of the flags that are asked, in ascending order of the codes."""
    subjects = {fact.id.partition("/")[2]: fact.subject for fact in facts.facts() if fact.relation in (*RELATIONS, "iso code")}
    return {code: subjects[code] for code in shipped() if code not in FLIES}


@cache
def alike() -> Mapping[str, frozenset[str]]:
    """Country code -> codes of the flags that are nearly identical to its own; countries without such a flag are absent."""
    codes = list(names())
    stack = np.stack([pixels(code) for code in codes]).astype(np.int16).reshape(len(codes), -1)
    near: dict[str, set[str]] = defaultdict(set)
    for i, code in enumerate(codes):
        differences = np.abs(stack[i + 1 :] - stack[i]).mean(1)
        for other in np.flatnonzero(differences < ALIKE):
            near[code].add(codes[i + 1 + int(other)])
            near[codes[i + 1 + int(other)]].add(code)
    return {code: frozenset(others) for code, others in sorted(near.items())}


@cache
def image(code: str, split: Split, number: int) -> Image:
    """Rendering `number` of a flag in a split: a PNG file, 64 x 64, its bytes equal on every machine."""
    low, high = STRENGTH[split]
    name = f"{FLAGS} {code} {split} {number}"
    return Image(render(pixels(code), low + (high - low) * share(name, "strength"), name))


def answers(subject: str) -> Mapping[str, str]:
    """Country code -> the one answer, of the flags that are asked: the country's name, or its fact of a relation."""
    return names() if subject == "country" else _of_relation(subject)


def countries(split: Split) -> list[Asked]:
    """Which country, over each rendering of the split."""
    return [
        Asked(source=FLAGS, subject="country", code=code, split=split, number=number)
        for code in names()
        for number in range(RENDERINGS[split])
    ]


def flag_facts(split: Split) -> list[Asked]:
    """Facts through a flag: the pairs of relation and country of the split, over each rendering."""
    return [
        Asked(source=FLAG_FACTS, subject=relation, code=code, split=split, number=number)
        for relation in RELATIONS
        for code in answers(relation)
        if split_of(relation, code) == split
        for number in range(RENDERINGS[split])
    ]


def split_of(relation: str, code: str) -> Split:
    """The split of a fact through a flag."""
    place = share(FLAG_FACTS, "split", relation, code)
    if place < SHARES["test"]:
        return "test"
    return "dev" if place < SHARES["test"] + SHARES["dev"] else "train"


@cache
def build(split: Split) -> Flags:
    """The questions of source `flags`. Left out, counted in flags: "flag of another country"."""
    return Flags(tuple(map(as_question, countries(split))), {"flag of another country": len(FLIES)})


@cache
def build_facts(split: Split) -> Flags:
    """The questions of source `flag-facts`.

    Left out, counted in facts: "flag of another country", and "several correct answers" (facts.csv has more than one).
    """
    left_out: Counter[str] = Counter()
    for fact in facts.facts():
        if fact.relation in RELATIONS:
            territory = fact.id.partition("/")[2] in FLIES
            left_out["flag of another country"] += territory
            left_out["several correct answers"] += bool(fact.also) and not territory
    return Flags(tuple(map(as_question, flag_facts(split))), dict(left_out))


@cache
def as_question(asked: Asked) -> Question:
    """The question with its picture and its choices.

    Wrong answers are drawn by a hash of country, so each is offered in proportion to its frequency as a gold answer. Those of facts are of
    the same split: which answers were heard through a flag before must not give the right one away. The answer of a country whose flag is
    nearly identical is never offered.
    """
    of = answers(asked.subject)
    apart = {of[other] for other in alike().get(asked.code, ()) if other in of}
    pool = [code for code in of if asked.source == FLAGS or split_of(asked.subject, code) == asked.split]
    others = shuffled([code for code in pool if of[code] not in apart], "choice", asked.id)
    offered = four_choices(asked.answer, (of[code] for code in others), asked.id)
    assert offered is not None  # of 20 countries and more
    return Question(
        id=asked.id,
        modality="V",
        source=asked.source,
        subject=asked.subject,
        cluster=f"{FLAGS}/{asked.code}",
        language="en",
        question=asked.question,
        images=(image(asked.code, asked.split, asked.number),),
        choices=offered,
        answer=offered.index(asked.answer),
        answer_text=asked.answer,
    )


def sha256() -> str:
    """Hash of the shipped pictures, in the order of their codes."""
    digest = hashlib.sha256()
    for data in shipped().values():
        digest.update(data)
    return digest.hexdigest()


@cache
def _of_relation(relation: str) -> Mapping[str, str]:
    of = {fact.id.partition("/")[2]: fact for fact in facts.facts() if fact.relation == relation}
    return {code: of[code].answer for code in names() if code in of and not of[code].also}
