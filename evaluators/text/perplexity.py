"""An interval for perplexities, for which lm-eval gives none: a ratio of two sums over documents, each of which counts as one draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from iit_bench.types import Figure

# lm-eval's aggregations of (log-likelihood in nats, words or bytes): r = sum of the first / sum of the second, and what is made of it.
_SCALES: tuple[Callable[[float], float], ...] = (lambda r: float(np.exp(-r)), lambda r: -r / math.log(2))  # perplexity; bits per byte


def perplexity(pairs: Sequence[Sequence[float]], value: float) -> Figure | None:
    """lm-eval's `value` with a 95% interval by the delta method; None where it is no perplexity of these documents.

    Args:
        pairs: (log-likelihood, weight) of each document, as lm-eval's samples hold them.
        value: what lm-eval made of them.

    The standard error of r is that of the sum of (l_i - r · w_i) / sum(w) with Student's t on n - 1 degrees of freedom; the bounds of r are
    moved to the scale of the value.
    """
    if len(pairs) < 2 or any(len(pair) != 2 or np.ndim(pair[0]) or np.ndim(pair[1]) for pair in pairs):
        return None  # a Brier score's samples, say: (gold, probabilities)
    likelihood, weight = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    if not np.isfinite(likelihood).all() or weight.sum() <= 0:
        return None
    r, n = float(likelihood.sum() / weight.sum()), len(pairs)
    se = float(np.sqrt(n / (n - 1) * np.sum((likelihood - r * weight) ** 2)) / weight.sum())
    half = float(stdtrit(n - 1, 0.975)) * se
    with np.errstate(over="ignore"):
        scale = next((scale for scale in _SCALES if math.isclose(scale(r), value, rel_tol=1e-6)), None)
        low, high = (scale(r + half), scale(r - half)) if scale else (math.nan, math.nan)
    if not math.isfinite(low) or not math.isfinite(high):
        return None
    return Figure(value, low=low, high=high, n=n, clusters=n, method="delta method over documents")
