"""Figures are written in one way, whoever shows them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from iit_bench.numerals import in_percent, interval, percent, points
from iit_bench.types import Figure
from reports import cells

ROOT = Path(__file__).parents[1]
SHOWS = [path for room in ("reports", "evaluators", "iit_bench", "docs") for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.938, ("93.8", "93.8%", "+93.8")),
        (-0.051, ("-5.1", "-5.1%", "-5.1")),
        (-0.0001, ("0.0", "0.0%", "0.0")),
        (1e-5, ("0.0", "0.0%", "0.0")),
    ],
)
def test_one_decimal_and_no_sign_at_zero(value, written):
    assert (percent(value), in_percent(value), points(value)) == written
    assert (cells.percent(value), cells.in_percent(value), cells.points(value)) == tuple(text.replace("-", cells.MINUS) for text in written)


def test_an_interval_or_nothing():
    assert interval(Figure(0.05, low=-0.01, high=0.11, n=9)) == "[-1.0, +11.0]"
    assert interval(Figure(0.05, low=-0.00001, high=0.11, n=9), sign="") == "[0.0, 11.0]"
    assert interval(Figure(0.05, n=9)) == ""


def literals(path: Path) -> list[str]:
    return [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_no_file_writes_a_space_before_the_percent_sign_of_a_figure():
    """In an f-string the text after a value begins with the sign."""
    apart = [
        f"{path.relative_to(ROOT)}: {text!r}" for path in SHOWS for text in literals(path) if text.startswith((" % ", " %,", " %.", " %;"))
    ]
    assert not apart
