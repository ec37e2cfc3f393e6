"""An interval for perplexities, for which lm-eval gives none or a symmetric one: a ratio of two sums over documents, each one draw.

Bounds are made on the scale on which a perplexity is never impossible: log-likelihoods for a perplexity, which is then at least 1 if all
log-likelihoods are at most 0; the logarithm for bits per byte, which are then above 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from evaluators.statistics import Dependence
from iit_bench.types import Figure


def perplexity(pairs: Sequence[Sequence[float]], value: float, clusters: Sequence[int] | None = None) -> Figure | None:
    """lm-eval's `value` with a 95% interval by the delta method; None where it is no perplexity of these documents.

    Args:
        pairs: (log-likelihood in nats, words, bytes or 1) of each document, as lm-eval's samples hold them.
        value: what lm-eval made of them.
        clusters: cluster code of each document; None where none share anything.

    The standard error of r = sum of the first / sum of the second is that of the sum of (l_i - r · w_i) / sum(w), cluster-robust, with
    Student's t on clusters - 1 degrees of freedom.
    """
    if len(pairs) < 2 or any(len(pair) != 2 or any(isinstance(one, str) or np.ndim(one) for one in pair) for pair in pairs):
        return None  # a Brier score's samples, say: (gold, probabilities), which lm-eval's files hold as a text
    likelihood, weight = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    if not np.isfinite(likelihood).all() or weight.sum() <= 0:
        return None
    r, n = float(likelihood.sum() / weight.sum()), len(pairs)
    dependence = Dependence.of(range(n) if clusters is None else clusters)
    variance = dependence.variance((likelihood - r * weight) / weight.sum())
    if not variance:
        return None
    half = float(stdtrit(dependence.n_clusters - 1, 0.975)) * math.sqrt(variance)
    bounds = _bounds(r, half, value, all(likelihood <= 0))
    if bounds is None or not all(map(math.isfinite, bounds)):
        return None
    method = "delta method over documents" if clusters is None or dependence.singletons else "delta method over clusters of documents"
    return Figure(value, low=bounds[0], high=bounds[1], n=n, clusters=dependence.n_clusters, method=method)


def _bounds(r: float, half: float, value: float, probabilities: bool) -> tuple[float, float] | None:
    """Bounds of lm-eval's two aggregations of r ± half: perplexity, exp(-r), and bits, -r / log 2; None if `value` is neither."""
    with np.errstate(over="ignore"):
        if math.isclose(float(np.exp(-r)), value, rel_tol=1e-6):
            low = float(np.exp(-r - half))
            return max(1.0, low) if probabilities else low, float(np.exp(-r + half))
        if math.isclose(-r / math.log(2), value, rel_tol=1e-6) and r < 0:
            return value * float(np.exp(half / r)), value * float(np.exp(-half / r))
    return None
