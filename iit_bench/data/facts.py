"""The `facts` source: what countries and chemical elements are, asked closed-book in several wordings.

Every fact is asked in `len(WORDINGS[relation])` wordings. One wording of each fact, chosen by hash, is kept for the test, one for choosing
hyper-parameters (dev), the rest is taught. So every fact is taught and every wording is seen, but an evaluated (fact, wording) pair never
was: what is measured is knowledge of the fact, not memory of the sentence.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from iit_bench.types import Question

Split = Literal["taught", "dev", "test"]
SOURCE = "facts"
CHOICES = 4

WORDINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital city of {}.",
        "What is the capital city of {} called?",
        "The capital of {} is which city?",
        "Tell me the capital of {}.",
    ),
    "continent": (
        "On which continent is {}?",
        "Which continent does {} belong to?",
        "Name the continent of {}.",
        "What continent is {} part of?",
        "In what part of the world is {}?",
        "Tell me the continent where {} lies.",
    ),
    "currency": (
        "What is the currency of {}?",
        "Which currency is used in {}?",
        "Name the money of {}.",
        "What do people pay with in {}?",
        "What is the legal tender of {} called?",
        "Tell me the currency of {}.",
    ),
    "iso code": (
        "What is the two-letter ISO code of {}?",
        "Which ISO 3166 code stands for {}?",
        "Name the two-letter country code of {}.",
        "How is {} written as an ISO country code?",
        "Which two letters stand for {} in ISO 3166?",
        "Tell me the ISO code of {}.",
    ),
    "symbol": (
        "What is the chemical symbol of {}?",
        "Which symbol stands for {} in the periodic table?",
        "Name the symbol of the element {}.",
        "How do chemists abbreviate {}?",
        "How is {} written in a chemical formula?",
        "Tell me the chemical symbol for {}.",
    ),
    "atomic number": (
        "What is the atomic number of {}?",
        "How many protons does an atom of {} have?",
        "Name the atomic number of the element {}.",
        "Which number does {} have in the periodic table?",
        "What is the nuclear charge number of {}?",
        "Tell me the atomic number of {}.",
    ),
}


@dataclass(frozen=True)
class Fact:
    """One row of the shipped table (`iit_bench/assets/facts/facts.csv`)."""

    id: str  # e.g. "capital/FR"
    relation: str  # a key of WORDINGS
    subject: str  # as it stands in a sentence, e.g. "the Netherlands"
    answer: str
    also: tuple[str, ...]  # further answers a fair reader would accept; such a fact is neither taught nor asked


@dataclass(frozen=True)
class Asked:
    """A (fact, wording) pair: the unit of the split."""

    fact: Fact
    wording: int  # index in WORDINGS[fact.relation]

    @property
    def id(self) -> str:
        return f"{SOURCE}/{self.fact.id}/{self.wording}"

    @property
    def question(self) -> str:
        return WORDINGS[self.fact.relation][self.wording].format(self.fact.subject)


@dataclass(frozen=True)
class Facts:
    """Questions of one split, and how many were left out for which reason."""

    questions: list[Question]
    left_out: dict[str, int]


def table_bytes() -> bytes:
    """The shipped table as it is on disk (for its sha256)."""
    return resources.files("iit_bench").joinpath("assets/facts/facts.csv").read_bytes()


@cache
def facts() -> tuple[Fact, ...]:
    """All facts, in the table's order."""
    rows = csv.DictReader(table_bytes().decode("utf-8").splitlines())
    return tuple(
        Fact(row["id"], row["relation"], row["subject"], row["answer"], tuple(part for part in row["also"].split("|") if part))
        for row in rows
    )


def split_of(fact_id: str, wordings: int) -> list[Split]:
    """The split of each wording of a fact: the first two in the order of their hashes are test and dev, the rest is taught."""
    order = sorted(range(wordings), key=lambda i: _hash("split", fact_id, str(i)))
    splits: list[Split] = ["taught"] * wordings
    splits[order[0]], splits[order[1]] = "test", "dev"
    return splits


def pairs(split: Split, among: Iterable[Fact] | None = None) -> list[Asked]:
    """The (fact, wording) pairs of a split, in the table's order; facts with several correct answers are in none."""
    found = []
    for fact in facts() if among is None else among:
        if not fact.also:
            splits = split_of(fact.id, len(WORDINGS[fact.relation]))
            found += [Asked(fact, i) for i, of in enumerate(splits) if of == split]
    return found


def questions(split: Split, among: Sequence[Fact] | None = None) -> list[Question]:
    """Four-choice questions of a split; see `build` for what was left out."""
    return list(_shipped(split)) if among is None else build(split, among).questions


@cache
def _shipped(split: Split) -> tuple[Question, ...]:
    return tuple(build(split).questions)


def build(split: Split, among: Sequence[Fact] | None = None) -> Facts:
    """Four-choice questions of a split, and how many were left out.

    Args:
        split: "taught", "dev" or "test".
        among: the facts to ask about; default: the shipped table.

    Returns:
        Questions in the table's order, choices in the order of a hash, and `left_out` by reason, counted in questions:
        "several correct answers" (the fact has more than one) and "too few choices" (no three other answers of its relation fit).
    """
    known = facts() if among is None else tuple(among)
    left_out: Counter[str] = Counter()
    for fact in known:
        if fact.also:
            left_out["several correct answers"] += split_of(fact.id, len(WORDINGS[fact.relation])).count(split)
    of_relation: dict[str, list[Fact]] = defaultdict(list)
    for fact in known:
        of_relation[fact.relation].append(fact)
    found = []
    for asked in pairs(split, known):
        choices = _choices(asked, of_relation[asked.fact.relation])
        if choices is None:
            left_out["too few choices"] += 1
            continue
        found.append(
            Question(
                id=asked.id,
                modality="T",
                source=SOURCE,
                subject=asked.fact.relation,
                cluster=f"{SOURCE}/{asked.fact.id}",
                language="en",
                question=asked.question,
                images=(),
                choices=choices,
                answer=choices.index(asked.fact.answer),
                answer_text=asked.fact.answer,
            )
        )
    return Facts(found, dict(sorted(left_out.items())))


def _choices(asked: Asked, same_relation: Sequence[Fact]) -> tuple[str, ...] | None:
    """The gold answer and three wrong ones.

    Wrong answers are taken from the relation's facts in the order of a hash, so an answer is met in proportion to how often it is gold
    ("Euro" must not win by frequency alone). Skipped: an answer that is a prefix of a chosen one or has a chosen one as its prefix (equal
    answers included), ignoring case, because the sum of log-probabilities cannot tell such choices apart.
    """
    chosen = [asked.fact.answer]
    for other in sorted(same_relation, key=lambda fact: _hash("choice", asked.id, fact.id)):
        mine = other.answer.casefold()
        if all(not mine.startswith(c.casefold()) and not c.casefold().startswith(mine) for c in chosen):
            chosen.append(other.answer)
        if len(chosen) == CHOICES:
            return tuple(sorted(chosen, key=lambda choice: _hash("order", asked.id, choice)))
    return None


def _hash(*parts: str) -> bytes:
    """Order that is the same on any machine, with any PYTHONHASHSEED."""
    return hashlib.sha256("\x1f".join(parts).encode()).digest()
