"""The correction for lucky guesses recovers known rates on simulated models, and its intervals hold them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from evaluators import statistics
from evaluators.statistics import rates
from iit_bench.types import TRANSITIONS, Figure
from tests.evaluators import coverage_of_ledgers
from tests.evaluators.simulated_ledgers import ALL_KNOWN, SCENARIOS, coverage, draw

KEPT = Path(__file__).parents[1] / "data/coverage_of_ledgers.jsonl"  # 4,000 runs of each scene
RUNS = 400  # of an exact 95% interval, below 91.5% one time in 600, above 98% one time in 600


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != ALL_KNOWN])
def test_the_intervals_of_a_ledgers_rates_cover_the_true_rates(name: str) -> None:
    scenario = SCENARIOS[name]
    of = coverage(scenario, RUNS)
    for what, rate, seen in zip(TRANSITIONS, scenario.rates, scenario.seen, strict=True):
        assert 0.915 <= of.corrected[what] <= 0.98
        assert 0.915 <= of.seen[what] <= (0.98 if seen * scenario.items >= 10 else 1)
        assert of.mean[what] == pytest.approx(rate, abs=0.012)


def test_where_everything_is_known_the_one_possible_interval_holds_the_truth() -> None:
    """All replies are right whatever is drawn: the interval is always the same, and covers always or never."""
    scenario = SCENARIOS[ALL_KNOWN]
    of = coverage(scenario, 3)
    assert list(of.corrected.values()) == pytest.approx([1, 1, 1, 1]) and list(of.mean.values()) == pytest.approx(scenario.rates)


@pytest.mark.oracle
def test_no_interval_on_few_counts_covers_94_to_96_percent() -> None:
    """80 items of two choices: what neither side knows shows as a count of items that both have wrong, binomial with a quarter of the rate.

    An interval whose bounds rise with the count covers a rate for a run of counts. At 12% no run of counts has a probability of 94 to 96%.
    At 18, 20 and 22% one has each, but no interval of the count 0 holds 20% without the two around it.
    """

    def runs_of_counts(rate: float) -> list[tuple[int, int]]:
        below = np.concatenate([[0.0], scipy.stats.binom.cdf(range(81), 80, rate / 4)])
        return [(a, b) for a in range(81) for b in range(a, 81) if 0.94 <= below[b + 1] - below[a] <= 0.96]

    assert runs_of_counts(0.12) == []
    assert [runs_of_counts(rate) for rate in (0.18, 0.20, 0.22)] == [[(1, 7)], [(0, 7)], [(1, 8)]]


@pytest.mark.oracle
@pytest.mark.parametrize("n", [80, 300])
def test_a_rate_as_it_is_seen_covers_on_average_over_true_rates(n: int) -> None:
    """Exact coverage by scipy's binomial distribution, averaged over the steps of counts."""
    figures = [statistics.rate(np.arange(n) < right, np.arange(n)) for right in range(n + 1)]
    low, high = (np.array([getattr(one, end) for one in figures]) for end in ("low", "high"))
    assert all(np.all(np.diff(bound) >= 0) for bound in (low, high)) and low.min() == 0 and high.max() == 1
    truths = np.linspace(0.05, 0.95, 361)
    covered = [float(scipy.stats.binom.pmf(range(n + 1), n, one)[(low <= one) & (one <= high)].sum()) for one in truths]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.002) and min(covered) > 0.92


def exact_coverage(bounds: list[Figure], shown: float, truths: np.ndarray) -> np.ndarray:
    """Coverage of each true rate, by scipy: `bounds` of 0, 1, … n items, of each of which a share `shown` of the true rate is seen."""
    n = len(bounds) - 1
    low, high = (np.array([getattr(one, end) for one in bounds]) for end in ("low", "high"))
    return np.array([scipy.stats.binom.pmf(range(n + 1), n, one * shown)[(low <= one) & (one <= high)].sum() for one in truths])


def never_by_count(n: int, choices: int) -> list[Figure]:
    """The corrected rate of *never*, which depends on the number of items that both sides have wrong, for each number."""
    chance = np.full(n, 1 / choices)
    sides = [statistics.known(np.arange(n) >= wrong, True, chance) for wrong in range(n + 1)]
    return [statistics.corrected_rates(side, side, chance, np.arange(n))["never"] for side in sides]


