"""The decision of a run until decided by other means than evaluators/: `python tests/recompute_decision.py RUN BASE` prints what is off.

Reads run.json and the two tables with pandas; components by union-find, the order by hashlib, e-values as products of Python floats, the
interval on a grid. Imports nothing of the project.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd

BETS = [0.02 + 0.04 * i for i in range(25)]


def clusters_in_order(base: pd.DataFrame, seed: int) -> list[set[str]]:
    """Dialogues of each cluster: rows that share a group or a cluster, by the hash of the seed and the first group."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            node = parent[node]
        return node

    for group, cluster in zip(base["group"], base["cluster"], strict=True):
        parent[root(f"g {group}")] = root(f"c {cluster}")
    members: dict[str, list[tuple[str, str]]] = {}
    for dialogue, group in zip(base["dialogue"], base["group"], strict=True):
        members.setdefault(root(f"g {group}"), []).append((dialogue, group))
    first = {hashlib.sha256(f"{seed}\n{min(g for _, g in one)}".encode()).hexdigest(): {d for d, _ in one} for one in members.values()}
    return [first[digest] for digest in sorted(first)]


def e_value(sums: list[tuple[float, int]], largest: int, threshold: float, sign: int) -> list[float]:
    """After each cluster: mean over the bets of the product of 1 + λ·x."""
    capital, after = [1.0] * len(BETS), []
    for loss, n in sums:
        x = sign * (loss - threshold * n) / largest
        capital = [one * (1 + bet / (1 + sign * threshold) * x) for one, bet in zip(capital, BETS, strict=True)]
        after.append(sum(capital) / len(BETS))
    return after


def recompute(run: Path, base: Path) -> dict[str, Any]:
    """The fields of `decision` that can be computed from the tables."""
    until = json.loads((run / "run.json").read_text())["until"]
    tiers = json.loads((run / "run.json").read_text())["tiers"]
    mine, theirs = (pd.read_parquet(folder / "predictions.parquet") for folder in (run, base))
    theirs = theirs[theirs["is_target"] & theirs["tier"].isin(tiers)]
    order = clusters_in_order(theirs, until["seed"])
    both = mine[mine["is_target"]].merge(theirs, on=["dialogue", "position"], suffixes=("", "_base"))
    both = both[(both["outcome"] != "error") & (both["outcome_base"] != "error")]
    lost = dict(
        zip(both["dialogue"], both["outcome_base"].eq("correct").astype(int) - both["outcome"].eq("correct").astype(int), strict=True)
    )
    answered = set(theirs.loc[theirs["outcome"] != "error", "dialogue"])
    largest = max(len(cluster & answered) for cluster in order)
    asked = [cluster for cluster in order if cluster & set(mine["dialogue"])]
    assert asked == order[: len(asked)]
    sums = [(sum(lost[d] for d in cluster if d in lost), sum(d in lost for d in cluster)) for cluster in asked]
    for_loss, against = e_value(sums, largest, 0.0, 1), e_value(sums, largest, until["margin"], -1)
    needed = 2 / until["alpha"]
    hits = [i + 1 for i in range(len(sums)) if max(for_loss[i], against[i]) >= needed]
    n = hits[0] if hits else len(sums)
    grid = [step / 1000 - 1 for step in range(1, 2000)]
    kept = [m for m in grid if _never(sums[:n], largest, m, 1, needed) and _never(sums[:n], largest, m, -1, needed)]
    return {
        "verdict": "undecided" if not hits else "lost" if for_loss[n - 1] >= against[n - 1] else "not lost",
        "groups": theirs.loc[theirs["dialogue"].isin(set().union(*order[:n])), "group"].nunique(),
        "of_groups": theirs["group"].nunique(),
        "e_lost": for_loss[n - 1],
        "e_not_lost": against[n - 1],
        "value": sum(s for s, _ in sums[:n]) / sum(k for _, k in sums[:n]),
        "n": sum(k for _, k in sums[:n]),
        "interval": (min(kept), max(kept)),
    }


def _never(sums: list[tuple[float, int]], largest: int, threshold: float, sign: int, needed: float) -> bool:
    return max(e_value(sums, largest, threshold, sign)) < needed


def off(run: Path, base: Path) -> list[str]:
    """What differs from results.json."""
    stored, here = json.loads((run / "results.json").read_text())["decision"], recompute(run, base)
    wrong = [
        f"{name}: {stored[name]} there, {here[name]} here" for name in ("verdict", "groups", "of_groups") if stored[name] != here[name]
    ]
    pairs = {"e_lost": stored["e_lost"], "e_not_lost": stored["e_not_lost"], "value": stored["loss"]["value"], "n": stored["loss"]["n"]}
    wrong += [
        f"{name}: {value} there, {here[name]} here"
        for name, value in pairs.items()
        if not math.isclose(value, here[name], rel_tol=1e-9, abs_tol=1e-12)
    ]
    for name, bound in zip(("low", "high"), here["interval"], strict=True):
        if abs(stored["loss"][name] - bound) > 0.0011:  # the grid has steps of 0.001
            wrong.append(f"{name}: {stored['loss'][name]} there, {bound} here")
    return wrong


if __name__ == "__main__":
    found = off(Path(sys.argv[1]), Path(sys.argv[2]))
    print("\n".join(found) or "nothing is off")
    sys.exit(bool(found))
