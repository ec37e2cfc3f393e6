"""What a source takes and returns (docs/spec/iit.md#building-1-sources, #building-9-records-left-out).

A source is a function `load(name, options) -> SourceQuestions`. It reads the evaluation split and returns questions in source order with
their choices in source order; shuffling, checking, sampling and matching are the builder's work. A record that cannot become a `Question`
(unreadable image, no answer) is left out and counted by reason; nothing is dropped without being counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from iit_bench.registry import SOURCE_GROUP, SOURCES, list_sources, match, resolve
from iit_bench.types import Image, Question

TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")  # of files that are sources without a prefix


@dataclass(frozen=True)
class SourceOptions:
    """Options of every source."""

    data_root: Path | None = None  # folder with local snapshots, read instead of the Hub or the maker's server
    include_path: Path | None = None  # folder with tasks in lm-eval's format
    columns: tuple[str, ...] = ()  # of tables: [SOURCE:]FIELD=COLUMN,… (sources/columns.py)
    answers: tuple[str, ...] = ()  # of tables: [SOURCE:]READING (sources/answers.py); () = auto
    language: str = "en"  # of rows in Latin script that state none


@dataclass(frozen=True)
class AnswerCounts:
    """How often each text is the gold answer, overall and per question string: what the majority and question-prior rules are fitted on."""

    overall: Mapping[str, int] = field(default_factory=dict)
    by_question: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @staticmethod
    def of(pairs: Iterable[tuple[str, str]]) -> AnswerCounts:
        """Count (question string, answer text) pairs; question strings are compared as `question_key` writes them."""
        overall: Counter[str] = Counter()
        by_question: dict[str, Counter[str]] = {}
        for question, answer in pairs:
            overall[answer] += 1
            by_question.setdefault(question_key(question), Counter())[answer] += 1
        return AnswerCounts(overall, by_question)


@dataclass(frozen=True, kw_only=True)
class SourceQuestions:
    """The evaluation questions of one source and their origin."""

    name: str  # as in the command, e.g. "lm-eval:openbookqa"
    questions: tuple[Question, ...]  # evaluation split, source order, choices unshuffled
    split: str  # name of the evaluation split, e.g. "test"
    licence: str  # SPDX id if there is one, else the maker's words; "unknown" if nothing is known
    origin: str  # package, Hub id or file the data came from
    revision: str  # version, commit or "" if there is none
    sha256: str  # of the bytes that were read
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason → records
    answers: str = ""  # of tables: how answers name the right choice (sources/answers.py); "" where the source defines it
    train_answers: AnswerCounts | None = None  # of the source's train split; None = it has none


class StoredImage(Image):
    """An image that stays in its source's file: hashed and checked once, and read again whenever its bytes are used.

    Lets a table of many gigabytes be sampled without holding its images in memory.
    """

    def __init__(self, sha256: str, read: Callable[[], bytes]) -> None:
        # The base is frozen; its cached `sha256` is an ordinary entry of __dict__.
        self.__dict__["sha256"] = sha256
        self.__dict__["_read"] = read

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The file's bytes, read anew."""
        read: Callable[[], bytes] = self.__dict__["_read"]
        return read()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)


def question_key(text: str) -> str:
    """A question string as the question prior compares it, without differences of case and spacing."""
    return " ".join(text.casefold().split())


def load_source(name: str, options: SourceOptions) -> SourceQuestions:
    """The evaluation questions of the source called `name`; a path with one of TABLE_SUFFIXES is a table (sources/table.py).

    Raises:
        UserError: no source has this name, or the source rejects it (unknown task, missing files, unsupported kind of task).
    """
    full_name = f"table:{name}" if is_table(name) and match(name, SOURCES) is None else name
    source: SourceQuestions = resolve(full_name, "source", SOURCES, SOURCE_GROUP)(name, options)
    return source


def is_table(name: str) -> bool:
    """Whether a source is a file or a data set of the Hub with named columns."""
    known = match(name, list_sources())
    return known in ("table:", "hub:") if known else Path(name).suffix.casefold() in TABLE_SUFFIXES
