"""How the lab's sources choose: by hashes, so that splits, wordings and wrong choices are the same on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

CHOICES = 4

Item = TypeVar("Item")


def key(*parts: str) -> bytes:
    """Sort key that is the same on any machine, with any PYTHONHASHSEED."""
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


def one_of(items: Sequence[Item], *parts: str) -> Item:
    """The item that a hash of `parts` names."""
    return items[int.from_bytes(key(*parts)[:8], "big") % len(items)]


def share(*parts: str) -> float:
    """A number in [0, 1) that a hash of `parts` gives: a split is a range of these."""
    return int.from_bytes(key(*parts)[:6], "big") / 2**48


def shuffled(items: Sequence[Item], *parts: str) -> list[Item]:
    """The items in an order that one hash of `parts` gives."""
    digest = hashlib.shake_256("\x1f".join(parts).encode()).digest(8 * len(items))
    return [items[i] for i in sorted(range(len(items)), key=lambda i: digest[8 * i : 8 * i + 8])]


def four_choices(gold: str, others: Iterable[str], *parts: str) -> tuple[str, ...] | None:
    """The gold answer and the first three of `others` that fit, in the order of a hash; None where fewer fit.

    Skipped: an answer that is a prefix of a chosen one or has a chosen one as its prefix (equal answers included), ignoring case, because
    the sum of log-probabilities cannot separate such choices.
    """
    chosen = [gold]
    for other in others:
        mine = other.casefold()
        if all(not mine.startswith(c.casefold()) and not c.casefold().startswith(mine) for c in chosen):
            chosen.append(other)
        if len(chosen) == CHOICES:
            return tuple(sorted(chosen, key=lambda choice: key("order", *parts, choice)))
    return None
