"""Checks questions and orders their choices (docs/spec/iit.md#building-5-choices, #building-9-records-left-out)."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, overload

from builders.fixed_order import keeps_order
from builders.sources.base import StoredImage
from builders.words import hashed
from iit_bench.images import UNREADABLE, is_readable
from iit_bench.types import IMAGE_MARK, Question

_HALF = re.compile(r"[\ud800-\udfff]")


def flaw(question: Question) -> str | None:
    """Why a question cannot be used, as a short countable reason; None if it can. Its images are not decoded (see `images.is_readable`)."""
    choices = question.choices
    if any(map(_HALF.search, (question.id, question.subject, question.cluster, question.language, question.question, *choices))):
        return "a text with half a character"  # JSON can write one half of a surrogate pair; tables and tokenizers take none
    if not question.question.strip():
        return "empty question"
    if any(not choice.strip() for choice in choices):
        return "empty choice"
    if len(choices) < 2:
        return "fewer than two choices"
    if not 0 <= question.answer < len(choices) or choices[question.answer] != question.answer_text:
        return "answer outside the choices"
    if len(set(choices)) < len(choices):
        return "equal choices"
    if (question.modality == "V") != bool(question.images):
        return "modality does not fit the images"
    if question.images and question.question.count(IMAGE_MARK) not in (0, len(question.images)):
        return "image marks do not fit the images"
    return None


def has_prefix(choices: Iterable[str]) -> bool:
    """Whether one choice begins with another, ignoring case: the longer one could never have the higher sum of log-probabilities."""
    ordered = sorted(choice.casefold() for choice in choices)  # if a text has a prefix in the list, so has its predecessor, or is one
    return any(later.startswith(earlier) for earlier, later in pairwise(ordered))


def admit(questions: Iterable[Question]) -> tuple[list[Question], Counter[str]]:
    """The usable questions in their order, and reason -> number left out. Of several questions with one id the first is kept."""
    kept: list[Question] = []
    left_out: Counter[str] = Counter()
    seen_ids: set[str] = set()
    readable: dict[str, bool] = {}  # image sha256 -> decodes; sources have already checked each StoredImage
    for question in questions:
        reason = "duplicate id" if question.id in seen_ids else flaw(question)
        seen_ids.add(question.id)
        if reason is None:
            for image in question.images:
                if not isinstance(image, StoredImage) and image.sha256 not in readable:
                    readable[image.sha256] = is_readable(image)
            if not all(readable.get(image.sha256, True) for image in question.images):
                reason = UNREADABLE
        if reason is None:
            kept.append(question)
        else:
            left_out[reason] += 1
    return kept, left_out


def flagged(question: Question) -> Question:
    """The question with `fixed_order` and `prefix_choices` set to what its choices are."""
    fixed, prefix = question.fixed_order or keeps_order(question.choices), has_prefix(question.choices)
    if (fixed, prefix) == (question.fixed_order, question.prefix_choices):
        return question  # not a second object beside the source's
    return replace(question, fixed_order=fixed, prefix_choices=prefix)


# ---------------------------------------------------------------- the order of choices


@dataclass(frozen=True)
class Ordered(Sequence[Question]):
    """Questions with their choices in another order, each made when it is asked for: no second object per question is kept.

    Args:
        questions: as their sources gave them.
        orders: for each the positions of its choices in their new order; None = unchanged.
    """

    questions: Sequence[Question]
    orders: Sequence[tuple[int, ...] | None]

    def __len__(self) -> int:
        return len(self.questions)

    @overload
    def __getitem__(self, index: int) -> Question: ...

    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...

    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        question, order = self.questions[index], self.orders[index]
        if order is None:
            return question
        return replace(question, choices=tuple(question.choices[i] for i in order), answer=order.index(question.answer))

    def sorted_with(self, other: Ordered, key: Callable[[Question], Any]) -> Ordered:
        """These questions and others, sorted by a key that does not depend on the order of choices."""
        rows = [*zip(self.questions, self.orders, strict=True), *zip(other.questions, other.orders, strict=True)]
        rows.sort(key=lambda row: key(row[0]))
        return Ordered([question for question, _ in rows], [order for _, order in rows])


def ordered(questions: Sequence[Question], seed: int) -> Ordered:
    """The questions with their choices in their final order; those with `fixed_order` are unchanged.

    Wrong choices come in the order of a hash of (seed, question id, choice). The position of the gold answer is dealt: of the questions
    with one modality and k choices, each k in a row have it once at each position, so that any first part of `questions` is balanced to
    within one. A remainder goes to the positions that are behind over the whole modality, ties by hash, so that the remainders of different
    numbers of choices do not add up.
    """
    of_kind: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        if not question.fixed_order:
            of_kind[question.modality, len(question.choices)].append(i)
    orders: list[tuple[int, ...] | None] = [None] * len(questions)
    equal: dict[tuple[int, ...], tuple[int, ...]] = {}  # equal orders are one object
    surplus: dict[str, Counter[int]] = defaultdict(
        Counter
    )  # modality -> position -> gold answers above an even share, in units of 1/`unit`
    unit = math.lcm(*(k for _, k in of_kind))
    for (modality, k), members in sorted(of_kind.items()):
        for start in range(0, len(members), k):
            block = members[start : start + k]
            drawn = sorted(range(k), key=lambda position: hashed("position", seed, modality, k, start, position))
            if len(block) < k:
                behind = sorted(drawn, key=lambda position: surplus[modality][position])[: len(block)]
                surplus[modality].subtract({position: unit * len(block) // k for position in range(k)})
                surplus[modality].update(dict.fromkeys(behind, unit))
                drawn = [position for position in drawn if position in behind]
            for i, position in zip(block, drawn, strict=True):
                order = _with_gold_at(questions[i], position, seed)
                orders[i] = equal.setdefault(order, order)
    return Ordered(questions, orders)


def _with_gold_at(question: Question, position: int, seed: int) -> tuple[int, ...]:
    """The positions of the choices in their order with the gold answer at a position."""
    wrong = [i for i in range(len(question.choices)) if i != question.answer]
    wrong.sort(key=lambda i: hashed("choice", seed, question.id, question.choices[i]))
    return (*wrong[:position], question.answer, *wrong[position:])
