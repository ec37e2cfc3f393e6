"""How often are runs that stop when they are decided wrong, and how early do they stop? (docs/spec/iit.md#decided-runs)

    python benchmarks/decided_runs.py [--runs 10000] [--demo RUN_BASE RUN | --shared BENCH | --few-histories]

Simulates runs whose truth is known: clusters of items that depend on each other, most of them tied. On the border of either null
hypothesis a decision against it is false; at most 5% may be. Of runs with a true loss of any size, those are counted whose decision
contradicts that of the whole run's own 95% interval. With two run folders it asks their clusters in the order of many seeds instead, and
prints after how many groups the run would have stopped. With a benchmark folder, whose history clusters serve several targets, it simulates
the nulls over its dialogues, where a share of the items turns out as a history cluster of theirs says; with `--few-histories` over made-up
targets with fewer and fewer histories, which is where the limit of runs that may stop comes from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluators.statistics import components
from evaluators.statistics.sequential import ALPHA, above, below

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
GROUPS = 300
MARGIN = 0.02
BLOCK = 2000  # simulated runs at once
LOSSES = (0.0, MARGIN, -0.01, 0.01, 0.04)


def simulate(rng: np.random.Generator, runs: int, groups: int, *, loss: float, discordance: float, items: int, alike: float) -> Floats:
    """Sums of differences per cluster, [runs, groups]: an item is lost, gained or tied, with mean `loss`.

    Args:
        rng: draws.
        runs, groups: how many.
        loss: mean difference.
        discordance: share of items that are lost or gained.
        items: per cluster.
        alike: probability that an item repeats the first of its cluster, as the same target under another history does.
    """
    lost, gained = (discordance + loss) / 2, (discordance - loss) / 2

    def draw() -> Floats:
        u = rng.random((runs, groups))
        return np.where(u < lost, 1.0, np.where(u < lost + gained, -1.0, 0.0))

    first = draw()
    total = first.copy()
    for _ in range(items - 1):
        total += np.where(rng.random((runs, groups)) < alike, first, draw())
    return total


def decisions(sums: Floats, items: int | Ints, margin: float = MARGIN, alpha: float = ALPHA) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Clusters until each run was decided (0 = never), and whether the decision was `lost`, [runs]. `items`: per cluster, or of each."""
    size = np.broadcast_to(np.asarray(items, dtype=np.float64), sums.shape)
    largest = float(size.max())
    lost, not_lost = above(sums, size, largest, 0.0), below(sums, size, largest, margin)
    reached = np.maximum(lost, not_lost) >= 2 / alpha
    at = reached.argmax(axis=-1)
    rows = np.arange(len(sums))
    return np.where(reached.any(axis=-1), at + 1, 0), lost[rows, at] >= not_lost[rows, at]


def whole(sums: Floats, items: int, margin: float = MARGIN) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the whole run's 95% interval (normal, clustered) is above 0, and below the margin, [runs]."""
    x = sums / items
    half = 1.96 * x.std(axis=-1, ddof=1) / np.sqrt(x.shape[-1])
    return x.mean(axis=-1) - half > 0, x.mean(axis=-1) + half < margin


SCENES = {  # discordance, items of a cluster, how alike they are
    "ties, independent items": (0.04, 1, 0.0),
    "ties, clusters alike": (0.04, 3, 0.9),
    "clusters of 7": (0.2, 7, 0.6),
    "much discordance": (0.5, 3, 0.3),
}


def table(runs: int, seed: int = 0, losses: Sequence[float] = LOSSES) -> list[tuple[str, str, float, float, float, float]]:
    """(scene, truth, false decisions, decided, opposite to the whole run's, median clusters of the decided) per line."""
    lines = []
    for scene, (discordance, items, alike) in SCENES.items():
        for loss in losses:
            if abs(loss) > discordance:
                continue
            rng = np.random.default_rng([seed, items, round(1000 * loss) + 1000])
            false = decided = opposite = 0
            after: list[int] = []
            for first in range(0, runs, BLOCK):
                n = min(BLOCK, runs - first)
                sums = simulate(rng, n, GROUPS, loss=loss, discordance=discordance, items=items, alike=alike)
                stopped, is_lost = decisions(sums, items)
                some = stopped > 0
                false += int(np.sum(some & ((is_lost & (loss <= 0)) | (~is_lost & (loss >= MARGIN)))))
                decided += int(some.sum())
                above_zero, below_margin = whole(sums, items)
                opposite += int(np.sum(some & np.where(is_lost, below_margin & ~above_zero, above_zero & ~below_margin)))
                after += stopped[some].tolist()
            middle = float(np.median(after)) if after else float("nan")
            lines.append((scene, f"{100 * loss:+.0f} points", false / runs, decided / runs, opposite / runs, middle))
    return lines


