"""Coverage of a ledger's intervals in scenes drawn at random, none of which the rule in `evaluators/statistics/rates.py` was chosen on.

    python tests/evaluators/coverage_of_ledgers.py OUT.jsonl [RUNS]    # 120 scenes; 4,000 runs each: about 20 minutes of one core; resumes
    python tests/evaluators/coverage_of_ledgers.py tests/data/coverage_of_ledgers.jsonl --table   # the table of docs/spec/iit.md#ledger

The rule was chosen on `simulated_ledgers.grid`. Here, sizes, choices, clusters, histories and true rates are drawn by `SEED`, and nothing
is tuned afterwards. A *cell* is a transition of a scene, corrected or as seen. Cells are sorted by the items that are expected on the rarer
side of the transition as it is seen. A cell is outside of 94 to 96% where an exact binomial test rejects the nearest of the two, after
Holm's correction over all cells of the file.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binom

sys.path[:0] = [str(Path(__file__).parents[2])]

from evaluators.statistics import holm  # noqa: E402 - a script has its own folder on the path
from iit_bench.types import TRANSITIONS  # noqa: E402
from tests.evaluators.simulated_ledgers import SCENARIOS, Scenario, coverage  # noqa: E402

SEED = 20_261_130
SCENES = 120
BAND = (0.94, 0.96)


def drawn() -> dict[str, Scenario]:
    """Scenes of 100 to 2,000 items, 2 to 4 choices, clusters of up to 5 in half of them, histories and silence in a sixth each."""
    rng = np.random.default_rng(SEED)
    return {f"drawn {place}": _scene(rng) for place in range(SCENES)}


def _scene(rng: np.random.Generator) -> Scenario:
    lost, gained = np.exp(rng.uniform(np.log((0.01, 0.005)), np.log((0.4, 0.3)))).tolist()
    kept = (1 - lost - gained) * rng.uniform(0.05, 0.95)
    items = int(np.exp(rng.uniform(np.log(100), np.log(2000))))
    clusters = int(rng.choice([1, 1, 1, 2, 3, 5]))
    choices: tuple[int, ...] = [(2,), (3,), (4,), (2, 4), (2, 3, 4)][rng.integers(5)]
    alike, of_history, silent = rng.uniform(0, 0.8), rng.uniform(3, 7), rng.uniform(0, 0.5)
    return Scenario(
        (lost, kept, gained, 1 - lost - kept - gained),
        choices,
        items=items,
        of_cluster=clusters,
        alike=alike if clusters > 1 else 0.0,
        histories=int(items / of_history) if rng.random() < 1 / 6 else 0,
        silent=silent if rng.random() < 1 / 6 else 0.0,
    )


@dataclass(frozen=True)
class Cell:
    """One transition of a scene, corrected or as seen."""

    scene: str
    transition: str
    corrected: bool
    rate: float  # the true one
    rarer: float  # items expected on the rarer side of the transition as it is seen
    dependent: bool  # in clusters, or with shared histories
    runs: int
    covered: int
    marked: int  # runs with few items on the rarer side
    covered_marked: int  # of those

    @property
    def p(self) -> float:
        """Of the test that coverage is 94 to 96%: one-sided, at the end of the band that is nearer."""
        below, above = binom.cdf(self.covered, self.runs, BAND[0]), binom.sf(self.covered - 1, self.runs, BAND[1])
        return float(min(1.0, below, above))


def run(out: Path, runs: int) -> None:
    """Append one line per scene; scenes that have a line are not drawn again."""
    done = {json.loads(line)["scene"] for line in out.read_text(encoding="utf-8").splitlines()} if out.exists() else set()
    for place, (name, scene) in enumerate((drawn() | SCENARIOS).items()):
        if name not in done:
            of = {key: {what: round(x, 6) for what, x in by.items()} for key, by in asdict(coverage(scene, runs, (SEED, place))).items()}
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"scene": name, "runs": runs, **of}) + "\n")


def cells(out: Path) -> Iterator[Cell]:
    """The cells of a file."""
    scenes = drawn() | SCENARIOS
    for line in map(json.loads, out.read_text(encoding="utf-8").splitlines()):
        scene = scenes[line["scene"]]
        for name, rate, seen in zip(TRANSITIONS, scene.rates, scene.seen, strict=True):
            for kind in ("corrected", "seen"):
                covered, marked, of_marked = (round(line[key][name] * line["runs"]) for key in (kind, "few", f"{kind}_few"))
                yield Cell(
                    line["scene"],
                    name,
                    kind == "corrected",
                    rate if kind == "corrected" else seen,
                    scene.items * min(seen, 1 - seen),
                    scene.of_cluster > 1 or scene.histories > 0,
                    line["runs"],
                    covered,
                    marked,
                    of_marked,
                )


def table(found: list[Cell]) -> Iterator[str]:
    """Lines of a table in Markdown: a row per kind of cell, then what is outside, then coverage with and without the mark of few items."""
    adjusted = dict(zip(found, holm([cell.p for cell in found]), strict=True))
    yield "| items | expected on the rarer side | rates | cells | in 94–96% as drawn | not outside (Holm) | mean | lowest – highest |"
    yield "|---|---|---|---|---|---|---|---|"
    kinds = itertools.product((False, True), ((20, np.inf), (3, 20), (0, 3)), (True, False))
    for dependent, (low, high), corrected in kinds:
        of = [c for c in found if (c.dependent, c.corrected) == (dependent, corrected) and low <= c.rarer < high]
        if of:
            share = np.array([c.covered / c.runs for c in of])
            inside = np.sum((share >= BAND[0]) & (share <= BAND[1]))
            allowed = sum((adjusted[c] or 0.0) >= 0.05 for c in of)
            yield "| {} | {} | {} | {} | {} | {} | {:.1f} | {:.1f} – {:.1f} |".format(
                "in clusters or after shared histories" if dependent else "independent",
                f"{low} to {high}" if high < np.inf else f"{low} or more",
                "corrected" if corrected else "as seen",
                len(of),
                inside,
                allowed,
                *(100 * x for x in (share.mean(), share.min(), share.max())),
            )
    for cell in sorted(found, key=lambda c: c.p):
        if (adjusted[cell] or 0.0) < 0.05:
            yield f"outside: {cell}, coverage {cell.covered / cell.runs:.4f}"
    runs, marked = sum(c.runs for c in found), sum(c.marked for c in found)
    covered, of_marked = sum(c.covered for c in found), sum(c.covered_marked for c in found)
    yield f"marked: {100 * marked / runs:.1f}% of the rates, {100 * of_marked / max(1, marked):.2f}% of them covered"
    yield f"not marked: {100 * (covered - of_marked) / max(1, runs - marked):.2f}% covered"


def main(arguments: list[str]) -> None:
    """Simulate what is missing in the file, or print its table."""
    out = Path(arguments[0])
    if "--table" in arguments:
        print("\n".join(table(list(cells(out)))))
    else:
        run(out, int(arguments[1]) if len(arguments) > 1 else 4000)


if __name__ == "__main__":
    main(sys.argv[1:])
