"""Exact tests of paired differences, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr, ndtri

Z = float(ndtri(0.975))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: p of the discordant pairs under a fair coin; 1 where no pair differs."""
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(sums: Any) -> float:
    """Two-sided p of the clusters' integer differences `sums` [G] when each may as well have had the other sign; 1 if all are zero.

    Exact for any number of clusters: the distribution of the sum over all 2^G sign patterns is built one cluster at a time on the
    integers, so no random draws are needed. With sums of ±1 it is the exact McNemar test.
    """
    sizes = np.abs(np.asarray(sums, dtype=np.int64))
    sizes = sizes[sizes > 0]
    observed = abs(int(np.sum(sums)))
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # chance[reach + s] = probability that the sum is s
    chance[reach] = 1.0
    for size in sizes.tolist():
        flipped = np.zeros_like(chance)
        flipped[size:] += 0.5 * chance[: len(chance) - size]
        flipped[: len(chance) - size] += 0.5 * chance[size:]
        chance = flipped
    extreme = np.abs(np.arange(-reach, reach + 1)) >= observed
    return min(1.0, float(chance[extreme].sum()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the values that exist; None stays None and does not count."""
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(present):
        highest = max(highest, min(1.0, (len(present) - rank) * p))
        adjusted[i] = highest
    return adjusted
