"""Parses `--tiers`: the patterns of T and V to build (docs/spec/iit.md#words)."""

from __future__ import annotations

from itertools import product

from iit_bench.errors import UserError
from iit_bench.types import tier_order

MAX_TURNS = 8
FULL = tuple(sorted(("".join(turns) for length in (1, 2, 3) for turns in product("TV", repeat=length)), key=tier_order))
PAPER = tuple(sorted(("T", "TT", "TTT", "TTV", "TV", "V"), key=tier_order))
NAMED = {"full": FULL, "paper": PAPER}


def parse_tiers(text: str) -> tuple[str, ...]:
    """Tiers named by `text` (`full`, `paper`, or patterns separated by commas or spaces), each once, from text-only to multimodal-rich.

    Raises:
        UserError: no pattern, a pattern of more than 8 turns, or one with letters other than T and V.
    """
    if text in NAMED:
        return NAMED[text]
    patterns = text.replace(",", " ").split()
    if not patterns:
        raise UserError("--tiers names no tier; use full, paper, or a list of patterns such as T,TV,TTV")
    for pattern in patterns:
        if set(pattern) - set("TV"):
            raise UserError(
                f"unknown tier {pattern!r}: a tier is a pattern of T (text) and V (visual) such as TTV, or one of the names full, paper"
            )
        if len(pattern) > MAX_TURNS:
            raise UserError(f"tier {pattern!r} has {len(pattern)} turns; at most {MAX_TURNS} are allowed")
    return tuple(sorted(set(patterns), key=tier_order))
