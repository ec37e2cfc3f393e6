"""What is trained on: dialogues of questions, drawn anew for every step from nothing but (seed, step).

So a step's batch does not depend on the steps before it, and a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from iit_bench.data import easyvqa, facts
from iit_bench.training.records import Dialogues
from iit_bench.types import Question

Draw = Callable[[np.random.Generator, str | None], Question]  # a question, of the given subject if there is one

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


def generator(seed: int, step: int, salt: int = 0) -> np.random.Generator:
    """The random numbers of one step."""
    return np.random.default_rng([seed, step, salt])


def batch(draw: Draw, data: Dialogues, turns: int, rng: np.random.Generator) -> list[list[Question]]:
    """Dialogues of equal length with about `turns` turns together: a step's cost hardly varies and little is padded."""
    length = int(rng.choice(data.turns))
    dialogues = []
    for _ in range(max(1, round(turns / length))):
        dialogue = [draw(rng, None)]
        while len(dialogue) < length:
            alike = rng.random() < data.alike
            dialogue.append(draw(rng, dialogue[0].subject if alike else None))
        dialogues.append(dialogue)
    return dialogues


def facts_and_scenes(scenes: float) -> Draw:
    """Taught facts, and described scenes with probability `scenes`."""
    pools = _by_subject(facts.questions("taught"))
    everything = [question for pool in pools.values() for question in pool]

    def draw(rng: np.random.Generator, subject: str | None) -> Question:
        if subject in pools:
            return pools[subject][rng.integers(len(pools[subject]))]
        if subject is not None or rng.random() < scenes:
            return scene(rng, subject)
        return everything[rng.integers(len(everything))]

    return draw


def vqa() -> Draw:
    """VQA questions of the train images (dev images are not among them), each with its image."""
    pools = _by_subject(easyvqa.questions("train"))
    everything = [question for pool in pools.values() for question in pool]

    def draw(rng: np.random.Generator, subject: str | None) -> Question:
        pool = everything if subject is None else pools[subject]
        return pool[rng.integers(len(pool))]

    return draw


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
    return Question(
        id="",
        modality="T",
        source="scenes",
        subject=subject,
        cluster="",
        language="en",
        question=f"{words}\n{wordings[int(rng.integers(len(wordings)))]}",
        images=(),
        choices=choices,
        answer=choices.index(answer),
        answer_text=answer,
    )


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


def _by_subject(questions: Sequence[Question]) -> dict[str, list[Question]]:
    pools: dict[str, list[Question]] = {}
    for question in questions:
        pools.setdefault(question.subject, []).append(question)
    return pools
