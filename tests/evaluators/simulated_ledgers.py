"""How often the intervals of a ledger's rates hold the true rates, on simulated models that know items and guess the others.

    python tests/evaluators/simulated_ledgers.py [RUNS]        # 10,000 by default: a Monte-Carlo standard error of 0.2 points
    python tests/evaluators/simulated_ledgers.py RUNS --grid   # every combination of choices, items, clusters and rates: hours at 10,000

Two models, of which each knows an item or not; the four combinations have known rates. Who does not know an item guesses one of its
choices, or says nothing. Items share clusters and histories, which make their states alike. `test_ledger_coverage.py` runs the same with
few runs. Printed per transition: the true rate, the mean estimate, coverage of the corrected rate, and of the rate as it is seen.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2])]

from evaluators import statistics  # noqa: E402 - a script has its own folder on the path
from evaluators.statistics import Dependence  # noqa: E402
from iit_bench.types import TRANSITIONS, Figure, Transition  # noqa: E402

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
    def seen(self) -> tuple[float, ...]:
        """True rates of the transitions as they are seen, lucky guesses among them."""
        lucky = (1 - self.silent) / np.array(self.choices)  # probability that an unknown item is right, by number of choices
        total = np.zeros(4)
        for rate, base, run in zip(self.rates, *(np.isin(range(4), knows) for knows in (KNOWS_BASE, KNOWS_RUN)), strict=True):
            p, q = (np.where(knows, 1.0, lucky) for knows in (base, run))
            total += rate * np.array([(p * (1 - q)).mean(), (p * q).mean(), ((1 - p) * q).mean(), ((1 - p) * (1 - q)).mean()])
        return tuple(total.tolist())


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
    "two choices in clusters of five": Scenario((0.2, 0.4, 0.2, 0.2), (2,), of_cluster=5, alike=0.4),
    "clusters of five, independent": Scenario((0.1, 0.6, 0.05, 0.25), of_cluster=5),
    "clusters of five, nearly as one": Scenario((0.1, 0.6, 0.05, 0.25), (2, 4), of_cluster=5, alike=0.8),
}
ALL_KNOWN = "knows all"  # one outcome only, so that every interval covers always or never


def grid() -> dict[str, Scenario]:
    """Scenarios of every combination of choices, items, clusters and rates."""
    choices = {"2": (2,), "4": (4,), "2-8": (2, 3, 4, 8)}
    clusters = {"singles": (1, 0.0), "fives": (5, 0.0), "fives alike": (5, 0.4), "fives nearly as one": (5, 0.8)}
    rates = {
        "middle": (0.2, 0.4, 0.2, 0.2),
        "usual": (0.1, 0.6, 0.05, 0.25),
        "little": (0.05, 0.25, 0.05, 0.65),
        "nearly all": (0.03, 0.92, 0.02, 0.03),
        "rare": (0.01, 0.8, 0.01, 0.18),
        "lost nothing": (0.0, 0.7, 0.0, 0.3),
    }
    return {
        f"{items} items of {k} choices, {how}, {what}": Scenario(of, choices[k], items, *clusters[how])
        for items, k, how, (what, of) in itertools.product((80, 300, 1200), choices, clusters, rates.items())
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


@dataclass
class Coverage:
    """Of one scenario: transition -> share of runs whose interval holds the true rate, corrected and as seen, and -> mean estimate.

    `few` is the share of runs in which the transition rests on few items (`statistics.few_items`); `corrected_few` and `seen_few` are the
    shares of runs of which that is true and whose interval holds the true rate.
    """

    corrected: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))
    seen: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))
    mean: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))
    few: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))
    corrected_few: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))
    seen_few: dict[Transition, float] = field(default_factory=lambda: dict.fromkeys(TRANSITIONS, 0.0))


def coverage(scenario: Scenario, runs: int, seed: int | tuple[int, ...] = 20) -> Coverage:
    """Draw `runs` pairs of models and ask for the intervals of each."""

    def rate_of(both: np.ndarray, dependence: Dependence) -> Figure:
        count = int(both.sum())
        if not dependence.singletons:
            return statistics.rate(both, dependence)
        if count not in of_count:  # of independent items, all that matters is how many they are
            of_count[count] = statistics.rate(both, dependence)
        return of_count[count]

    of_count: dict[int, Figure] = {}
    rng = np.random.default_rng(seed)
    total, true_seen = Coverage(), scenario.seen
    for _ in range(runs):
        base, run, chance, dependence = draw(scenario, rng)
        found = statistics.corrected_rates(base, run, chance, dependence)
        for place, (name, rate, of_seen) in enumerate(zip(TRANSITIONS, scenario.rates, true_seen, strict=True)):
            figure, right = found[name], [(side == 1) == (place in knows) for side, knows in ((base, KNOWS_BASE), (run, KNOWS_RUN))]
            both = right[0] & right[1]
            few = min(int(both.sum()), int(len(both) - both.sum())) < statistics.FEW
            total.few[name] += few / runs
            cells = (
                (total.corrected, total.corrected_few, figure, rate),
                (total.seen, total.seen_few, rate_of(both, dependence), of_seen),
            )
            for covered, covered_few, one, true in cells:
                assert one.low is not None and one.high is not None
                covered[name] += (one.low <= true <= one.high) / runs
                covered_few[name] += (few and one.low <= true <= one.high) / runs
            total.mean[name] += (figure.value or 0.0) / runs
    return total


def main(runs: int, scenarios: dict[str, Scenario]) -> None:
    """Print coverage and mean estimate of scenarios."""
    error = 100 * (0.95 * 0.05 / runs) ** 0.5
    print(f"{runs:,} runs; Monte-Carlo standard error of a coverage of 95%: {error:.2f} points")
    for name, scenario in scenarios.items():
        of = coverage(scenario, runs)
        cells = [
            f"{what} {rate:.2f} (mean {of.mean[what]:.3f}) {100 * of.corrected[what]:.1f}%, seen {100 * of.seen[what]:.1f}%"
            for what, rate in zip(TRANSITIONS, scenario.rates, strict=True)
        ]
        print(f"{name}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:] if one != "--grid"]
    main(numbers[0] if numbers else 10_000, grid() if "--grid" in sys.argv else SCENARIOS)
