"""Checks questions and orders their choices (docs/spec/iit.md#building-5-choices, #building-9-records-left-out)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from builders.sources.base import StoredImage
from builders.words import hashed
from iit_bench.images import UNREADABLE, is_readable
from iit_bench.types import IMAGE_MARK, Question

# A choice that refers to others, and so needs them in source order. A false match costs no more than an unshuffled question.
_REFERS_TO_OTHERS = re.compile(
    r"\b(?:all|none|both|neither|either|any|each|some|two|three|more than one|one)\s+of\s+(?:the\s+|these\s+)*"
    r"(?:above|below|these|them|options?|choices?|answers?|alternatives|other|others|following)\b"
    r"|\b(?:the|as)\s+above\b|\bother\s+(?:options|choices|answers)\b"
    r"|(?<![\w.])\(?[A-H]\)?\s*(?:,\s*\(?[A-H]\)?\s*)*,?\s*(?:and|or|&|nor)\s*\(?[A-H]\)?(?![\w.])"
    r"|以上|上述|都对|都不对|都是|都不是|皆是|皆非|[A-H]\s*[和与或、]\s*[A-H]",
    re.IGNORECASE,
)
YES_NO = {"yes", "no"}


def flaw(question: Question) -> str | None:
    """Why a question cannot be used, as a short countable reason; None if it can. Its images are not decoded (see `images.is_readable`)."""
    choices = question.choices
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
    if has_prefix(choices):
        return "a choice is a prefix of another"
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


def keeps_order(question: Question) -> bool:
    """Whether the choices must stay in source order: yes/no, or one that refers to others ("all of the above", "A and B")."""
    if question.fixed_order or {choice.casefold().strip(" .") for choice in question.choices} == YES_NO:
        return True
    return any(_REFERS_TO_OTHERS.search(choice) for choice in question.choices)


def shuffled(question: Question, seed: int) -> Question:
    """The question with its choices in the order of a hash of (seed, question id, choice), or flagged `fixed_order` in source order.

    The hash makes every position of the gold answer equally likely.
    """
    if keeps_order(question):
        return replace(question, fixed_order=True)
    choices = tuple(sorted(question.choices, key=lambda choice: hashed("choice", seed, question.id, choice)))
    return replace(question, choices=choices, answer=choices.index(question.answer_text))
