"""The interval of a perplexity: lm-eval's value in the middle, the width that resampling documents gives."""

import math

import numpy as np
import pytest
from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
from scipy import stats

from evaluators.text.perplexity import perplexity


@pytest.fixture(scope="module")
def documents() -> list[tuple[float, int]]:
    rng = np.random.default_rng(3)
    words = rng.integers(20, 200, 150)
    return [(float(-n * rng.normal(3.0, 0.6)), int(n)) for n in words]


@pytest.mark.parametrize("metric", [weighted_perplexity, bits_per_byte])
def test_interval_is_that_of_a_bootstrap_over_documents(documents, metric):
    figure = perplexity(documents, metric(documents))
    assert figure.value == metric(documents) and figure.n == 150
    log = metric is weighted_perplexity  # resampled on the scale on which it is nearly normal
    low, high = _bootstrap(documents, log)
    assert [figure.low, figure.high] == pytest.approx([low, high], rel=0.01)


def _bootstrap(documents, log: bool) -> tuple[float, float]:
    likelihood, words = np.array(documents).T

    def rate(indices, axis=-1):
        return -likelihood[indices].sum(axis=axis) / words[indices].sum(axis=axis)

    found = stats.bootstrap((np.arange(len(words)),), rate, vectorized=True, n_resamples=4000, method="percentile", random_state=0)
    low, high = found.confidence_interval
    return (math.exp(low), math.exp(high)) if log else (low / math.log(2), high / math.log(2))


def test_what_is_no_perplexity_of_the_documents_has_no_interval(documents):
    assert perplexity(documents, 5.0) is None
    assert perplexity(documents[:1], weighted_perplexity(documents[:1])) is None
    assert perplexity([(-math.inf, 3), (-1.0, 2)], math.inf) is None
    assert perplexity([(1.0, 2, 3)] * 3, 1.0) is None
    assert perplexity([(1, "[0.2 0.8]")] * 3, 1.0) is None  # a Brier score, read from a file
    assert perplexity([(-1e6, 1), (-2e6, 1)], math.inf) is None
