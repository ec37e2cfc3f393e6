"""Handwritten digits (those of scikit-learn's `load_digits`, the test part of UCI optdigits: 1,797 scans, 8 x 8) and questions about them.

A question is about one scan (which digit, odd or even) or about two (which is larger, their sum) and then has two images. The split is by
scan: `test` and `dev` have scans of their own, `train` has the rest. The package does not state the writers, so one writer's scans may be
in several splits.

For evaluation the scans of a split are put in pairs, each scan in one pair. The pair is the cluster of all questions about either scan, so
no question depends on a scan of another cluster (docs/spec/iit.md#words).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from iit_bench.data.choosing import four_choices, key, one_of
from iit_bench.data.png import png
from iit_bench.errors import UserError
from iit_bench.types import Image, Question

Split = Literal["train", "dev", "test"]
Kind = Literal["digit", "odd or even", "larger", "sum"]
SOURCE = "digits"
SCANS = 1797
HELD_OUT = {"test": 400, "dev": 300}  # scans
SIZE = 64  # pixels of a side
SCALE = SIZE // 8

DIGITS = tuple("0123456789")
PARITY = ("even", "odd")
PLACE = ("first", "second")
ONE_SCAN: tuple[Kind, ...] = ("digit", "odd or even")
TWO_SCANS: tuple[Kind, ...] = ("larger", "sum")
WORDINGS: dict[Kind, tuple[str, ...]] = {
    "digit": ("Which digit is this?", "What digit is written here?", "Read the handwritten digit.", "Which number from 0 to 9 do you see?"),
    "odd or even": (
        "Is this digit odd or even?",
        "Is the handwritten number even or odd?",
        "Odd or even: which is the digit that you see?",
        "Does the picture show an even or an odd digit?",
    ),
    "larger": (
        "Which picture shows the larger digit, the first or the second?",
        "Of the two digits, is the first or the second larger?",
        "Where is the higher number written, in the first or the second picture?",
        "Which of the two pictures has the greater digit, first or second?",
    ),
    "sum": (
        "What is the sum of the two digits?",
        "Add the two handwritten digits.",
        "How much are both digits together?",
        "What do you get when you add the two numbers?",
    ),
}


@dataclass(frozen=True)
class Scan:
    """One handwritten digit."""

    number: int  # position in the package's table
    digit: int  # 0 … 9


@dataclass(frozen=True)
class Digits:
    """Questions of one split, and how many were left out for which reason."""

    questions: tuple[Question, ...]
    left_out: dict[str, int]


def table_bytes() -> bytes:
    """Bytes of the package's table (for its sha256). The package is not imported for it, which takes a second.

    Raises:
        UserError: scikit-learn is not installed, or has no such table.
    """
    spec = find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file is None or not file.is_file():
        raise UserError("the handwritten digits of scikit-learn are not installed: pip install scikit-learn")
    return file.read_bytes()


@cache
def scans(split: Split) -> tuple[Scan, ...]:
    """The scans of a split, in the order of a hash of their numbers."""
    _, labels = _table()
    order = sorted(range(SCANS), key=lambda number: key(SOURCE, "split", str(number)))
    test, dev = HELD_OUT["test"], HELD_OUT["dev"]
    part = {"test": order[:test], "dev": order[test : test + dev], "train": order[test + dev :]}[split]
    return tuple(Scan(number, int(labels[number])) for number in part)


@cache
def image(number: int) -> Image:
    """A scan as a PNG file, 64 x 64, dark on white; enlarged by linear interpolation in integers, so its bytes are equal everywhere."""
    ink, _ = _table()
    weights = _enlarging()  # [64, 8], in 16ths
    large = weights @ ink[number].astype(np.int64) @ weights.T  # [64, 64], 0 … 16 · 16 · 16
    return Image(png((255 - (large * 255 + 2048) // 4096).astype(np.uint8)))


def pairs(split: Split) -> list[tuple[Scan, Scan]]:
    """The scans of a split, two by two; of an odd number the last is in none."""
    some = scans(split)
    return list(zip(some[::2], some[1::2], strict=False))


def answer(kind: Kind, digits: Sequence[int]) -> str | None:
    """The answer to a question of this kind about `digits`; None where there is none (which of two equal digits is larger)."""
    if kind == "digit":
        return str(digits[0])
    if kind == "odd or even":
        return PARITY[digits[0] % 2]
    if kind == "sum":
        return str(sum(digits))
    return None if digits[0] == digits[1] else PLACE[digits[0] < digits[1]]


def choices(kind: Kind, gold: str, name: str) -> tuple[str, ...]:
    """The choices of a question: all ten digits, both parities, both places, or four sums.

    Args:
        kind: of the question.
        gold: its answer.
        name: what the choice of sums is drawn by.

    Wrong sums are those of digits that a hash draws: an answer is offered as often as it is gold, in proportion.
    """
    if kind != "sum":
        return {"digit": DIGITS, "odd or even": PARITY}.get(kind, PLACE)
    drawn = (str(one_of(range(10), name, str(i), "a") + one_of(range(10), name, str(i), "b")) for i in range(1000))
    chosen = four_choices(gold, drawn, name)
    assert chosen is not None  # of a thousand sums, three are no prefix of each other
    return chosen


def question(kind: Kind, shown: Sequence[Scan], cluster: str = "") -> Question | None:
    """A question about one scan or two, its wording chosen by hash; None where it has no answer."""
    gold = answer(kind, [scan.digit for scan in shown])
    if gold is None:
        return None
    name = _name(kind, shown)
    offered = choices(kind, gold, name)
    return Question(
        id=name,
        modality="V",
        source=SOURCE,
        subject=kind,
        cluster=cluster,
        language="en",
        question=one_of(WORDINGS[kind], name, "wording"),
        images=tuple(image(scan.number) for scan in shown),
        choices=offered,
        answer=offered.index(gold),
        answer_text=gold,
    )


@cache
def build(split: Split) -> Digits:
    """The questions about a split's pairs: four about single scans, two about both.

    Left out: which of two equal digits is larger.
    """
    made = [question(kind, shown, f"{SOURCE}/{first.number}-{second.number}") for kind, shown, (first, second) in _asked(split)]
    return Digits(tuple(one for one in made if one), {"equal digits, none is larger": made.count(None)})


def texts(split: Split) -> list[tuple[str, str]]:
    """(question, answer) of what `build` asks, without pictures."""
    asked = [(kind, _name(kind, shown), answer(kind, [scan.digit for scan in shown])) for kind, shown, _ in _asked(split)]
    return [(one_of(WORDINGS[kind], name, "wording"), gold) for kind, name, gold in asked if gold is not None]


def _asked(split: Split) -> Iterator[tuple[Kind, tuple[Scan, ...], tuple[Scan, Scan]]]:
    """(kind, scans shown, their pair)."""
    for pair in pairs(split):
        for scan in pair:
            for kind in ONE_SCAN:
                yield kind, (scan,), pair
        for kind in TWO_SCANS:
            yield kind, pair, pair


def _name(kind: Kind, shown: Sequence[Scan]) -> str:
    return f"{SOURCE}/{kind.replace(' ', '-')}/{'-'.join(str(scan.number) for scan in shown)}"


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Ink uint8 [1797, 8, 8], 0 … 16, and labels [1797]."""
    lines = gzip.decompress(table_bytes()).decode("ascii").splitlines()
    table = np.array([[int(float(cell)) for cell in line.split(",")] for line in lines], np.int64)  # [1797, 65]
    return table[:, :64].reshape(-1, 8, 8).astype(np.uint8), table[:, 64]


@cache
def _enlarging() -> np.ndarray:
    """Weights of the 8 pixels in each of the 64, in 16ths: linear between the centres of pixels, the border repeated."""
    weights = np.zeros((SIZE, 8), np.int64)
    for out in range(SIZE):
        place = 2 * out + 1 - SCALE  # in 16ths of a pixel, from the centre of the first
        low = place // (2 * SCALE)
        rest = place - low * 2 * SCALE
        for pixel, weight in ((low, 2 * SCALE - rest), (low + 1, rest)):
            weights[out, min(max(pixel, 0), 7)] += weight
    return weights
