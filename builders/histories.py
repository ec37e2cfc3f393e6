"""Which questions come before a target (docs/spec/iit.md#building-3-histories, #building-4-trie).

The histories of one target form a trie: the pattern `TV` has one first turn, and every longer history that begins with T shares it. Each
node of the trie takes the nearest question that the rules allow beside the target and the turns on its path.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np

from builders.fixed_order import YES_NO
from builders.matching import Matcher
from builders.pools import HashOrder, Nearness, Order, Pool
from builders.words import contains, words
from iit_bench.errors import UserError
from iit_bench.types import Modality, Question

NEAR_DUPLICATE = 0.95  # similarity of two T questions from which on they are one
MIN_ANSWER = 3  # characters; shorter answers occur by accident in any text
TOGETHER = 256  # targets whose neighbours are searched at once
MODALITIES: tuple[Modality, ...] = ("T", "V")


def trie(tiers: Sequence[str], last: Modality) -> list[str]:
    """Patterns of all non-empty prefixes of the histories of the tiers that end in `last`, parents first."""
    histories = [tier[:-1] for tier in tiers if tier.endswith(last)]
    nodes = {history[: i + 1] for history in histories for i in range(len(history))}
    return sorted(nodes, key=lambda node: (len(node), node))


def leaks(target: Question, words_of_candidate: tuple[str, ...]) -> bool:
    """Whether a question's words contain the target's gold answer; False for short answers and yes/no."""
    answer = target.answer_text.strip()
    if len(answer) < MIN_ANSWER or answer.casefold() in YES_NO:
        return False
    return contains(words_of_candidate, words(answer))


def linked(a: Question, b: Question) -> bool:
    """Whether two questions share a cluster or an image."""
    if a.cluster == b.cluster:
        return True
    return bool(a.images and b.images) and not {image.sha256 for image in a.images}.isdisjoint(image.sha256 for image in b.images)


@dataclass(frozen=True, slots=True)
class Group:
    """A target and what comes before it: the question of each node of its trie, in the order of `trie`."""

    target: Question
    nodes: tuple[Question, ...]


class Groups(Sequence[Group]):
    """Groups as numbers of their questions, so that no object per group is kept; each is made when it is asked for."""

    def __init__(self, groups: Iterable[Group], pool: Sequence[Question]) -> None:
        number = {id(question): i for i, question in enumerate(pool)}
        self._pool, self._numbers, self._starts = pool, array("i"), array("q", [0])  # target, nodes; where each group begins
        for group in groups:
            self._numbers.extend(number[id(question)] for question in (group.target, *group.nodes))
            self._starts.append(len(self._numbers))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Group: ...

    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...

    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        own = range(len(self))[index]
        target, *nodes = (self._pool[number] for number in self._numbers[self._starts[own] : self._starts[own + 1]])
        return Group(target, tuple(nodes))


class Rules:
    """Which questions may be in one dialogue.

    Args:
        matcher: knows the texts of `texts` (question text -> index).
    """

    def __init__(self, matcher: Matcher, texts: Mapping[str, int]) -> None:
        self._matcher, self._texts = matcher, texts
        self._words = lru_cache(maxsize=1 << 11)(words)

    def text(self, question: Question) -> int:
        """The index of a question's text in the matcher."""
        return self._texts[question.question]

    def may_precede(self, question: Question, target: Question) -> bool:
        """Whether the text of a question allows it before a target: it contains no answer, and is no near-duplicate."""
        return not leaks(target, self._words(question.question)) and not self._near_duplicates(question, target)

    def conflict(self, a: Question, b: Question) -> bool:
        """Whether two questions may not be in one dialogue."""
        return linked(a, b) or self._near_duplicates(a, b)

    def _near_duplicates(self, a: Question, b: Question) -> bool:
        if not a.modality == b.modality == "T":
            return False
        similarity = self._matcher.similarity(self.text(a), self.text(b))
        return similarity >= NEAR_DUPLICATE or self._words(a.question) == self._words(b.question)


class _Admission:
    """Which texts may come before a target; each is compared once."""

    def __init__(self, target: Question, pool: Pool, rules: Rules) -> None:
        self._target, self._pool, self._rules = target, pool, rules
        self._admitted: dict[int, bool] = {}

    def __call__(self, text: int, place: int) -> bool:
        """Whether a text, of the question at a place, may come before the target."""
        if text not in self._admitted:
            self._admitted[text] = self._rules.may_precede(self._pool.questions[place], self._target)
        return self._admitted[text]