@pytest.mark.oracle
@pytest.mark.parametrize(("n", "choices"), [(80, 2), (100, 3), (300, 4)])
def test_coverage_of_what_neither_knows_is_within_the_steps_of_counts(n: int, choices: int) -> None:
    """Exact: no draws. A count at a bound moves coverage by .058/√(items expected), two of them where both bounds step together."""
    shown, truths = (1 - 1 / choices) ** 2, np.linspace(0.02, 0.98, 193)
    expected = n * np.minimum(truths * shown, 1 - truths * shown)
    covered = exact_coverage(never_by_count(n, choices), shown, truths)
    many, few = expected >= statistics.FEW, (expected >= 3) & (expected < statistics.FEW)
    assert np.mean(covered[few]) == pytest.approx(0.95, abs=0.004) and 0.91 < covered[few].min() < 0.94 < 0.96 < covered[few].max() < 0.98
    assert np.all(np.abs(covered[many] - 0.95) < 0.015)
    assert np.all(np.abs(covered - 0.95)[expected >= 8.5] <= 0.003 + 2 * 0.0584 / np.sqrt(expected[expected >= 8.5]))


@pytest.mark.oracle
def test_the_rate_that_was_missed_in_80_items_of_two_choices_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """20% that neither side knows: without the skewness 93.7%, with it 96.5%, and 95% on average over 15 to 25%."""
    at, around = exact_coverage(never_by_count(80, 2), 0.25, np.array([0.2]))[0], np.linspace(0.15, 0.25, 101)
    assert at == pytest.approx(0.9651, abs=0.0001)
    assert np.mean(exact_coverage(never_by_count(80, 2), 0.25, around)) == pytest.approx(0.95, abs=0.005)
    monkeypatch.setattr(rates, "_SKEWNESS", 0.0)
    assert exact_coverage(never_by_count(80, 2), 0.25, np.array([0.2]))[0] == pytest.approx(0.9369, abs=0.0001)


def test_the_table_of_the_specification_is_that_of_the_draws_that_are_kept() -> None:
    lines = list(coverage_of_ledgers.table(list(coverage_of_ledgers.cells(KEPT))))
    spec = (KEPT.parents[2] / "docs" / "spec" / "iit.md").read_text(encoding="utf-8")
    assert [line for line in lines if line.startswith("|") and f"\n{line}\n" not in spec] == []
    assert [line for line in lines if line.startswith("outside")] == []


def test_scenes_are_drawn_once_and_a_cell_is_outside_where_a_test_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = dict(list(coverage_of_ledgers.drawn().items())[:2])
    monkeypatch.setattr(coverage_of_ledgers, "drawn", lambda: scenes)
    monkeypatch.setattr(coverage_of_ledgers, "SCENARIOS", {})
    out = tmp_path / "out.jsonl"
    coverage_of_ledgers.run(out, 3)
    first = out.read_bytes()
    coverage_of_ledgers.run(out, 3)
    found = list(coverage_of_ledgers.cells(out))
    assert out.read_bytes() == first and len(found) == 2 * 4 * 2 and all(cell.runs == 3 >= cell.covered for cell in found)
    many = [dataclasses.replace(found[0], runs=4000, covered=covered) for covered in (3690, 3750, 3800, 3850, 3900)]
    assert [cell.p > 0.05 for cell in many] == [False, True, True, True, False]
    assert sum(line.startswith("outside") for line in coverage_of_ledgers.table(many)) == 2


def test_rates_that_rest_on_few_items_are_named() -> None:
    assert statistics.few_items({"lost": 19, "kept": 60, "gained": 20, "never": 0}) == ("lost", "never")
    assert statistics.few_items({"lost": 0, "kept": 300, "gained": 0, "never": 19}) == ("lost", "kept", "gained", "never")
    assert statistics.few_items({"lost": 0, "kept": 0, "gained": 0, "never": 0}) == ()


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
    assert figure.value == pytest.approx(-4 / 9) and figure.high is not None and figure.low == figure.value < figure.high
    assert figure.note.startswith("below 0")
