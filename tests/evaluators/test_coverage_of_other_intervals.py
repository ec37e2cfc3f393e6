"""Simulated coverage of the intervals that no file of their own simulates (docs/maintain/intervals.md lists all of them).

`python tests/evaluators/test_coverage_of_other_intervals.py 2000` prints the coverage of each with 2,000 runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[2])]

from evaluators import statistics  # noqa: E402 - a script has its own folder on the path
from evaluators.lab.attention import _within  # noqa: E402
from evaluators.statistics.seeds import difference_over_seeds  # noqa: E402
from evaluators.text import classification  # noqa: E402
from evaluators.text.perplexity import perplexity  # noqa: E402
from iit_bench.types import Figure  # noqa: E402

RUNS = 500  # of an exact 95% interval cover less than 92% or more than 97.6% one time in 300 each
Drawn = tuple[Figure, float]  # a figure and its true value
Draw = Callable[[np.random.Generator], Drawn]


def noise_floor_of_three(rng: np.random.Generator) -> Drawn:
    """Share of pairs of three repeats that disagree: fractions of an item, alike in clusters of two."""
    cluster = np.repeat(np.arange(100), 2)
    hits = rng.binomial(3, rng.beta(4, 1, 100)[cluster])
    return statistics.mean(2 * hits * (3 - hits) / 6, cluster), 2 * 4 * 1 / (5 * 6)


def partial_credits(rng: np.random.Generator) -> Drawn:
    """Difference of two mean scores that are no fractions of right answers, in clusters of three."""
    cluster = np.repeat(np.arange(40), 3)
    own = rng.normal(0, 0.5, 40)[cluster]
    a, b = own + rng.exponential(1, 120), 0.5 * own + rng.exponential(0.8, 120)
    return statistics.paired_means(a, b, cluster, over="task", against="base").difference, 0.2


def over_shared_histories(rng: np.random.Generator) -> Drawn:
    """Paired difference where 40 histories serve 300 targets, and move either side in its own way."""
    history, own = rng.permutation(np.arange(300) % 40), 1 + rng.normal(0, 1, 300)
    a, b = (rng.random(300) < 1 / (1 + np.exp(-own - rng.normal(0, 0.7, 40)[history])) for _ in range(2))
    return statistics.paired(a, b, np.arange(300), over="TT", against="T", histories=[[int(h)] for h in history]).difference, 0.0


def difference_of_seeds(rng: np.random.Generator) -> Drawn:
    """Difference to a base over five seeds that move all items, in clusters of two."""
    cluster = np.repeat(np.arange(100), 2)
    level = rng.uniform(0.4, 0.85, 100)[cluster]
    base = rng.random(200) < level
    right = rng.random((5, 200)) < level - 0.1 + rng.normal(0, 0.04, (5, 1))
    return difference_over_seeds(right - base.astype(float), statistics.Dependence.of(cluster)).figure, -0.1


def correlation_within_methods(rng: np.random.Generator) -> Drawn:
    """Correlation within three methods of six cells each, whose means differ."""
    groups = np.repeat(["a", "b", "c"], 6)
    shift = np.repeat([0.0, 3.0, -2.0], 6)
    x = rng.normal(size=18)
    y = 0.5 * x + 0.75**0.5 * rng.normal(size=18)
    return _within((x + shift).tolist(), (y - shift).tolist(), groups.tolist()), 0.5


CELLS = np.array([0.55, 0.1, 0.1, 0.25])  # (gold, prediction): (0, 0), (0, 1), (1, 0), (1, 1)


def f1_score(rng: np.random.Generator) -> Drawn:
    """F1 of 200 documents."""
    gold, said = np.divmod(rng.choice(4, 200, p=CELLS), 2)
    both, either = np.sum(gold & said), np.sum(gold | said)
    figure = classification.f1(list(zip(gold.tolist(), said.tolist(), strict=True)), float(2 * both / (both + either)), range(200))
    assert figure is not None
    return figure, 2 * CELLS[3] / (2 * CELLS[3] + CELLS[1] + CELLS[2])


def matthews_correlation(rng: np.random.Generator) -> Drawn:
    """Matthews correlation of 200 documents."""
    gold, said = np.divmod(rng.choice(4, 200, p=CELLS), 2)
    pairs = list(zip(gold.tolist(), said.tolist(), strict=True))
    figure = classification.matthews(pairs, float(np.corrcoef(gold, said)[0, 1]), range(200))
    assert figure is not None
    ones = CELLS[2] + CELLS[3]  # as many as are predicted
    return figure, (CELLS[3] - ones**2) / (ones * (1 - ones))


def perplexity_of_documents(rng: np.random.Generator) -> Drawn:
    """Perplexity per word of 100 documents of unequal length."""
    words = rng.integers(20, 200, 100)
    likelihood = -words * rng.normal(3.0, 0.6, 100)
    figure = perplexity(list(zip(likelihood.tolist(), words.tolist(), strict=True)), float(np.exp(-likelihood.sum() / words.sum())))
    assert figure is not None
    return figure, float(np.exp(3.0))


SIMULATED: dict[str, Draw] = {
    one.__name__: one
    for one in (
        noise_floor_of_three,
        partial_credits,
        over_shared_histories,
        difference_of_seeds,
        correlation_within_methods,
        f1_score,
        matthews_correlation,
        perplexity_of_documents,
    )
}


def covered(draw: Draw, runs: int) -> float:
    """The share of runs whose interval holds the true value."""
    rng, hits = np.random.default_rng(31), 0
    for _ in range(runs):
        figure, truth = draw(rng)
        assert figure.low is not None and figure.high is not None
        hits += figure.low <= truth <= figure.high
    return hits / runs


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATED)
def test_an_interval_covers(name: str) -> None:
    at_most = 0.995 if name == "noise_floor_of_three" else 0.985  # fractions vary less than the 0 and 1 that the interval is made for
    assert 0.92 <= covered(SIMULATED[name], RUNS) <= at_most


if __name__ == "__main__":
    for name, draw in SIMULATED.items():
        print(f"{name}: {covered(draw, int(sys.argv[1])):.4f}", flush=True)
