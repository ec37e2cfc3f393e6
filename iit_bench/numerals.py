"""How figures are written, on pages, in a terminal and in texts made by script: percent, percentage points, intervals.

One decimal; no "-0.0", and no sign at 0. What is not 0 is not written as 0: a loss of 0.03 points is no loss of "0.0", and an interval
from there excludes 0. Likewise what is not 100 is not written as "100.0", and p = 0.0496, which is significant, not as "0.050". Such a
figure has more decimals (`fixed`). Pages put a true minus sign (reports/cells.py); a terminal has "-".
"""

from __future__ import annotations

from collections.abc import Collection

from iit_bench.types import Figure

NOTHING = "–"  # there is no figure
_WHOLE = (-100.0, 0.0, 100.0)  # what a figure in percent or points is not rounded to
_NOISE = 1e-9  # differences that are rounding of floats
_DECIMALS = 4  # at most


def fixed(value: float, decimals: int, *, ends: Collection[float] = (0.0,), sign: str = "") -> str:
    """A number with so many decimals; with more where it would read as one of `ends` and is not: 0.03 -> "0.03", 99.97 -> "99.97".

    After four decimals it is a bound: "<0.0001", ">99.9999".

    Args:
        decimals: of other numbers.
        ends: numbers whose difference from others matters.
        sign: "+" where positive numbers have a sign.
    """
    for digits in range(decimals, max(decimals, _DECIMALS) + 1):
        text = f"{value:{sign}.{digits}f}"
        end = float(text)
        if end not in ends or abs(value - end) <= _NOISE:
            break
    else:
        side = 1 if value > end else -1
        return f"{'<' if side > 0 else '>'}{end + side * 10.0**-digits:{sign}.{digits}f}"
    return _signless_zero(text)


def percent(value: float | None) -> str:
    """A fraction in percent, for a table whose heading has the unit: 0.938 -> "93.8"."""
    return NOTHING if value is None else fixed(100 * value, 1, ends=_WHOLE)


def in_percent(value: float | None) -> str:
    """A fraction with its unit, for a sentence: 0.938 -> "93.8%"."""
    return NOTHING if value is None else f"{percent(value)}%"


def points(value: float | None, sign: str = "+") -> str:
    """A difference in percentage points: 0.051 -> "+5.1"; `sign` "" for one that has no direction."""
    return NOTHING if value is None else fixed(100 * value, 1, ends=_WHOLE, sign=sign)


def interval(figure: Figure, sign: str = "+") -> str:
    """A 95% interval in percentage points, or, with `sign` "", in percent: "[+1.2, +9.0]"; "" if there is none."""
    return "" if figure.low is None or figure.high is None else f"[{points(figure.low, sign)}, {points(figure.high, sign)}]"


def p_value(p: float | None) -> str:
    """A p-value with three decimals, "<0.001" below that; "0.050" and "1.000" only where it is so."""
    return NOTHING if p is None else "<0.001" if p < 0.001 else fixed(p, 3, ends=(0.05, 1.0))


def _signless_zero(text: str) -> str:
    return text.lstrip("+-") if not text.strip("+-0.") else text


def counted(n: float, thing: str, things: str = "") -> str:
    """A number of things in words: "1 tier", "2,000 tiers"; `things` is the plural where an s does not make it."""
    number = f"{n:,}" if isinstance(n, int) else f"{n:.3g}"
    return f"{number} {thing if number == '1' else things or thing + 's'}"
