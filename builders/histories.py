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

from builders.choices import YES_NO
from builders.matching import Matcher
from builders.words import contains, hash64, mixed, words
from iit_bench.errors import UserError
from iit_bench.types import Dialogue, Modality, Question, visual_share

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
        cap: modality -> the largest number of groups in which one question may be history.
    """

    def __init__(
        self, questions: Sequence[Question], matcher: Matcher, texts: Mapping[str, int], *, seed: int, cap: Mapping[Modality, int]
    ) -> None:
        ordered = sorted(questions, key=lambda question: question.id)
        self._all = [_Candidate(q, texts[q.question], words(q.question), frozenset(image.sha256 for image in q.images)) for q in ordered]
        self._by_id = {candidate.question.id: candidate for candidate in self._all}
        self._pool = {m: [c for c in self._all if c.question.modality == m] for m in MODALITIES}
        self._pool_texts = {m: np.array([c.text for c in pool], np.int64) for m, pool in self._pool.items()}
        self._pool_hashes = {m: np.array([hash64(c.question.id) for c in pool], np.uint64) for m, pool in self._pool.items()}
        self._matcher, self._seed, self._cap = matcher, seed, cap
        self._similar: dict[int, NDArray[np.float64]] = {}  # text -> its similarities; for the current group
        self.use: Counter[str] = Counter()  # question id -> groups in which it is history

    def dialogues(self, target: Question, tiers: Sequence[str]) -> list[Dialogue]:
        """One dialogue for each of `tiers` that ends in the target's modality, in the order of `tiers`.

        Raises:
            UserError: the rules allow no further question.
        """
        self._similar = {}
        target_candidate = self._by_id[target.id]
        self._orders = {m: self._order(target_candidate, m) for m in MODALITIES}
        path: dict[str, tuple[_Candidate, ...]] = {"": ()}
        used_here: set[str] = set()
        for node in trie(tiers, target.modality):
            earlier = path[node[:-1]]
            modality = _modality(node[-1])
            nearest = self._nearest(target_candidate, earlier, modality, used_here)
            if nearest is None:
                raise _exhausted(target, node, len(self._pool[modality]))
            path[node] = (*earlier, nearest)
            used_here.add(nearest.question.id)
        self.use.update(used_here)
        return [_dialogue(tier, path[tier[:-1]], target) for tier in tiers if tier.endswith(target.modality)]

    def _order(self, target: _Candidate, modality: Modality) -> NDArray[np.intp]:
        """Indices into a modality's pool from nearest to farthest, ties by id (the pool's order); by hash if the matcher does not rank."""
        if not self._matcher.ranks:
            return np.argsort(mixed(self._pool_hashes[modality], hash64(self._seed, target.question.id)), kind="stable")
        return np.argsort(-self._similarities(target.text)[self._pool_texts[modality]], kind="stable")

    def _nearest(self, target: _Candidate, earlier: tuple[_Candidate, ...], modality: Modality, used_here: set[str]) -> _Candidate | None:
        """The first candidate that is below its cap, conflicts with no other turn and does not contain the target's answer."""
        for i in self._orders[modality]:
            candidate = self._pool[modality][i]
            question_id = candidate.question.id
            if self.use[question_id] >= self._cap[modality] and question_id not in used_here:
                continue
            if any(self._conflict(candidate, turn) for turn in (target, *earlier)) or leaks(target.question, candidate.words):
                continue
            return candidate
        return None

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
    """Modality -> the largest number of groups in which one question may be history: twice an even spread, at least 4."""
    slots: dict[Modality, int] = defaultdict(int)
    for target in targets:
        for node in trie(tiers, target.modality):
            slots[_modality(node[-1])] += 1
    sizes = Counter(question.modality for question in pool)
    return {m: max(4, 2 * -(-slots[m] // max(1, sizes[m]))) for m in MODALITIES}


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
