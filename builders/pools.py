"""The questions of one modality that may be history, in the order of nearness to a target and without those at their cap.

Orders are made lazily: a history takes the first few questions of thousands. A question is known by its place in the pool, which is the
order of ids.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from builders.matching import Matcher
from builders.pruned_search import Ranking
from builders.words import hash64, mixed
from iit_bench.types import Question

FIRST = 16  # texts of a ranking; more where the rules refuse all of these
MORE = 32  # how many times as many then
Admits = Callable[[int, int], bool]  # (text, place of a question with it) -> whether the text may be history
REBUILT = 0.97  # a search is made anew when so many of its texts are left


class Remaining:
    """The numbers 0 … n-1 without those removed; the next one that is left is found in almost constant time."""

    def __init__(self, n: int) -> None:
        self._next = array("i", range(n + 1))  # leads to the next number that is left; n = the end

    def __contains__(self, number: int) -> bool:
        return self._next[number] == number

    def remove(self, number: int) -> None:
        """Remove a number."""
        self._next[number] = number + 1

    def first(self, start: int) -> int:
        """The lowest number from `start` on that is left; n if there is none."""
        number = start
        while self._next[number] != number:
            self._next[number] = self._next[self._next[number]]  # halves the path for later searches
            number = self._next[number]
        return number


class Pool:
    """Questions of one modality by text and by cluster (a number), some of them closed: those of clusters at their cap.

    Args:
        questions: in the order of ids.
        texts: question text -> its position in the matcher.
    """

    def __init__(self, questions: Sequence[Question], texts: Mapping[str, int]) -> None:
        self.questions = tuple(questions)
        self.texts = np.fromiter((texts[question.question] for question in questions), np.int64, len(self.questions))
        self._by_text = np.argsort(self.texts, kind="stable").astype(np.int32)  # slot -> place
        self._starts = np.searchsorted(self.texts[self._by_text], np.arange(len(texts) + 1))  # text -> its first slot
        self._slot_of = np.empty(len(self.questions), np.int32)
        self._slot_of[self._by_text] = np.arange(len(self.questions))
        self._open, self._open_slots = Remaining(len(self.questions)), Remaining(len(self.questions))
        self._open_in_text = np.diff(self._starts)
        self.closed_texts: list[int] = []  # in the order in which their last questions were closed
        numbers: dict[str, int] = {}
        self.clusters = np.fromiter((numbers.setdefault(q.cluster, len(numbers)) for q in questions), np.int32, len(self.questions))
        self._by_cluster = np.argsort(self.clusters, kind="stable").astype(np.int32)
        self._first_of_cluster = np.searchsorted(self.clusters[self._by_cluster], np.arange(len(numbers) + 1))
        self.use = np.zeros(len(numbers), np.int64)  # cluster -> groups in which it is history

    def members(self, cluster: int) -> list[int]:
        """The places of a cluster's questions, ascending."""
        members: list[int] = self._by_cluster[self._first_of_cluster[cluster] : self._first_of_cluster[cluster + 1]].tolist()
        return members

    def is_open(self, place: int) -> bool:
        """Whether the cluster of a question is below its cap."""
        return place in self._open

    def count(self, clusters: Iterable[int], cap: int) -> None:
        """Count a group that uses these clusters, each named once, and close those that reach the cap."""
        for cluster in clusters:
            self.use[cluster] += 1
            if self.use[cluster] == cap:
                self._close(self.members(cluster))

    def closed_places(self) -> list[int]:
        """The places of questions that are not open, ascending."""
        return [place for place in range(len(self.questions)) if place not in self._open]

    def _close(self, places: Sequence[int]) -> None:
        for place in places:
            self._open.remove(place)
            self._open_slots.remove(int(self._slot_of[place]))
            text = int(self.texts[place])
            self._open_in_text[text] -= 1
            if not self._open_in_text[text]:
                self.closed_texts.append(text)

    def open_texts(self) -> NDArray[np.int64]:
        """The texts of open questions, ascending."""
        return np.flatnonzero(self._open_in_text)

    def open_places(self) -> NDArray[np.int64]:
        """The places of open questions, ascending."""
        return np.array(list(self.open_from_start()), np.int64)

    def open_from_start(self) -> Iterator[int]:
        """The places of open questions, ascending."""
        place = self._open.first(0)
        while place < len(self.questions):
            yield place
            place = self._open.first(place + 1)

    def open_of_texts(self, texts: Sequence[int], admits: Admits) -> Iterator[int]:
        """The places of open questions with one of these texts, ascending. `admits` is asked about a text when its first place comes."""
        heap = [(int(self._by_text[slot]), text, slot) for text in texts if (slot := self._next_slot(text, int(self._starts[text]))) >= 0]
        heapq.heapify(heap)
        while heap:
            place, text, slot = heap[0]
            if not admits(text, place):
                heapq.heappop(heap)
                continue
            yield place
            slot = self._next_slot(text, slot + 1)
            if slot < 0:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (int(self._by_text[slot]), text, slot))

    def _next_slot(self, text: int, slot: int) -> int:
        """The first open slot of a text from `slot` on; -1 if there is none."""
        found = self._open_slots.first(slot)
        return found if found < self._starts[text + 1] else -1


