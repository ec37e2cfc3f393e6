"""Ranges of a recipe's values, declared where the value is declared and checked before anything is trained."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from iit_bench.errors import UserError

_KEY = "range"


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`; an end that is left out does not belong to it. Never infinite, never "not a number"."""

    low: float
    high: float | None = None  # None = no upper end
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return False
        above = value > self.low if self.without_low else value >= self.low
        return above and (self.high is None or (value < self.high if self.without_high else value <= self.high))

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.without_low else f"{self.low:g} or more"
        if self.high is None:
            return low
        return f"{low} and {'below' if self.without_high else 'at most'} {self.high:g}"


def within(low: float, high: float | None = None, *, default: Any = dataclasses.MISSING, **ends: bool) -> Any:
    """A field of a recipe's record whose value, or every value in its list, lies in a `Range`; without a default it must be given."""
    return dataclasses.field(default=default, metadata={_KEY: Range(low=low, high=high, **ends)})


def listed() -> Any:
    """A field of a recipe's record whose list, where it is given, has something in it."""
    return dataclasses.field(default=(), metadata={_KEY: None})


def check(field: dataclasses.Field[Any], value: Any, where: str) -> None:
    """Refuse a value, or a value in a list, outside the range of its field; an empty list too.

    Raises:
        UserError: names `where`, the range and the value.
    """
    if _KEY not in field.metadata:
        return
    values = value if isinstance(value, tuple) else (value,)
    if not values:
        raise UserError(f"{where}: is an empty list; give one or more, or leave the key out")
    allowed = field.metadata[_KEY]
    for one in values:
        if allowed is not None and one not in allowed:
            raise UserError(f"{where}: must be {allowed}; it is {one!r}")
