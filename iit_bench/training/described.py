"""Pictures described in words, with the questions of the sources that show them: scenes (easy-VQA), digits and flags.

Everything drawn here is text. A base LLM practises on it, so that it knows the words and what is asked before any picture is seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from iit_bench.data import digits, easyvqa, flags
from iit_bench.types import Question

# How a scene is described in words in place of a picture. Sizes and places are noise that must be ignored.
DESCRIPTIONS = (
    "{colour} {shape}",
    "{shape}, {colour}",
    "a {size} {colour} {shape}",
    "The picture shows a {colour} {shape}.",
    "The picture shows a {size} {shape}. It is {colour}.",
    "There is a {colour} {shape} {place}.",
    "The image contains one {shape}. Its color is {colour}.",
    "shape: {shape}, color: {colour}",
    "color: {colour}, size: {size}, shape: {shape}",
    "An image of a {shape} painted {colour}, {place}.",
    "We see something {colour} {place}: a {shape}.",
    "{place}: {size} {shape}, {colour}",
)
SIZES = ("small", "large", "tiny", "wide", "tall", "big")
PLACES = ("at the top", "at the bottom", "in the middle", "on the left", "on the right", "in a corner")
DIGIT = ("handwritten: {}", "The picture shows the digit {}.", "Someone has written the number {}.", "digit: {}", "A scan of {} in ink.")
TWO_DIGITS = (
    "First picture: {}. Second picture: {}.",
    "A pair of pictures. The first shows {}, the second {}.",
    "first: {}, second: {}",
    "The digit {} is in the first picture, and {} in the second.",
)
FLAG = (
    "the flag of {}",
    "The picture shows the flag of {}.",
    "a flag in the wind: that of {}",
    "flag: {}",
    "We see the flag that {} flies.",
)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def scene(rng: np.random.Generator, subject: str | None = None) -> Question:
    """A described scene and a question about it in the words of easy-VQA's train questions.

    Of the yes/no questions, half name what is there, and half of either are negated: neither the answer nor the way of asking nor what is
    asked for gives another away, so that only looking helps. (If only yes and no were balanced, "is there …?" is mostly no and "is there
    not …?" mostly yes, and a small model learns just that.)
    """
    shape = str(rng.choice(easyvqa.SHAPES))
    colour = str(rng.choice(easyvqa.COLOURS))
    subject = subject or str(rng.choice(["shape", "colour", "yes/no", "yes/no"]))
    answer = {"shape": shape, "colour": colour}.get(subject) or str(rng.choice(easyvqa.YES_NO))
    wordings = _askable()[(shape, colour, subject, answer, bool(rng.integers(2)) if subject == "yes/no" else False)]
    words = DESCRIPTIONS[rng.integers(len(DESCRIPTIONS))].format(
        shape=shape, colour=colour, size=SIZES[rng.integers(len(SIZES))], place=PLACES[rng.integers(len(PLACES))]
    )
    choices = {"shape": easyvqa.SHAPES, "colour": easyvqa.COLOURS}.get(subject, easyvqa.YES_NO)
    return _question("scenes", subject, f"{words}\n{wordings[int(rng.integers(len(wordings)))]}", choices, answer)


def answer_for(question: str, shape: str, colour: str) -> str | None:
    """What easy-VQA answers to `question` over one `colour` `shape`; None where the question speaks of another shape or colour."""
    words = re.findall(r"[a-z]+", question)
    named = [word for word in words if word in easyvqa.SHAPES or word in easyvqa.COLOURS]
    if words[0] == "what":
        if any(word not in (shape, colour) for word in named):
            return None
        return colour if "color" in words else shape
    seen = named[0] in (shape, colour)
    return "yes" if seen != _negated(question) else "no"


def _negated(question: str) -> bool:
    return " not " in question or " no " in question


@cache
def _askable() -> Mapping[tuple[str, str, str, str, bool], Sequence[str]]:
    """(shape, colour, subject, answer, negated) -> the train questions of this kind that have this answer over this scene."""
    strings = sorted({(row.question, row.subject) for row in easyvqa.rows("train")})
    askable: dict[tuple[str, str, str, str, bool], list[str]] = {}
    for shape in easyvqa.SHAPES:
        for colour in easyvqa.COLOURS:
            for question, subject in strings:
                answer = answer_for(question, shape, colour)
                if answer is not None:
                    askable.setdefault((shape, colour, subject, answer, _negated(question)), []).append(question)
    return askable


def digit(rng: np.random.Generator, subject: str | None = None) -> Question:
    """A described digit, or two, and a question in the words of source `digits`; each kind as likely."""
    kinds = (*digits.ONE_SCAN, *digits.TWO_SCANS)
    kind = next((kind for kind in kinds if kind == subject), None) or kinds[rng.integers(len(kinds))]
    values = [int(value) for value in rng.integers(10, size=2)]
    if kind == "larger" and values[0] == values[1]:
        values[1] = (values[1] + int(rng.integers(1, 10))) % 10
    shown = values[:1] if kind in digits.ONE_SCAN else values
    forms = DIGIT if len(shown) == 1 else TWO_DIGITS
    words = forms[rng.integers(len(forms))].format(*(NAMES[value] for value in shown))
    wording = digits.WORDINGS[kind][rng.integers(len(digits.WORDINGS[kind]))]
    gold = digits.answer(kind, shown)
    assert gold is not None
    return _question("digit-words", kind, f"{words}\n{wording}", digits.choices(kind, gold, words), gold)


def flag(rng: np.random.Generator, subject: str | None = None) -> Question:
    """A flag described by its country's name, and a question in the words of sources `flags` and `flag-facts`.

    Only facts that may be taught through the flag are asked (`flags.split_of`).
    """
    kinds = ("country", *flags.RELATIONS)
    kind = subject or kinds[rng.integers(len(kinds))]
    codes = _codes(kind)
    code = codes[rng.integers(len(codes))]
    words = FLAG[rng.integers(len(FLAG))].format(flags.names()[code])
    wording = flags.WORDINGS[kind][rng.integers(len(flags.WORDINGS[kind]))]
    gold = flags.answers(kind)[code]
    others = [other for i in rng.integers(len(codes), size=8) if (other := flags.answers(kind)[codes[i]]) != gold]
    return _question("flag-words", kind, f"{words}\n{wording}", (gold, *others[:1]), gold)


@cache
def _codes(kind: str) -> tuple[str, ...]:
    return tuple(code for code in flags.answers(kind) if kind == "country" or flags.split_of(kind, code) == "train")


def _question(source: str, subject: str, text: str, choices: Sequence[str], gold: str) -> Question:
    return Question(
        id="",
        modality="T",
        source=source,
        subject=subject,
        cluster="",
        language="en",
        question=text,
        images=(),
        choices=tuple(choices),
        answer=choices.index(gold),
        answer_text=gold,
    )
