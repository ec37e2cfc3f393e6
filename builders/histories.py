"""Which questions come before a target (docs/spec/iit.md#building-3-histories, #building-4-trie).

The histories of one target form a trie: the pattern `TV` has one first turn, and every longer history that begins with T shares it. Each
node of the trie takes the nearest question that the rules allow beside the target and the turns on its path.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builders.fixed_order import YES_NO
from builders.matching import Matcher
from builders.words import contains, hash64, mixed, words
from iit_bench.errors import UserError
from iit_bench.types import Dialogue, Modality, Question, visual_share

HistoryCluster = tuple[Modality, str]  # modality of the questions, and their cluster

NEAR_DUPLICATE = 0.95  # similarity of two T questions from which on they are one
MIN_ANSWER = 3  # characters; shorter answers occur by accident in any text
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


@dataclass
class _Candidate:
    """A question with what the rules compare, computed once."""

    question: Question
    text: int  # index of its text in the matcher
    words: tuple[str, ...]
    images: frozenset[str]  # sha256


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
        self, questions: Sequence[Question], matcher: Matcher, texts: Mapping[str, int], *, seed: int, cap: Mapping[Modality, int]
    ) -> None:
        ordered = sorted(questions, key=lambda question: question.id)
        everyone = [_Candidate(q, texts[q.question], words(q.question), frozenset(image.sha256 for image in q.images)) for q in ordered]
        self._by_id = {candidate.question.id: candidate for candidate in everyone}
        self._pool = {m: [c for c in everyone if c.question.modality == m] for m in MODALITIES}
        self._pool_texts = {m: np.array([c.text for c in pool], np.int64) for m, pool in self._pool.items()}
        self._pool_hashes = {m: np.array([hash64(c.question.id) for c in pool], np.uint64) for m, pool in self._pool.items()}
        self._matcher, self._seed, self._cap = matcher, seed, cap
        self._similar: dict[int, NDArray[np.float64]] = {}  # text -> its similarities; for the current group
        self._of_cluster: dict[HistoryCluster, list[int]] = defaultdict(list)  # -> its questions, as indices into their modality's pool
        for modality, pool in self._pool.items():
            for i, candidate in enumerate(pool):
                self._of_cluster[modality, candidate.question.cluster].append(i)
        self._open = {m: np.ones(len(pool), np.bool_) for m, pool in self._pool.items()}  # questions of clusters below their cap
        self.use: Counter[HistoryCluster] = Counter()  # -> groups in which it is history

    def dialogues(self, target: Question, tiers: Sequence[str]) -> list[Dialogue]:
        """One dialogue for each of `tiers` that ends in the target's modality, in the order of `tiers`.

        Raises:
            UserError: the rules allow no further question.
        """
        self._similar = {}
        target_candidate = self._by_id[target.id]
        self._orders = {m: self._order(target_candidate, m) for m in MODALITIES}
        path: dict[str, tuple[_Candidate, ...]] = {"": ()}
        used_here: set[HistoryCluster] = set()
        for node in trie(tiers, target.modality):
            earlier = path[node[:-1]]
            modality = _modality(node[-1])
            nearest = self._nearest(target_candidate, earlier, modality, used_here)
            if nearest is None:
                raise _exhausted(target, node, len(self._pool[modality]))
            path[node] = (*earlier, nearest)
            used_here.add((modality, nearest.question.cluster))
        self._count(used_here)
        return [_dialogue(tier, path[tier[:-1]], target) for tier in tiers if tier.endswith(target.modality)]

    def _count(self, used_here: set[HistoryCluster]) -> None:
        """Add a group to the use of its history clusters, and close those that reach their cap."""
        self.use.update(used_here)
        for cluster in used_here:
            if self.use[cluster] >= self._cap[cluster[0]]:
                self._open[cluster[0]][self._of_cluster[cluster]] = False

    def _order(self, target: _Candidate, modality: Modality) -> NDArray[np.intp]:
        """Indices into a modality's pool from nearest to farthest, ties by id (the pool's order); by hash if the matcher does not rank."""
        if not self._matcher.ranks:
            return np.argsort(mixed(self._pool_hashes[modality], hash64(self._seed, target.question.id)), kind="stable")
        return np.argsort(-self._similarities(target.text)[self._pool_texts[modality]], kind="stable")

    def _nearest(
        self, target: _Candidate, earlier: tuple[_Candidate, ...], modality: Modality, used_here: set[HistoryCluster]
    ) -> _Candidate | None:
        """The first candidate below its cap that fits; if there is none, the first of a least used cluster; None if no candidate fits."""
        order, pool, turns = self._orders[modality], self._pool[modality], (target, *earlier)
        below_cap = self._open[modality].copy()
        for cluster in used_here:
            if cluster[0] == modality:
                below_cap[self._of_cluster[cluster]] = True  # a cluster counts once per group
        fits = (pool[i] for i in order[below_cap[order]] if self._fits(pool[i], turns))
        if (nearest := next(fits, None)) is not None:
            return nearest
        above_cap = (pool[i] for i in order[~below_cap[order]] if self._fits(pool[i], turns))
        return min(above_cap, key=lambda candidate: self.use[modality, candidate.question.cluster], default=None)

    def _fits(self, candidate: _Candidate, turns: tuple[_Candidate, ...]) -> bool:
        """Whether a candidate conflicts with no turn and does not contain the answer of the target, the first of `turns`."""
        return not any(self._conflict(candidate, turn) for turn in turns) and not leaks(turns[0].question, candidate.words)

    def _conflict(self, a: _Candidate, b: _Candidate) -> bool:
        """Whether two questions may not be in one dialogue."""
        if a.question.cluster == b.question.cluster or a.images & b.images:
            return True
        if a.question.modality == b.question.modality == "T":
            return a.words == b.words or bool(self._similarities(b.text)[a.text] >= NEAR_DUPLICATE)
        return False

    def _similarities(self, text: int) -> NDArray[np.float64]:
        if text not in self._similar:
            self._similar[text] = self._matcher.similarities(text)
        return self._similar[text]


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


def _dialogue(tier: str, history: tuple[_Candidate, ...], target: Question) -> Dialogue:
    turns = (*(candidate.question.id for candidate in history), target.id)
    return Dialogue(id=f"{tier}:{target.id}", tier=tier, visual_share=visual_share(tier), group=target.id, turns=turns, target=target.id)
