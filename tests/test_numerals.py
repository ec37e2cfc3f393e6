"""Figures are written in one way, whoever shows them."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from iit_bench.numerals import fixed, in_percent, interval, p_value, percent, points
from iit_bench.types import Figure
from reports import cells

ROOT = Path(__file__).parents[1]
SHOWS = [path for room in ("reports", "evaluators", "iit_bench", "docs") for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.938, ("93.8", "93.8%", "+93.8")),
        (-0.051, ("-5.1", "-5.1%", "-5.1")),
        (-1e-16, ("0.0", "0.0%", "0.0")),  # rounding of floats
        (0.0, ("0.0", "0.0%", "0.0")),
        (-0.0001, ("-0.01", "-0.01%", "-0.01")),
        (0.0004, ("0.04", "0.04%", "+0.04")),
        (0.00049, ("0.05", "0.05%", "+0.05")),
        (0.9997, ("99.97", "99.97%", "+99.97")),
        (1.0, ("100.0", "100.0%", "+100.0")),
        (1e-8, ("<0.0001", "<0.0001%", "<+0.0001")),
        (1 - 1e-8, (">99.9999", ">99.9999%", ">+99.9999")),
    ],
)
def test_one_decimal_no_sign_at_zero_and_no_border_that_is_not_reached(value, written):
    assert (percent(value), in_percent(value), points(value)) == written
    assert (cells.percent(value), cells.in_percent(value), cells.points(value)) == tuple(text.replace("-", cells.MINUS) for text in written)


def test_an_interval_or_nothing():
    assert interval(Figure(0.05, low=-0.01, high=0.11, n=9)) == "[-1.0, +11.0]"
    assert interval(Figure(0.05, low=-0.00001, high=0.11, n=9), sign="") == "[-0.001, 11.0]"
    assert interval(Figure(0.05, n=9)) == ""


@pytest.mark.parametrize(
    ("p", "written"),
    [
        (None, "–"),
        (0.0004, "<0.001"),
        (0.04, "0.040"),
        (0.0496, "0.0496"),
        (0.05, "0.050"),
        (0.0504, "0.0504"),
        (0.9996, "0.9996"),
        (1.0, "1.000"),
    ],
)
def test_a_p_value_is_not_rounded_onto_the_level_that_decides(p: float | None, written: str) -> None:
    assert p_value(p) == written
    assert cells.p_value(p) == ("not available" if p is None else written.replace("<", "< "))


def test_a_number_reads_as_a_border_only_where_it_is_there() -> None:
    """Over many numbers: the text is a border's exactly where the number is, rounding of floats aside."""
    draw = random.Random(3)
    for border in (-100.0, 0.0, 100.0):
        for near in (10.0**-power for power in range(1, 16)):
            for value in (border + near * draw.random(), border - near * draw.random(), border):
                text = fixed(value, 1, ends=(-100.0, 0.0, 100.0))
                assert (text == f"{border:.1f}") == (abs(value - border) <= 1e-9), (value, text)
                assert len(text) <= len(">-100.0001")


def literals(path: Path) -> list[str]:
    return [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_no_file_writes_a_space_before_the_percent_sign_of_a_figure():
    """In an f-string the text after a value begins with the sign."""
    apart = [
        f"{path.relative_to(ROOT)}: {text!r}" for path in SHOWS for text in literals(path) if text.startswith((" % ", " %,", " %.", " %;"))
    ]
    assert not apart
