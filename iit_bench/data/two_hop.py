"""The `two-hop` source: questions that take two facts, such as the currency of the country whose capital is Tallinn.

Both facts are taught by themselves (source `facts`). Of each kind of question, (kind, entity) pairs are split by hash:

- of `COMPOSED`, a share of the pairs, no wording is taught: whoever answers has put two facts together. Their subject ends in "(untaught)".
- of the other pairs some wordings are taught, and one is asked on dev and one on test, as with the facts themselves.
- kinds in `NEVER_TAUGHT` have no taught pair at all, in any wording.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from iit_bench.data import facts
from iit_bench.data.choosing import four_choices, key, share, shuffled
from iit_bench.types import Question

Split = Literal["taught", "dev", "test"]
SOURCE = "two-hop"
COMPOSED = 0.25  # share of the pairs that are never taught; half of them are asked on dev, half on test

# (asked relation, relation that names the entity) -> wordings over that name
WORDINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("currency", "capital"): (
        "What is the currency of the country whose capital is {}?",
        "Which currency is used in the country with the capital {}?",
        "Name the money of the country that has {} as its capital.",
        "{} is the capital of a country. What do people pay with there?",
        "Tell me the currency of the country governed from {}.",
    ),
    ("continent", "capital"): (
        "On which continent is the country whose capital is {}?",
        "Which continent does the country with the capital {} belong to?",
        "Name the continent of the country that has {} as its capital.",
        "{} is the capital of a country. In what part of the world is it?",
        "Tell me the continent of the country governed from {}.",
    ),
    ("iso code", "capital"): (
        "What is the two-letter ISO code of the country whose capital is {}?",
        "Which ISO 3166 code stands for the country with the capital {}?",
        "Name the two-letter code of the country that has {} as its capital.",
        "{} is the capital of a country. How is it written as an ISO country code?",
        "Tell me the ISO code of the country governed from {}.",
    ),
    ("capital", "iso code"): (
        "What is the capital of the country whose ISO code is {}?",
        "Which city is the capital of the country that {} stands for in ISO 3166?",
        "Name the capital city of the country with the two-letter code {}.",
        "{} is the ISO code of a country. What is its capital called?",
        "Tell me the capital of the country with the ISO code {}.",
    ),
    ("currency", "iso code"): (
        "What is the currency of the country whose ISO code is {}?",
        "Which currency is used in the country that {} stands for in ISO 3166?",
        "Name the money of the country with the two-letter code {}.",
        "{} is the ISO code of a country. What do people pay with there?",
        "Tell me the currency of the country with the ISO code {}.",
    ),
    ("symbol", "atomic number"): (
        "What is the chemical symbol of the element with {} protons?",
        "Which symbol stands for the element with the atomic number {}?",
        "Name the symbol of element number {} in the periodic table.",
        "An atom has {} protons. How do chemists abbreviate it?",
        "Tell me the symbol of the element whose atomic number is {}.",
    ),
    ("atomic number", "symbol"): (
        "What is the atomic number of the element whose symbol is {}?",
        "How many protons does an atom of the element {} have?",
        "Name the atomic number of the element that is written {}.",
        "{} is the symbol of an element. Which number does it have in the periodic table?",
        "Tell me the nuclear charge number of the element abbreviated {}.",
    ),
}
NEVER_TAUGHT = frozenset({("currency", "iso code")})


@dataclass(frozen=True)
class Pair:
    """A kind of question about one entity, in one wording."""

    asked: facts.Fact
    named_by: facts.Fact  # its answer names the entity
    wording: int
    composed: bool  # no wording of this kind and entity is taught

    @property
    def kind(self) -> tuple[str, str]:
        """(relation asked, relation that names the entity)."""
        return self.asked.relation, self.named_by.relation

    @property
    def entity(self) -> str:
        """Country code or atomic number."""
        return self.asked.id.partition("/")[2]

    @property
    def id(self) -> str:
        """The question's id in a benchmark."""
        return f"{SOURCE}/{_name(self.kind)}/{self.entity}/{self.wording}"

    @property
    def subject(self) -> str:
        """The kind, e.g. "currency by capital"; with "(untaught)" where two facts must be put together."""
        return f"{self.kind[0]} by {self.kind[1]}{' (untaught)' if self.composed else ''}"

    @property
    def question(self) -> str:
        """The text of the question."""
        return WORDINGS[self.kind][self.wording].format(self.named_by.answer)


