"""The lab's sources as training draws from them: a question at random, of the train split, and the questions of dev and test.

Of text: `facts` and `two-hop`; and practice in the words of the sources with images, over scenes, digits and flags that are described in
words, as an LLM has read of them before it sees one: `scenes`, `digit-words`, `flag-words`. Of images: `easyvqa`, `digits`, `flags`,
`flag-facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from iit_bench.data import digits, easyvqa, facts, flags, two_hop
from iit_bench.training import described
from iit_bench.training.records import IMAGE_SOURCES, LAB, TEXT_SOURCES, Dialogues
from iit_bench.types import Question

Split = Literal["dev", "test"]
Pick = Callable[[np.random.Generator, str | None], Question]  # a question of the train split, of the given subject if there is one
Held = Callable[[Split], Sequence[Question]]


@dataclass(frozen=True)
class Source:
    """What is drawn in training, and what is asked on dev and test; sources of practice have nothing to ask."""

    pick: Callable[[], Pick]
    held_out: Held = lambda split: ()


def from_pool(questions: Sequence[Question]) -> Pick:
    """Each question as likely."""
    pools = by_subject(questions)
    everything = [question for pool in pools.values() for question in pool]

    def pick(rng: np.random.Generator, subject: str | None) -> Question:
        pool = everything if subject is None else pools[subject]
        return pool[rng.integers(len(pool))]

    return pick


def by_subject(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """The questions of each subject, in their order."""
    pools: dict[str, list[Question]] = {}
    for question in questions:
        pools.setdefault(question.subject, []).append(question)
    return pools


def _flags(asked: Sequence[flags.Asked]) -> Pick:
    """Rendered when it is drawn: most trainings do not see every rendering."""
    pools: dict[str, list[flags.Asked]] = {}
    for one in asked:
        pools.setdefault(one.subject, []).append(one)

    def pick(rng: np.random.Generator, subject: str | None) -> Question:
        pool = asked if subject is None else pools[subject]
        return flags.as_question(pool[int(rng.integers(len(pool)))])

    return pick


def _digits(rng: np.random.Generator, subject: str | None) -> Question:
    """Any two scans, each kind as likely; where two equal digits leave nothing to ask, their sum."""
    kinds = (*digits.ONE_SCAN, *digits.TWO_SCANS)
    kind = next((kind for kind in kinds if kind == subject), None) or kinds[rng.integers(len(kinds))]
    known = digits.scans("train")
    shown = [known[i] for i in rng.integers(len(known), size=2)][: 1 if kind in digits.ONE_SCAN else 2]
    question = digits.question(kind, shown) or digits.question("sum", shown)
    assert question is not None  # every two digits have a sum
    return question


SOURCES: Mapping[str, Source] = {
    "facts": Source(lambda: from_pool(taught("facts")), facts.questions),
    "two-hop": Source(lambda: from_pool(taught("two-hop")), lambda split: two_hop.build(split).questions),
    "scenes": Source(lambda: described.scene),
    "digit-words": Source(lambda: described.digit),
    "flag-words": Source(lambda: described.flag),
    "easyvqa": Source(lambda: from_pool(easyvqa.questions("train")), easyvqa.questions),
    "digits": Source(lambda: _digits, lambda split: digits.build(split).questions),
    "flags": Source(lambda: _flags(flags.countries("train")), lambda split: flags.build(split).questions),
    "flag-facts": Source(lambda: _flags(flags.flag_facts("train")), lambda split: flags.build_facts(split).questions),
}
TEXT, PRACTICE = TEXT_SOURCES[:2], TEXT_SOURCES[2:]  # asked; and only practised


def text_of(data: Dialogues) -> tuple[str, ...]:
    """The text sources that a model trained on `data` is scored on."""
    return TEXT if data.sources else TEXT[:1]


def practice_of(data: Dialogues) -> tuple[str, ...]:
    """The described pictures that it is scored on."""
    return PRACTICE if data.sources else PRACTICE[:1]


def images_of(data: Dialogues) -> tuple[str, ...]:
    """The sources with images that it is scored on."""
    return tuple(name for name in IMAGE_SOURCES if name in data.sources) or IMAGE_SOURCES[:1]


def part(question: Question, names: Sequence[str]) -> str:
    """What a question's score is counted under: its subject, or of several sources source and subject, of text without the relation."""
    if len(names) == 1:
        return question.subject
    if question.modality == "T":
        return question.source + (" (untaught)" if question.subject.endswith("(untaught)") else "")
    return f"{question.source} {question.subject}"


def taught(name: str) -> Sequence[Question]:
    """The train split of a text source."""
    return facts.questions("taught") if name == "facts" else two_hop.build("taught").questions


@cache
def picks(name: str) -> Pick:
    """How a source is drawn from."""
    return SOURCES[name].pick()


def questions(names: Sequence[str], split: Split, limit: int | None = None) -> list[Question]:
    """The questions of some sources on dev or test, source by source.

    Of at most `limit` each source has an equal part, evenly spread over its questions.
    """
    return [question for of in _by_source(names, split, limit) for question in of]


def counts(names: Sequence[str], split: Split, limit: int) -> list[dict[str, Any]]:
    """How many of these `questions` are of each source: its name as mixtures have it, and `rows`."""
    return [{"source": LAB + name, "rows": len(of)} for name, of in zip(names, _by_source(names, split, limit), strict=True)]


def _by_source(names: Sequence[str], split: Split, limit: int | None) -> list[list[Question]]:
    shares = [None if limit is None else limit * (i + 1) // len(names) - limit * i // len(names) for i in range(len(names))]
    return [some(SOURCES[name].held_out(split), share) for name, share in zip(names, shares, strict=True)]


def some(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """At most `limit` questions, evenly spread over the list."""
    if limit is None or limit >= len(questions):
        return list(questions)
    return [questions[i * len(questions) // limit] for i in range(limit)]
