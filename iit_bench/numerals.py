"""How figures are written, on pages, in a terminal and in texts made by script: percent, percentage points, intervals.

One decimal; no "-0.0", and no sign at 0. Pages put a true minus sign (reports/cells.py); a terminal has "-".
"""

from __future__ import annotations

from iit_bench.types import Figure

NOTHING = "–"  # there is no figure


def percent(value: float | None) -> str:
    """A fraction in percent, for a table whose heading has the unit: 0.938 -> "93.8"."""
    return NOTHING if value is None else _signless_zero(f"{100 * value:.1f}")


def in_percent(value: float | None) -> str:
    """A fraction with its unit, for a sentence: 0.938 -> "93.8%"."""
    return NOTHING if value is None else f"{percent(value)}%"


def points(value: float | None, sign: str = "+") -> str:
    """A difference in percentage points: 0.051 -> "+5.1"; `sign` "" for one that has no direction."""
    return NOTHING if value is None else _signless_zero(f"{100 * value:{sign}.1f}")


def interval(figure: Figure, sign: str = "+") -> str:
    """A 95% interval in percentage points, or, with `sign` "", in percent: "[+1.2, +9.0]"; "" if there is none."""
    return "" if figure.low is None or figure.high is None else f"[{points(figure.low, sign)}, {points(figure.high, sign)}]"


def _signless_zero(text: str) -> str:
    return text.lstrip("+-") if not text.strip("+-0.") else text


def counted(n: float, thing: str, things: str = "") -> str:
    """A number of things in words: "1 tier", "2,000 tiers"; `things` is the plural where an s does not make it."""
    number = f"{n:,}" if isinstance(n, int) else f"{n:.3g}"
    return f"{number} {thing if number == '1' else things or thing + 's'}"