class _Candidates:
    """The questions of one modality before one target, found as far as they are needed."""

    def __init__(self, target: Question, pool: Pool, order: Order, rules: Rules) -> None:
        self._target, self._pool, self._order, self._rules = target, pool, order, rules
        self._text, self._admits = rules.text(target), _Admission(target, pool, rules)
        self._below_cap = order.open_places(target, self._text, self._admits)
        self._found: list[int] = []  # of these, the first that may come before the target

    def nearest(self, earlier: Sequence[Question], used_here: Iterable[int]) -> int | None:
        """The place of the first candidate below its cap that fits behind `earlier`; if there is none, of a least used cluster's first.

        Args:
            used_here: clusters that this group uses already. A cluster counts once per group, so these are below their cap.

        Returns:
            None if no candidate fits.
        """
        fitting = [next((place for place in self._from_nearest() if self._fits(place, earlier)), None)]
        used = [place for cluster in used_here for place in self._pool.members(cluster)]
        fitting += [place for place in used if not self._pool.is_open(place) and self._fits_all(place, earlier)]
        if places := [place for place in fitting if place is not None]:
            return min(zip(self._keys(places), places, strict=True))[1]
        above_cap = [place for place in self._pool.closed_places() if self._fits_all(place, earlier)]
        uses = self._pool.use[self._pool.clusters[above_cap]].tolist()
        return min(zip(uses, self._keys(above_cap), above_cap, strict=True))[2] if above_cap else None

    def _from_nearest(self) -> Iterator[int]:
        """The places below their cap that may come before the target; what was found for one node serves the next."""
        yield from self._found
        for place in self._below_cap:
            if not linked(self._pool.questions[place], self._target):
                self._found.append(place)
                yield place

    def _fits_all(self, place: int, earlier: Sequence[Question]) -> bool:
        admitted = self._admits(int(self._pool.texts[place]), place) and not linked(self._pool.questions[place], self._target)
        return admitted and self._fits(place, earlier)

    def _fits(self, place: int, earlier: Iterable[Question]) -> bool:
        return not any(self._rules.conflict(self._pool.questions[place], turn) for turn in earlier)

    def _keys(self, places: Sequence[int]) -> Sequence[float]:
        """What places are ordered by, then by their own order; nothing to compare where there is one."""
        return self._order.keys(self._target, self._text, places) if len(places) > 1 else [0] * len(places)


class HistoryBuilder:
    """Finds the histories of one target after another, and counts how often each question is used.

    Args:
        questions: every usable question of every source.
        matcher: knows the texts of `texts` (question text -> index).
        seed: orders candidates if the matcher does not rank them.
        cap: modality -> the number of groups in which the questions of one cluster may be history. Where every question that the rules
            allow is of a cluster at its cap, one of a least used cluster is taken.
    """

    def __init__(
        self, questions: Iterable[Question], matcher: Matcher, texts: Mapping[str, int], *, seed: int, cap: Mapping[Modality, int]
    ) -> None:
        everyone = sorted(questions, key=lambda question: question.id)
        self._rules, self._cap = Rules(matcher, texts), cap
        self._pools = {m: Pool([question for question in everyone if question.modality == m], texts) for m in MODALITIES}
        self._orders: dict[Modality, Order] = {
            m: Nearness(pool, matcher) if matcher.ranks else HashOrder(pool, seed) for m, pool in self._pools.items()
        }

    def uses(self) -> dict[Modality, list[int]]:
        """Modality -> for each cluster that is history, the number of groups in which it is."""
        return {modality: pool.use[pool.use > 0].tolist() for modality, pool in self._pools.items()}

    def groups(self, targets: Sequence[Question], tiers: Sequence[str]) -> Iterator[Group]:
        """The group of each target, in the order of the targets.

        Raises:
            UserError: the rules allow no further question.
        """
        nodes = {modality: trie(tiers, modality) for modality in MODALITIES}
        for start in range(0, len(targets), TOGETHER):
            together = targets[start : start + TOGETHER]
            for modality, order in self._orders.items():
                asking = [target for target in together if any(node[-1] == modality for node in nodes[target.modality])]
                order.prepare(np.unique(np.array([self._rules.text(target) for target in asking], np.int64)))
            for target in together:
                yield self._group(target, nodes[target.modality])

    def _group(self, target: Question, nodes: Sequence[str]) -> Group:
        candidates = {m: _Candidates(target, self._pools[m], self._orders[m], self._rules) for m in MODALITIES}
        path: dict[str, tuple[Question, ...]] = {"": ()}
        used_here: dict[Modality, list[int]] = {modality: [] for modality in MODALITIES}  # clusters, each once
        for node in nodes:
            modality, earlier = _modality(node[-1]), path[node[:-1]]
            pool, used = self._pools[modality], used_here[modality]
            nearest = candidates[modality].nearest(earlier, used)
            if nearest is None:
                raise _exhausted(target, node, len(pool.questions))
            path[node] = (*earlier, pool.questions[nearest])
            if (cluster := int(pool.clusters[nearest])) not in used:
                used.append(cluster)
        for modality, used in used_here.items():
            self._pools[modality].count(used, self._cap[modality])
        return Group(target, tuple(path[node][-1] for node in nodes))


def use_cap(targets: Sequence[Question], pool: Sequence[Question], tiers: Sequence[str]) -> dict[Modality, int]:
    """Modality -> the number of groups in which the questions of one cluster may be history: twice an even share, at least 4."""
    slots: dict[Modality, int] = defaultdict(int)
    for target in targets:
        for node in trie(tiers, target.modality):
            slots[_modality(node[-1])] += 1
    clusters = Counter(modality for modality, _ in {(question.modality, question.cluster) for question in pool})
    return {m: max(4, 2 * -(-slots[m] // max(1, clusters[m]))) for m in MODALITIES}


def _exhausted(target: Question, node: str, candidates: int) -> UserError:
    kind = "text" if node[-1] == "T" else "visual"
    return UserError(
        f"no {kind} question is left to precede target {target.id!r} in tier {node + target.modality!r} (of {candidates} candidates); "
        "use larger sources, a smaller --size or shorter --tiers"
    )


def _modality(letter: str) -> Modality:
    return "T" if letter == "T" else "V"