class Order(Protocol):
    """An order of a pool's questions for each target."""

    def prepare(self, texts: NDArray[np.int64]) -> None:
        """Get ready for targets with these texts, each named once; questions closed by now will not be needed."""

    def open_places(self, target: Question, text: int, admits: Admits) -> Iterator[int]:
        """The places of open questions in order, of texts that `admits` admits."""

    def keys(self, target: Question, text: int, places: Sequence[int]) -> Sequence[float]:
        """What places are ordered by, ties by place: a lower key comes first."""


class Nearness:
    """Orders the questions of a pool from nearest to farthest from a target, ties by id.

    Questions of targets that follow each other are searched together (`prepare`), among the texts that are then open; those closed in the
    meantime are left out of the order when it is made.
    """

    def __init__(self, pool: Pool, matcher: Matcher) -> None:
        self._pool, self._matcher = pool, matcher
        self._prepared: dict[int, Ranking] = {}
        self._make_search()

    def _make_search(self) -> None:
        among = self._pool.open_texts()
        self._search = self._matcher.search(among)
        self._left_out = len(self._pool.closed_texts)
        self._replaced = self._left_out + (1 - REBUILT) * len(among)  # number of closed texts above which the search is made anew

    def prepare(self, texts: NDArray[np.int64]) -> None:
        """Search for the neighbours of these texts, each named once."""
        closed = self._pool.closed_texts
        if len(closed) > self._replaced:
            del self._search  # before the next one is made
            self._make_search()
        elif len(closed) > self._left_out:
            self._search.leave_out(np.array(closed[self._left_out :]))
            self._left_out = len(closed)
        self._prepared = dict(zip(texts.tolist(), self._search.nearest(texts, FIRST), strict=True))

    def open_places(self, target: Question, text: int, admits: Admits) -> Iterator[int]:
        """The places of open questions from nearest to farthest, of texts that `admits` admits."""
        count, done = FIRST, 0
        ranking = self._prepared.get(text) or self._search.nearest(np.array([text]), count)[0]
        while True:
            for group in _ties(ranking, done):
                yield from self._pool.open_of_texts(group, admits)
            if ranking.complete:
                break
            count, done = MORE * count, len(ranking.texts)
            ranking = self._search.nearest(np.array([text]), count)[0]
        near = set(ranking.texts.tolist())
        for place in self._pool.open_from_start():  # the others are not similar at all
            other = int(self._pool.texts[place])
            if other not in near and admits(other, place):
                yield place

    def keys(self, target: Question, text: int, places: Sequence[int]) -> list[float]:
        """What places are ordered by: a lower key is nearer."""
        texts = self._pool.texts[list(places)]
        if len(places) < 64:
            return [-self._matcher.similarity(int(other), text) for other in texts]
        keys: list[float] = (-self._matcher.similarities(text)[texts]).tolist()
        return keys


def _ties(ranking: Ranking, start: int) -> Iterator[list[int]]:
    """Texts of a ranking from `start` on, those of equal similarity together."""
    texts, similarities = ranking.texts[start:].tolist(), ranking.similarities[start:]
    borders = [0, *(np.flatnonzero(np.diff(similarities)) + 1).tolist(), len(texts)]
    for begin, end in pairwise(borders):
        if end > begin:
            yield texts[begin:end]


class HashOrder:
    """Orders the questions of a pool by a hash of (seed, target, question)."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._hashes = np.array([hash64(question.id) for question in pool.questions], np.uint64)
        self._open_places = np.arange(len(pool.questions))
        self._open_hashes = self._hashes

    def prepare(self, texts: NDArray[np.int64]) -> None:
        """Leave out the questions that were closed since the last time."""
        self._open_places = self._pool.open_places()
        self._open_hashes = self._hashes[self._open_places]

    def open_places(self, target: Question, text: int, admits: Admits) -> Iterator[int]:
        """The places of open questions by ascending hash, of texts that `admits` admits."""
        hashes = mixed(self._open_hashes, hash64(self._seed, target.id))
        count, done = min(4 * FIRST, len(hashes)), 0
        while done < len(hashes):
            # Hashes are spread evenly: about `count` are below this bound.
            bound = np.uint64(min(2**64 - 1, count * 2**64 // len(hashes)))
            below = np.flatnonzero(hashes <= bound) if count < len(hashes) else np.arange(len(hashes))
            order = below[np.argsort(hashes[below], kind="stable")]
            for i in order[done:].tolist():
                place = int(self._open_places[i])
                if self._pool.is_open(place) and admits(int(self._pool.texts[place]), place):
                    yield place
            count, done = MORE * count, len(order)

    def keys(self, target: Question, text: int, places: Sequence[int]) -> list[int]:
        """What places are ordered by: a lower key is earlier."""
        keys: list[int] = mixed(self._hashes[list(places)], hash64(self._seed, target.id)).tolist()
        return keys
