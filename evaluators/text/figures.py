"""One figure of a task of lm-eval: its value, and an interval from its documents where they give it, else from lm-eval's standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from evaluators.statistics import Dependence, Z, codes, mean, wilson
from evaluators.text.classification import f1, matthews
from evaluators.text.perplexity import perplexity
from iit_bench.types import Figure, TaskItem

# Metrics whose items are 0/1 in every task of lm-eval: without the items, value and n give Wilson's interval.
_ACCURACIES = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"})
# Metrics that are never below 0 and have no largest value, or one that nobody comes near: their interval is made on a logarithmic scale.
_POSITIVE = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bleu", "chrf", "ter"})
# What the others cannot leave; F1 has no upper bound here, as some tasks give it in percent.
_RANGES = {**dict.fromkeys(_ACCURACIES, (0.0, 1.0)), "f1": (0.0, math.inf), "em": (0.0, math.inf), "mcc": (-1.0, 1.0)}
_CAPPED_DRAWS = frozenset({"bleu", "chrf", "ter"})  # of which lm-eval draws a hundred at most
_MOST_DRAWS = 100
_CORRELATIONS = frozenset({"mcc", "matthews_corrcoef"})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What lm-eval made of one metric of a task."""

    metric: str  # "acc", "f1", …; without the filter
    value: float
    stderr: float | None
    count: int  # documents
    aggregation: str = ""  # "mean", "f1", …; "" where it is not known
    draws: int | None = None  # of its bootstrap, where the standard error comes from one
    tool: str = "lm-eval"  # whose value and standard error they are


def from_items(rows: Sequence[TaskItem], measured: Measured, failed: int) -> Figure:
    """The figure of a metric whose documents have scores.

    Args:
        rows: one per document.
        failed: documents that could not be asked and count as wrong.

    A mean of scores in 0 … 1 has Wilson's interval, clustered by what documents share; another mean has Student's; a perplexity has its
    own. Anything else has the interval of lm-eval's standard error.
    """
    scores, clusters = [row.score for row in rows], codes(row.cluster for row in rows).tolist()
    own = sum(scores) / len(scores) if scores else math.nan
    is_mean = len(scores) == measured.count and (failed > 0 or math.isclose(own, measured.value, abs_tol=1e-9))
    if is_mean and all(0 <= score <= 1 for score in scores):
        return mean(scores, clusters)
    if is_mean and all(map(math.isfinite, scores)):
        return _mean_of_any(scores, clusters)
    if len(scores) == measured.count:
        found = perplexity([(score, 1) for score in scores], measured.value, clusters)
        if found is not None:
            return found
    return from_stderr(measured)


def from_pairs(pairs: Sequence[Any], clusters: Sequence[str], measured: Measured) -> Figure:
    """The figure of a metric whose documents have pairs: (gold, prediction), or (log-likelihood, words or bytes)."""
    code = codes(clusters).tolist()
    if len(pairs) == measured.count and all(len(pair) == 2 for pair in pairs):
        hashable = all(isinstance(one, (int, str, np.integer)) for pair in pairs for one in pair)
        found = None
        if hashable and measured.metric in _CORRELATIONS:  # which is 0 for constant replies, as F1 may be
            found = matthews(pairs, measured.value, code)
        elif hashable and measured.metric not in _CAPPED_DRAWS:  # of texts; 0 is no F1 of a label that is nowhere
            found = f1(pairs, measured.value, code) or matthews(pairs, measured.value, code)
        found = found or perplexity(pairs, measured.value, code)
        if found is not None:
            return found
    return from_stderr(measured)


def from_stderr(measured: Measured, pooled: bool = False) -> Figure:
    """lm-eval's value with the interval that its standard error gives; none where that is unknown, or 0, which is no certainty.

    Args:
        pooled: the standard error is that of a group.

    Raises:
        ValueError: it is negative: the file that it was read from is damaged.
    """
    value, stderr, n = measured.value, measured.stderr, measured.count
    if stderr is not None and stderr < 0:
        raise ValueError(f"a standard error of {stderr:g}, below 0")
    if not math.isfinite(value):
        return Figure(None, n=n, note=f"{measured.tool}'s value is not a finite number")
    if measured.metric in _ACCURACIES and 0 <= value <= 1 and not pooled and n and _binary(value, stderr, n):
        low, high = wilson(value, n)
        return Figure(value, low=low, high=high, n=n, clusters=n, se=stderr, method="wilson, of value and n", from_stderr=True)
    if stderr is None or not math.isfinite(stderr):
        return Figure(value, n=n, clusters=n)
    if stderr == 0:
        return Figure(value, n=n, clusters=n, se=stderr, note=f"no interval: {measured.tool}'s standard error is 0", from_stderr=True)
    source = f"pooled stderr of {measured.tool}" if pooled else _source(measured)
    low, high, scale = value - Z * stderr, value + Z * stderr, "normal"
    if measured.metric in _POSITIVE and value > 0:
        factor = math.exp(min(Z * stderr / value, 400))  # also times a large value within floating point
        low, high, scale = value / factor, value * factor, "log-normal"
    least, most = _RANGES.get(measured.metric, (-math.inf, math.inf))
    if least <= value <= most:
        low, high = max(least, low), min(most, high)
    return Figure(value, low=low, high=high, n=n, clusters=n, se=stderr, method=f"{scale}, {source}", from_stderr=True)


def _binary(value: float, stderr: float | None, n: int) -> bool:
    """Whether the standard error is the one of a mean of 0/1 items (lm-eval divides by n - 1)."""
    return stderr is not None and n > 1 and math.isclose(stderr, math.sqrt(value * (1 - value) / (n - 1)), abs_tol=1e-9)


def _source(measured: Measured) -> str:
    if measured.draws is None:
        return f"stderr of {measured.tool}"
    draws = min(measured.draws, _MOST_DRAWS) if measured.aggregation in _CAPPED_DRAWS else measured.draws
    return f"bootstrap stderr of {measured.tool}, {draws:,} draws"


def _mean_of_any(scores: Sequence[float], clusters: Any) -> Figure:
    """A mean of scores on any scale, with Student's interval; none where they do not vary."""
    x, dependence = np.asarray(scores), Dependence.of(clusters)
    value, n, n_clusters = float(x.mean()), len(x), dependence.n_clusters
    variance = dependence.variance((x - value) / n)
    if not variance:
        return Figure(value, n=n, clusters=n_clusters, note="no interval: the scores do not vary")
    se = math.sqrt(variance)
    half = float(stdtrit(n_clusters - 1, 0.975)) * se
    method = "clustered t" if n_clusters < n else "t"
    return Figure(value, low=value - half, high=value + half, n=n, clusters=n_clusters, se=se, method=method)
