"""Splits text into words, for matching and for the rule against leaked answers, and makes hashes to order by; independent of the locale."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces: each character is a word. Everything else: runs of letters, digits and inner apostrophes.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)*")


def words(text: str) -> tuple[str, ...]:
    """The case-folded words of `text`, in order."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def contains(sequence: tuple[str, ...], part: tuple[str, ...]) -> bool:
    """Whether `part` occurs in `sequence` as consecutive words; False for an empty part."""
    n = len(part)
    return n > 0 and any(sequence[i : i + n] == part for i in range(len(sequence) - n + 1))


def hashed(*parts: object) -> bytes:
    """A pseudo-random sort key that is the same on every machine and for every PYTHONHASHSEED."""
    return sha256("\x1f".join(map(str, parts)).encode()).digest()


def hash64(*parts: object) -> int:
    """The first 64 bits of `hashed`."""
    return int.from_bytes(hashed(*parts)[:8], "big")


def mixed(hashes: NDArray[np.uint64], with_hash: int) -> NDArray[np.uint64]:
    """`hashes` combined with `with_hash` by the finaliser of splitmix64 (Steele, Lea and Flood 2014), exact modulo 2**64 on any machine."""
    z = hashes ^ np.uint64(with_hash)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return z
