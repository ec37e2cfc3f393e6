"""How often the intervals of corrected rates hold the true rates, on simulated models that know items and guess the others.

    python tests/evaluators/simulated_ledgers.py [RUNS]     # 10,000 by default: a Monte-Carlo standard error of 0.2 points

Two models, of which each knows an item or not; the four combinations have known rates. Who does not know an item guesses one of its
choices, or says nothing. Items share clusters and histories, which make their states alike. `test_ledger_coverage.py` runs the same with
few runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2])]

from evaluators import statistics  # noqa: E402 - a script has its own folder on the path
from evaluators.statistics import Dependence  # noqa: E402
from iit_bench.types import TRANSITIONS  # noqa: E402

KNOWS_BASE, KNOWS_RUN = (0, 1), (1, 2)  # places in TRANSITIONS


@dataclass(frozen=True)
class Scenario:
    """What is drawn in each run."""

    rates: tuple[float, float, float, float]  # true rates of TRANSITIONS
    choices: tuple[int, ...] = (4,)  # numbers of choices, each as likely
    items: int = 300
    of_cluster: int = 1  # items that share a cluster
    alike: float = 0.0  # share of items that have the state of their cluster
    histories: int = 0  # history clusters, each of which serves items / histories targets; 0 = none
    by_history: float = 0.3  # share of items that have the state of their history
    silent: float = 0.0  # share of unknown items that are not answered

    @property
    def inside(self) -> tuple[bool, ...]:
        """Whether the true rate of each transition is inside 0 … 1: at an end, intervals may cover more often."""
        return tuple(0.02 <= rate <= 0.98 for rate in self.rates)


SCENARIOS = {
    "four choices": Scenario((0.1, 0.6, 0.05, 0.25)),
    "two choices, few items": Scenario((0.2, 0.4, 0.2, 0.2), (2,), items=80),
    "mixed choices in clusters": Scenario((0.1, 0.6, 0.05, 0.25), (2, 3, 4, 8), of_cluster=3, alike=0.5),
    "knows little": Scenario((0.05, 0.25, 0.05, 0.65)),
    "knows nearly all": Scenario((0.03, 0.92, 0.02, 0.03), (2, 4)),
    "lost nothing": Scenario((0.0, 0.7, 0.0, 0.3)),
    "knows nothing": Scenario((0.0, 0.0, 0.0, 1.0)),
    "knows all": Scenario((0.0, 1.0, 0.0, 0.0)),
    "seven tiers of one target": Scenario((0.1, 0.5, 0.1, 0.3), items=1400, of_cluster=7, alike=0.8),
    "shared histories": Scenario((0.1, 0.6, 0.05, 0.25), histories=49),
    "says nothing half of the time": Scenario((0.1, 0.5, 0.1, 0.3), (2, 4), silent=0.5),
}


def draw(scenario: Scenario, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, Dependence]:
    """`statistics.known` of both sides, chance per item, and which items depend on each other."""
    n = scenario.items
    cluster = np.arange(n) // scenario.of_cluster
    state = rng.choice(4, n, p=scenario.rates)
    state = np.where(rng.random(n) < scenario.alike, rng.choice(4, n, p=scenario.rates)[cluster], state)
    histories = None
    if scenario.histories:
        history = rng.permutation(np.arange(n) % scenario.histories)
        state = np.where(rng.random(n) < scenario.by_history, rng.choice(4, scenario.histories, p=scenario.rates)[history], state)
        histories = [[int(one)] for one in history]
    chance = 1 / rng.choice(scenario.choices, n)[cluster]
    sides = []
    for knows in (KNOWS_BASE, KNOWS_RUN):
        known, answers = np.isin(state, knows), rng.random(n) >= scenario.silent
        right = known | (answers & (rng.random(n) < chance))
        sides.append(statistics.known(right, known | answers, chance))
    return sides[0], sides[1], chance, Dependence.of(cluster, histories=histories)


def coverage(scenario: Scenario, runs: int, seed: int = 20) -> tuple[dict[str, float], dict[str, float]]:
    """Transition -> share of runs whose interval holds the true rate, and -> mean estimate."""
    rng = np.random.default_rng(seed)
    covered, total = dict.fromkeys(TRANSITIONS, 0), dict.fromkeys(TRANSITIONS, 0.0)
    for _ in range(runs):
        found = statistics.corrected_rates(*draw(scenario, rng))
        for name, rate in zip(TRANSITIONS, scenario.rates, strict=True):
            figure = found[name]
            assert figure.value is not None and figure.low is not None and figure.high is not None
            covered[name] += figure.low <= rate <= figure.high
            total[name] += figure.value
    return {name: n / runs for name, n in covered.items()}, {name: value / runs for name, value in total.items()}


def main(runs: int) -> None:
    """Print coverage and mean estimate of every scenario."""
    error = 100 * (0.95 * 0.05 / runs) ** 0.5
    print(f"{runs:,} runs; Monte-Carlo standard error of a coverage of 95%: {error:.2f} points")
    for name, scenario in SCENARIOS.items():
        covered, mean = coverage(scenario, runs)
        cells = [
            f"{what} {rate:.2f} (mean {mean[what]:.3f}) {100 * covered[what]:.1f}%"
            for what, rate in zip(TRANSITIONS, scenario.rates, strict=True)
        ]
        print(f"{name}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
