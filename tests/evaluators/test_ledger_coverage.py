"""The correction for lucky guesses recovers known rates on simulated models, and its intervals hold them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators import statistics
from iit_bench.types import TRANSITIONS
from tests.evaluators.simulated_ledgers import SCENARIOS, coverage, draw

RUNS = 400  # of an exact 95% interval, below 91.5% one time in 600, above 98% one time in 600


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_interval_of_a_corrected_rate_covers_the_true_rate(name: str) -> None:
    scenario = SCENARIOS[name]
    covered, means = coverage(scenario, RUNS)
    for what, rate, inside in zip(TRANSITIONS, scenario.rates, scenario.inside, strict=True):
        assert 0.915 <= covered[what] <= (0.98 if inside else 1)
        assert means[what] == pytest.approx(rate, abs=0.012)


def test_rates_without_the_correction_are_not_the_true_ones() -> None:
    """The yardstick: of two models that know nothing, raw transitions show a loss where there is none."""
    rng = np.random.default_rng(3)
    base, run, _, _ = draw(SCENARIOS["knows nothing"], rng)
    assert np.mean((base == 1) & (run != 1)) > 0.1


def test_corrected_rates_sum_to_one_and_their_net_loss_is_that_of_corrected_accuracies() -> None:
    rng = np.random.default_rng(4)
    base, run, chance, dependence = draw(SCENARIOS["mixed choices in clusters"], rng)
    rates = {name: figure.value or 0.0 for name, figure in statistics.corrected_rates(base, run, chance, dependence).items()}
    assert sum(rates.values()) == pytest.approx(1)
    over_chance = [np.mean(((side == 1) - chance) / (1 - chance)) for side in (base, run)]
    assert rates["lost"] - rates["gained"] == pytest.approx(over_chance[0] - over_chance[1])


def test_rates_solve_the_two_by_two_system_of_equations() -> None:
    """Of one number of choices the estimator is the inverse of the matrix of guessing, for both sides at once."""
    rng = np.random.default_rng(5)
    base, run, chance, dependence = draw(SCENARIOS["four choices"], rng)
    guess = np.array([[1.0, 0.25], [0.0, 0.75]])  # right and wrong of who knows and who does not
    seen = [np.mean(((base == 1) == a) & ((run == 1) == b)) for a in (True, False) for b in (True, False)]
    kept, lost, gained, never = np.linalg.solve(np.kron(guess, guess), seen)
    found = statistics.corrected_rates(base, run, chance, dependence)
    assert [found[name].value for name in TRANSITIONS] == pytest.approx([lost, kept, gained, never])


def test_an_estimate_below_zero_is_shown_and_noted() -> None:
    wrong = statistics.known(np.zeros(40, dtype=bool), True, np.full(40, 0.25))
    figure = statistics.corrected_rates(wrong, wrong, np.full(40, 0.25), np.arange(40))["lost"]
    assert figure.value == pytest.approx(-4 / 9) and figure.low is not None and figure.low < figure.value
    assert figure.note.startswith("below 0")
