"""Whose images an arm shows in place of a target's: a function of the benchmark only (docs/spec/iit.md#arms)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property

from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Image, Question


class Donors:
    """For each target of a benchmark, the questions whose images arms show; the same for all dialogues of a group."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._questions = benchmark.questions
        self._groups: dict[str, set[str]] = defaultdict(set)  # target -> questions of its group's dialogues
        for dialogue in benchmark.dialogues:
            self._groups[dialogue.target].update(dialogue.turns)
        self._own: dict[str, tuple[set[str], set[str]]] = {}

    def irrelevant(self, target: str) -> Image | None:
        """An image for a text target, of a question that has nothing to do with its group; None where the benchmark has none."""
        found = _first_from(target, "irrelevant", self._images, lambda question: self._is_foreign(question, target))
        return None if found is None else found.images[0]

    def contradicting(self, target: str) -> tuple[Image, ...] | None:
        """Images of a question with the target's words and another of its choices as gold answer; None where there is none."""
        asked = self._questions[target]

        def fits(question: Question) -> bool:
            differs = question.answer_text != asked.answer_text and question.answer_text in asked.choices
            return differs and self._is_foreign(question, target)

        found = _first_from(target, "contradicting", self._alike[_words(asked)], fits)
        return None if found is None else found.images

    def swapped(self, target: str) -> tuple[Image, ...] | None:
        """Images of the target that a target is paired with; None for one that remains."""
        partner = self._partners.get(target)
        return None if partner is None else self._questions[partner].images

    # ------------------------------------------------------------ what may be shown

    def _is_foreign(self, question: Question, target: str) -> bool:
        """Whether no turn of the target's group has the question's cluster or one of its images."""
        clusters, images = self._of_group(target)
        return question.cluster not in clusters and not any(image.sha256 in images for image in question.images)

    def _of_group(self, target: str) -> tuple[set[str], set[str]]:
        if target not in self._own:
            members = [self._questions[name] for name in self._groups[target]]
            self._own[target] = {one.cluster for one in members}, {image.sha256 for one in members for image in one.images}
        return self._own[target]

    @cached_property
    def _visual(self) -> list[Question]:
        return sorted((question for question in self._questions.values() if question.images), key=lambda question: question.id)

    @cached_property
    def _images(self) -> list[Question]:
        """A question per distinct first image."""
        first: dict[str, Question] = {}
        for question in self._visual:
            first.setdefault(question.images[0].sha256, question)
        return list(first.values())

    @cached_property
    def _alike(self) -> Mapping[Hashable, list[Question]]:
        """Visual questions by source, words and number of images."""
        alike: dict[Hashable, list[Question]] = defaultdict(list)
        for question in self._visual:
            alike[_words(question)].append(question)
        return alike

    @cached_property
    def _partners(self) -> dict[str, str]:
        """Visual targets in pairs."""
        pools: dict[Hashable, list[Question]] = defaultdict(list)
        for question in self._visual:
            if question.id in self._groups:
                pools[question.source, len(question.images)].append(question)
        partners: dict[str, str] = {}
        for pool in pools.values():
            left = sorted(pool, key=lambda question: _hashed(question.id, "swapped"))
            while left:
                one = left.pop(0)
                for place, other in enumerate(left):
                    if self._is_foreign(other, one.id) and self._is_foreign(one, other.id):
                        partners |= {one.id: other.id, other.id: one.id}
                        del left[place]
                        break
        return partners


def _words(question: Question) -> Hashable:
    return question.source, " ".join(question.question.casefold().split()), len(question.images)


def _first_from(target: str, arm: str, pool: Sequence[Question], fits: Callable[[Question], bool]) -> Question | None:
    """The first question that fits, from a place that depends on the target, round the pool."""
    start = _hashed(target, arm)
    places = ((start + step) % len(pool) for step in range(len(pool)))
    return next((pool[place] for place in places if fits(pool[place])), None)


def _hashed(target: str, arm: str) -> int:
    return int.from_bytes(hashlib.sha256(f"arm {arm}\n{target}".encode()).digest(), "big")