# ---------------------------------------------------------------- histories that serve several targets


@dataclass(frozen=True, eq=False)
class Design:
    """The text targets of a benchmark, one row per dialogue, and what they share."""

    cluster: Ints  # code of the target's cluster, [n]
    history: Ints  # code of that cluster in the dialogue's history which serves most targets, [n]; -1 without a history
    served: Ints  # targets' clusters per history cluster, [H]

    @classmethod
    def of(cls, bench: Path, tiers: Sequence[str] | None = None) -> Design:
        """Of a benchmark folder; all tiers that end in T if None."""
        of_question, rows = (
            pd.concat([pd.read_parquet(file, columns=columns) for file in sorted((bench / part).glob("*.parquet"))])
            for part, columns in (("questions", ["id", "cluster"]), ("dialogues", ["tier", "group", "turns", "target"]))
        )
        clusters = dict(zip(of_question["id"], of_question["cluster"], strict=True))
        rows = rows[rows["tier"].str.endswith("T") if tiers is None else rows["tier"].isin(tiers)]
        cluster = components(rows["group"], [clusters[target] for target in rows["target"]])
        histories = [sorted({clusters[turn] for turn in turns[:-1]}) for turns in rows["turns"]]
        serves: dict[str, set[int]] = {}
        for target, history in zip(cluster.tolist(), histories, strict=True):
            for one in history:
                serves.setdefault(one, set()).add(target)
        code = {one: i for i, one in enumerate(serves)}
        most = [max(history, key=lambda one: len(serves[one])) if history else None for history in histories]
        return cls(cluster, np.array([-1 if one is None else code[one] for one in most]), np.array([len(one) for one in serves.values()]))


def simulate_shared(
    rng: np.random.Generator, runs: int, design: Design, *, loss: float, discordance: float, by_history: float, alike: float
) -> Floats:
    """Differences per item, [runs, n]: each is lost, gained or tied, with mean `loss`.

    Args:
        rng: draws.
        runs: how many.
        design: what shares what.
        loss: mean difference.
        discordance: share of items that are lost or gained.
        by_history: probability that an item with a history turns out as its history cluster says, the same for all items that have it.
        alike: probability that an item turns out as its target cluster says, instead of by itself.
    """

    def draw(size: int) -> Floats:
        u = rng.random((runs, size))
        return np.where(u < (discordance + loss) / 2, 1.0, np.where(u < discordance, -1.0, 0.0))

    of_history, of_cluster, own = draw(len(design.served)), draw(int(design.cluster.max()) + 1), draw(len(design.cluster))
    u, share = rng.random(own.shape), np.where(design.history >= 0, by_history, 0.0)
    return np.where(u < share, of_history[:, design.history], np.where(u < share + alike, of_cluster[:, design.cluster], own))


