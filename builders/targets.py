"""Samples the target questions (docs/spec/iit.md#building-2-targets).

Each source gives the same number, split in proportion to its subjects by largest remainder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from builders.words import hashed
from iit_bench.errors import UserError
from iit_bench.types import Question


def apportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Share `total` in proportion to integer `weights` by largest remainder (Hamilton); equal remainders in the order of `weights`.

    No share exceeds `total * weight / sum` rounded up.
    """
    weight_sum = sum(weights.values())
    exact = {key: Fraction(total * weight, weight_sum) for key, weight in weights.items()}
    shares = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(weights, key=lambda key: shares[key] - exact[key])  # stable: ties keep the order of `weights`
    for key in by_remainder[: total - sum(shares.values())]:
        shares[key] += 1
    return shares


def sample_targets(pools: Mapping[str, Sequence[Question]], size: int, seed: int, kind: str) -> list[Question]:
    """`size` targets of one modality out of the sources' usable questions, in the order of the sources, then by id.

    Args:
        pools: source name -> its questions.
        kind: "text" or "visual", for the error message.

    Raises:
        UserError: a source has fewer usable questions than its share.
    """
    shares = apportion(size, dict.fromkeys(pools, 1))
    largest = min(map(len, pools.values())) * len(pools)
    chosen: list[Question] = []
    for name, questions in pools.items():
        if len(questions) < shares[name]:
            raise UserError(
                f"source {name!r} has {len(questions)} usable questions, but --size {size} needs {shares[name]} {kind} targets from it; "
                f"reduce it to at most {largest}, or name other sources"
            )
        chosen += sorted(_by_subject(questions, shares[name], seed), key=lambda question: question.id)
    return chosen


def _by_subject(questions: Sequence[Question], size: int, seed: int) -> list[Question]:
    subjects: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        subjects[question.subject].append(question)
    shares = apportion(size, {subject: len(subjects[subject]) for subject in sorted(subjects)})
    chosen: list[Question] = []
    for subject, share in shares.items():
        chosen += sorted(subjects[subject], key=lambda question: hashed("target", seed, question.id))[:share]
    return chosen
