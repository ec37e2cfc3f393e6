"""Exact tests of paired differences, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri
from scipy.stats import binom

Z = float(ndtri(0.975))
_FAR = 37.2  # standard deviations: 2 exp(-_FAR² / 2) is below 1e-300


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test: p of the discordant pairs under a fair coin; 1 where no pair differs."""
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def sign_flip(sums: Any) -> float:
    """Two-sided p of the clusters' integer differences `sums` [G] when each may as well have had the other sign; 1 if all are zero.

    Exact for any number of clusters: the distribution of the sum over all 2^G sign patterns is built on the integers, the clusters of one
    size at once (how many of them are flipped is binomial), so no random draws are needed. With sums of ±1 it is the exact McNemar test.
    Sums so far out that all of them together have a probability below 1e-300 (Hoeffding) are left out, so the work grows with the square
    root of the clusters of each size times that of all.
    """
    sizes = np.abs(np.asarray(sums, dtype=np.int64))
    sizes = sizes[sizes > 0]
    observed = abs(int(np.sum(sums)))
    far = int(_FAR * np.sqrt(np.sum(sizes.astype(np.float64) ** 2))) + 1
    reach = min(int(sizes.sum()), far)
    chance = np.zeros(2 * reach + 1)  # chance[reach + s] = probability that the sum is s
    chance[reach] = 1.0
    values, counts = np.unique(sizes, return_counts=True)
    for i in np.argsort(-counts, kind="stable"):
        chance = _flipped(chance, int(values[i]), int(counts[i]))
    extreme = np.abs(np.arange(-reach, reach + 1)) >= observed
    return min(1.0, float(chance[extreme].sum()))


def _flipped(chance: NDArray[np.float64], size: int, count: int) -> NDArray[np.float64]:
    """The distribution of a sum on -r … r, [2r + 1], once `count` terms of ±`size`, each sign as likely, are added to it."""
    most = min(count, int(_FAR * np.sqrt(count)) + 1)  # flipped less not flipped, at most
    flips = np.arange((count - most) // 2, (count + most) // 2 + 1)
    total, length = np.zeros_like(chance), len(chance)
    there = np.flatnonzero(chance)
    first, last = int(there[0]), int(there[-1]) + 1
    for shift, weight in zip((size * (2 * flips - count)).tolist(), binom.pmf(flips, count, 0.5).tolist(), strict=True):
        low, high = max(first, -shift), min(last, length - shift)
        if low < high:
            total[low + shift : high + shift] += weight * chance[low:high]
    return total


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the values that exist; None stays None and does not count."""
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(present):
        highest = max(highest, min(1.0, (len(present) - rank) * p))
        adjusted[i] = highest
    return adjusted
