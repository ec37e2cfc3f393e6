"""What visual targets need to be answered right: words, image, or both (docs/spec/iit.md#what-items-need); reads run folders only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from evaluators import statistics
from evaluators.arms.figures import arm_run, pairs_of
from evaluators.iit.columns import Turns
from evaluators.iit.results import Pairs
from iit_bench.storage.runs import IitRun
from iit_bench.types import Figure

Need = Literal["text", "image", "either", "both", "unsolved"]
NEEDS: Mapping[Need, str] = {
    "text": "text is enough",
    "image": "image is enough",
    "either": "either is enough",
    "both": "both are needed",
    "unsolved": "not solved",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One target of one run, with both and with one of image and words."""

    dialogue: str
    question: str
    right: bool  # with both
    blind: bool  # without its image
    wordless: bool  # without its words

    @property
    def need(self) -> Need:
        """What it needs."""
        if self.blind or self.wordless:
            return "either" if self.blind and self.wordless else "text" if self.blind else "image"
        return "both" if self.right else "unsolved"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the visual targets of one run need. A figure whose arm was not asked has no value and a `note`."""

    chance: float  # mean 1/k over the items of arm blind
    blind: Figure  # accuracy of arm blind
    solvable_blind: Figure  # (blind - chance) / (1 - chance)
    solvable_wordless: Figure  # the same of arm wordless
    shares: Mapping[Need, Figure]  # of the items that the run and both arms finished; empty where one arm is not there
    answers: Sequence[Answer]  # those items


@dataclass(frozen=True, kw_only=True)
class ItemNeed:
    """One question over all models and tiers."""

    question: str
    dialogues: tuple[tuple[int, str], ...]  # (number of the run, dialogue) of its answers
    right: int  # answers that are right with both,
    blind: int  # without the image,
    wordless: int  # without the words

    @property
    def n(self) -> int:
        """Its answers."""
        return len(self.dialogues)

    @property
    def rank(self) -> float:
        """Share right without the image minus share right without the words."""
        return (self.blind - self.wordless) / self.n


def needs_of(run: IitRun, turns: Turns) -> Needs | None:
    """What the visual targets of a run need; None where its arm `blind` is not there, not finished, or of another run.

    Args:
        run: a run.
        turns: its scored turns.
    """
    blind = arm_run(run, "blind")
    if blind is None:
        return None
    without_image = _pairs(turns, blind, "blind")
    if not len(without_image.a):
        return None
    acc, chance, solvable = _solvable(without_image)
    wordless = arm_run(run, "wordless")
    without_words = None if wordless is None else _pairs(turns, wordless, "wordless")
    if without_words is None or not len(without_words.a):
        missing = Figure(None, note="the run was not asked without its words (arm wordless)")
        return Needs(chance=chance, blind=acc, solvable_blind=solvable, solvable_wordless=missing, shares={}, answers=())
    both = _of_both(without_image, without_words)
    answers = _answers(without_image, without_words)
    by_need = [answer.need for answer in answers]
    dependence = both.dependence()
    shares = {need: statistics.mean([one == need for one in by_need], dependence) for need in get_args(Need)}
    return Needs(
        chance=chance,
        blind=acc,
        solvable_blind=solvable,
        solvable_wordless=_solvable(without_words)[2],
        shares=shares,
        answers=answers,
    )


def ranked(of_runs: Sequence[Sequence[Answer]]) -> list[ItemNeed]:
    """The questions of several runs, those that need their image least first; ties by id."""
    found: dict[str, list[tuple[int, Answer]]] = {}
    for number, answers in enumerate(of_runs):
        for answer in answers:
            found.setdefault(answer.question, []).append((number, answer))
    items = [
        ItemNeed(
            question=question,
            dialogues=tuple((number, answer.dialogue) for number, answer in answers),
            right=sum(answer.right for _, answer in answers),
            blind=sum(answer.blind for _, answer in answers),
            wordless=sum(answer.wordless for _, answer in answers),
        )
        for question, answers in found.items()
    ]
    return sorted(items, key=lambda item: (-item.rank, -item.blind / item.n, item.question))


def _pairs(turns: Turns, arm: IitRun, name: str) -> Pairs:
    """Targets that the run and its arm finished, tier after tier."""
    found = list(pairs_of(turns, Turns.of_run(arm), name).values())
    empty = turns.take(np.zeros(0, dtype=np.int64))
    return Pairs.concat(found).finished() if found else Pairs(empty, empty)


def _solvable(pairs: Pairs) -> tuple[Figure, float, Figure]:
    """Accuracy of the arm, chance, and the share that the accuracy above guessing stands for."""
    acc = statistics.mean(pairs.b.acc, pairs.dependence())
    chance = float(np.mean(pairs.b.chance))
    return acc, chance, statistics.chance_corrected(acc, chance)


def _of_both(without_image: Pairs, without_words: Pairs) -> Pairs:
    """The pairs of the first whose dialogue the second has too."""
    there = set(_dialogues(without_words))
    kept = np.array([dialogue in there for dialogue in _dialogues(without_image)], dtype=np.bool_)
    return Pairs(without_image.a.take(kept), without_image.b.take(kept))


def _answers(without_image: Pairs, without_words: Pairs) -> tuple[Answer, ...]:
    kept = _of_both(without_image, without_words)
    wordless = dict(zip(_dialogues(without_words), without_words.b.acc.tolist(), strict=True))
    questions = [kept.a.question.names[code] for code in kept.a.question.code]
    rows = zip(_dialogues(kept), questions, kept.a.acc.tolist(), kept.b.acc.tolist(), strict=True)
    return tuple(
        Answer(dialogue=dialogue, question=question, right=right, blind=blind, wordless=wordless[dialogue])
        for dialogue, question, right, blind in rows
    )


def _dialogues(pairs: Pairs) -> list[str]:
    return [pairs.a.dialogue.names[code] for code in pairs.a.dialogue.code]
