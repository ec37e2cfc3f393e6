"""The `facts` source: what countries and chemical elements are, asked closed-book in several wordings.

Every fact is asked in `len(WORDINGS[relation])` wordings. One wording of each fact, chosen by hash, is kept for the test, one for choosing
hyper-parameters (dev), the rest is taught. So every fact is taught and every wording is seen, but never an evaluated (fact, wording) pair:
knowledge of the fact is measured, not memory of the sentence.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from iit_bench.data.choosing import four_choices, key
from iit_bench.types import Question

Split = Literal["taught", "dev", "test"]
SOURCE = "facts"

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


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One row of the shipped table (`iit_bench/assets/facts/facts.csv`)."""

    id: str  # e.g. "capital/FR"
    relation: str  # a key of WORDINGS
    subject: str  # as written in a sentence, e.g. "the Netherlands"
    answer: str
    also: tuple[str, ...]  # further answers that are correct too; a fact that has some is neither taught nor asked


@dataclass(frozen=True)
class FactWording:
    """A (fact, wording) pair, the unit of the split."""

    fact: Fact
    wording: int  # index in WORDINGS[fact.relation]

    @property
    def id(self) -> str:
        """The question's id in a benchmark."""
        return f"{SOURCE}/{self.fact.id}/{self.wording}"

    @property
    def question(self) -> str:
        """The text of the question."""
        return WORDINGS[self.fact.relation][self.wording].format(self.fact.subject)


@dataclass(frozen=True)
class Facts:
    """Questions of one split, and how many were left out for which reason."""

    questions: list[Question]
    left_out: dict[str, int]


def table_bytes() -> bytes:
    """Bytes of the shipped table (for its sha256)."""
    return resources.files("iit_bench").joinpath("assets/facts/facts.csv").read_bytes()


@cache
def facts() -> tuple[Fact, ...]:
    """All facts, in the table's order."""
    rows = csv.DictReader(table_bytes().decode("utf-8").splitlines())
    return tuple(
        Fact(
            id=row["id"],
            relation=row["relation"],
            subject=row["subject"],
            answer=row["answer"],
            also=tuple(part for part in row["also"].split("|") if part),
        )
        for row in rows
    )


def split_of(fact_id: str, wordings: int) -> list[Split]:
    """The split of each wording of a fact: the first two in the order of their hashes are test and dev, the rest is taught."""
    order = sorted(range(wordings), key=lambda i: key("split", fact_id, str(i)))
    splits: list[Split] = ["taught"] * wordings
    splits[order[0]], splits[order[1]] = "test", "dev"
    return splits


def pairs(split: Split, among: Iterable[Fact] | None = None) -> list[FactWording]:
    """The (fact, wording) pairs of a split, in the table's order; without facts that have several correct answers."""
    of_split = []
    for fact in facts() if among is None else among:
        if not fact.also:
            splits = split_of(fact.id, len(WORDINGS[fact.relation]))
            of_split += [FactWording(fact, i) for i, name in enumerate(splits) if name == split]
    return of_split


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
    made = []
    for pair in pairs(split, known):
        choices = _choices(pair, of_relation[pair.fact.relation])
        if choices is None:
            left_out["too few choices"] += 1
            continue
        made.append(
            Question(
                id=pair.id,
                modality="T",
                source=SOURCE,
                subject=pair.fact.relation,
                cluster=f"{SOURCE}/{pair.fact.id}",
                language="en",
                question=pair.question,
                images=(),
                choices=choices,
                answer=choices.index(pair.fact.answer),
                answer_text=pair.fact.answer,
            )
        )
    return Facts(made, dict(sorted(left_out.items())))


def _choices(pair: FactWording, same_relation: Sequence[Fact]) -> tuple[str, ...] | None:
    """The gold answer and three wrong ones.

    Wrong answers are taken from the relation's facts in the order of a hash, so an answer appears as often as it is gold, in proportion
    ("Euro" must not win by frequency only).
    """
    in_order = sorted(same_relation, key=lambda fact: key("choice", pair.id, fact.id))
    return four_choices(pair.fact.answer, (other.answer for other in in_order), pair.id)