def false_decisions(
    rng: np.random.Generator, runs: int, design: Design, *, loss: float, discordance: float, by_history: float, alike: float
) -> tuple[float, float]:
    """Share of runs, each in an order of its own, that are decided against a true null: lost at a loss of 0, not lost at the margin.

    And the variance of a run's mean difference over what it would be if clusters were independent.
    """
    size = np.bincount(design.cluster)
    totals, means, one_way, false = np.eye(len(size))[design.cluster], [], [], 0
    for first in range(0, runs, BLOCK // 4):
        n = min(BLOCK // 4, runs - first)
        items = simulate_shared(rng, n, design, loss=loss, discordance=discordance, by_history=by_history, alike=alike)
        sums = items @ totals
        means.append(items.mean(axis=1))
        one_way.append(((sums - size * items.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / items.shape[1] ** 2)
        order = rng.random(sums.shape).argsort(axis=1)
        stopped, is_lost = decisions(np.take_along_axis(sums, order, 1), size[order])
        false += int(np.sum((stopped > 0) & (is_lost == (loss <= 0))))
    return false / runs, float(np.concatenate(means).var() / np.concatenate(one_way).mean())


AS_SEEN = 0.25  # by history: the variance of the demo's runs is at most 1.08 times what it would be if clusters were independent


def table_shared(bench: Path, runs: int) -> None:
    """Print false decisions on the border of either null, for histories that matter as seen, three times as much, and for all."""
    for tiers in (["T", "TT", "TTT"], None):
        design = Design.of(bench, tiers)
        served = f"{len(design.served)} history clusters serve 1 to {design.served.max()} targets, {design.served.mean():.2f} on average"
        print(f"{', '.join(tiers or ['all tiers that end in T'])}: {len(design.cluster):,} dialogues, {served}")
        print(f"  {'by history':>10}{'discordance':>13}{'true loss':>11}{'false':>8}{'variance':>10}")
        for by_history in (0.0, AS_SEEN, 3 * AS_SEEN, 1.0):
            for discordance in (0.1, 0.5):
                for loss in (0.0, MARGIN):
                    rng, alike = np.random.default_rng(7), (1 - by_history) / 2
                    false, ratio = false_decisions(
                        rng, runs, design, loss=loss, discordance=discordance, by_history=by_history, alike=alike
                    )
                    print(f"  {by_history:10.0%}{discordance:13.0%}{loss:11.0%}{false:8.2%}{ratio:10.2f}", flush=True)


def table_few(runs: int) -> None:
    """Print the most false decisions on either border, for targets with one history each, drawn from fewer and fewer clusters."""
    from evaluators.iit.deciding import served_per_target

    shares = (AS_SEEN, 2 * AS_SEEN, 3 * AS_SEEN, 1.0)
    print("served per target" + "".join(f"{share:8.0%}" for share in shares))
    rng = np.random.default_rng(1)
    for histories in (600, 200, 150, 100, 75, 49):
        _, drawn, served = np.unique(rng.integers(0, histories, GROUPS), return_inverse=True, return_counts=True)
        design = Design(np.tile(np.arange(GROUPS), 2), np.concatenate([np.full(GROUPS, -1), drawn]), served)
        most = [
            max(
                false_decisions(
                    np.random.default_rng(7), runs, design, loss=loss, discordance=some, by_history=share, alike=(1 - share) / 2
                )[0]
                for some in (0.1, 0.5)
                for loss in (0.0, MARGIN)
            )
            for share in shares
        ]
        print(f"{served_per_target(served.tolist()):17.2f}" + "".join(f"{one:8.2%}" for one in most), flush=True)


# ---------------------------------------------------------------- runs that are there


def of_runs(base: Path, run: Path, seeds: int, margin: float) -> None:
    """Print after how many groups a run that is there would have stopped, over many orders."""
    from evaluators.iit.deciding import cluster_sums
    from evaluators.runs.reading import load_run

    sums, size = cluster_sums(load_run(base, "iit"), load_run(run, "iit"))
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(len(sums)) for _ in range(seeds)])
    largest = size.max()
    lost, not_lost = (test(sums[orders], size[orders], largest, at) for test, at in ((above, 0.0), (below, margin)))
    reached = np.maximum(lost, not_lost) >= 2 / ALPHA
    at = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 0)
    rows = np.arange(seeds)
    is_lost = (lost >= not_lost)[rows, np.maximum(at - 1, 0)] & (at > 0)
    print(f"{run.name} against {base.name}: loss {100 * sums.sum() / size.sum():+.1f} points over {len(sums)} clusters, margin {margin:g}")
    print(f"  lost {is_lost.mean():.1%}, not lost {((at > 0) & ~is_lost).mean():.1%}, undecided {(at == 0).mean():.1%}")
    if (at > 0).any():
        quartiles = np.percentile(at[at > 0], [25, 50, 75])
        print(f"  stops after a median of {quartiles[1]:.0f} clusters (quartiles {quartiles[0]:.0f} and {quartiles[2]:.0f})")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="simulated runs per line")
    parser.add_argument("--seeds", type=int, default=2000, help="orders of two run folders")
    parser.add_argument("--margin", type=float, default=MARGIN)
    parser.add_argument("--demo", type=Path, nargs=2, metavar=("RUN_BASE", "RUN"))
    parser.add_argument("--shared", type=Path, metavar="BENCH")
    parser.add_argument("--few-histories", action="store_true")
    options = parser.parse_args()
    if options.few_histories:
        table_few(options.runs)
        return
    if options.shared:
        table_shared(options.shared, options.runs)
        return
    if options.demo:
        of_runs(*options.demo, options.seeds, options.margin)
        return
    print(f"{GROUPS} clusters, margin {MARGIN:g}, {options.runs:,} simulated runs per line")
    print(f"{'':26}{'true loss':>12}{'false':>8}{'decided':>9}{'opposite':>10}{'median':>8}")
    for scene, truth, false, decided, opposite, middle in table(options.runs):
        print(f"{scene:26}{truth:>12}{false:8.2%}{decided:9.1%}{opposite:10.2%}{middle:8.0f}")


if __name__ == "__main__":
    main()