@dataclass(frozen=True)
class TwoHop:
    """Questions of one split, and how many entities were left out for which reason."""

    questions: tuple[Question, ...]
    left_out: dict[str, int]


def pairs(split: Split) -> list[Pair]:
    """The questions of a split before their choices, by kind and in the table's order."""
    return [pair for pair, of_split in _all_pairs() if of_split == split]


@cache
def build(split: Split) -> TwoHop:
    """Four-choice questions of a split.

    Left out, counted in (kind, entity) pairs over all splits: "several correct answers" (one of the two facts has more than one), and
    "name of several" (two entities have the answer that would name one).
    """
    alike: dict[tuple[tuple[str, str], bool], dict[str, facts.Fact]] = defaultdict(dict)
    for pair, _ in _all_pairs():
        alike[pair.kind, pair.composed][pair.asked.id] = pair.asked
    made = [_question(pair, list(alike[pair.kind, pair.composed].values())) for pair in pairs(split)]
    return TwoHop(tuple(made), dict(_left_out()))


def _question(pair: Pair, alike: list[facts.Fact]) -> Question:
    """Wrong answers come from the questions of the kind, in proportion to their frequency as gold answers.

    They come from those that are taught if this one is, else from those that are not: which answers were heard before must not give a
    question away.
    """
    others = shuffled(alike, "choice", pair.id)
    offered = four_choices(pair.asked.answer, (other.answer for other in others), pair.id)
    assert offered is not None  # each kind has four answers that are no prefix of each other
    return Question(
        id=pair.id,
        modality="T",
        source=SOURCE,
        subject=pair.subject,
        cluster=f"{SOURCE}/{'country' if pair.entity.isalpha() else 'element'}/{pair.entity}",
        language="en",
        question=pair.question,
        images=(),
        choices=offered,
        answer=offered.index(pair.asked.answer),
        answer_text=pair.asked.answer,
    )


@cache
def _all_pairs() -> tuple[tuple[Pair, Split], ...]:
    made: list[tuple[Pair, Split]] = []
    for kind, wordings in WORDINGS.items():
        for asked, named_by in _entities(kind)[0]:
            place = share(SOURCE, "composed", _name(kind), asked.id.partition("/")[2]) / (1.0 if kind in NEVER_TAUGHT else COMPOSED)
            order = sorted(range(len(wordings)), key=lambda i: key(SOURCE, "split", _name(kind), asked.id, str(i)))
            if place < 1:
                made.append((Pair(asked, named_by, order[0], composed=True), "test" if place < 0.5 else "dev"))
                continue
            for rank, wording in enumerate(order):
                made.append((Pair(asked, named_by, wording, composed=False), "test" if rank == 0 else "dev" if rank == 1 else "taught"))
    return tuple(made)


@cache
def _entities(kind: tuple[str, str]) -> tuple[tuple[tuple[facts.Fact, facts.Fact], ...], Mapping[str, int]]:
    """(asked fact, naming fact) of each entity that can be asked about, and how many were left out."""
    asked, naming = ({fact.id.partition("/")[2]: fact for fact in facts.facts() if fact.relation == relation} for relation in kind)
    named = Counter(fact.answer for fact in naming.values())
    left_out: Counter[str] = Counter()
    kept = []
    for entity in asked.keys() & naming.keys():
        if asked[entity].also or naming[entity].also:
            left_out["several correct answers"] += 1
        elif named[naming[entity].answer] > 1:
            left_out["name of several"] += 1
        else:
            kept.append((asked[entity], naming[entity]))
    place = {fact.id: i for i, fact in enumerate(facts.facts())}
    return tuple(sorted(kept, key=lambda both: place[both[0].id])), left_out


def _left_out() -> Counter[str]:
    return sum((Counter(_entities(kind)[1]) for kind in WORDINGS), Counter())


def _name(kind: tuple[str, str]) -> str:
    return "-by-".join(kind).replace(" ", "-")
