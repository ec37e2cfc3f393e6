"""The forgetting ledger again, item by item: what `recompute_figures.py` compares with. Imports nothing of the project.

Corrected rates come from solving, per item, the equations of a guess; the mean squares behind their intervals from summing over both sides'
guesses; the intervals as roots.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tests.recompute_statistics import Dependence, Figure, Z, both_histories, components, mean

NAMES = ("lost", "kept", "gained", "never")
STATES = {"lost": (1, 0), "kept": (1, 1), "gained": (0, 1), "never": (0, 0)}  # right, or known, in (base, run)
PSEUDO_SHARE = 1 / 8  # of the pseudo-clusters of `Dependence.effective`


def tier_key(tier: str) -> tuple[float, int, str]:
    """From text-only to multimodal-rich."""
    return (tier.count("V") / len(tier), len(tier), tier)


def parts(base: pd.DataFrame, run: pd.DataFrame, modality: str) -> dict[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]]:
    """(by, part) -> rows of both sides, of all turns (rows that pair, finished on both sides) of the modality."""
    is_of = np.array([tier[position] == modality for tier, position in zip(base["tier"], base["position"], strict=True)], dtype=bool)
    found: dict[tuple[str, str], np.ndarray] = {}
    target = is_of & base["is_target"].to_numpy(dtype=bool)
    found["all", f"{modality}*"] = target
    for column in ("tier", "source"):
        found |= {
            (column, str(value)): target & (base[column] == value).to_numpy() for value in base["tier" if column == "tier" else column]
        }
    both = base["source"] + "/" + base["subject"]
    found |= {("subject", str(value)): target & (both == value).to_numpy() for value in both}
    if not base.loc[is_of, "is_target"].all():
        found |= {("turn", str(value)): is_of & (base["position"] == value).to_numpy() for value in base["position"]}
    kinds = np.array(["none" if len(tier) == 1 else "with image" if "V" in tier[:-1] else "text only" for tier in base["tier"]])
    found |= {("history", str(kind)): target & (kinds == kind) for kind in kinds}
    return {key: (base[rows], run[rows]) for key, rows in found.items() if rows.any() or key[0] == "all"}


def estimates(rows: pd.DataFrame) -> np.ndarray:
    """Per item the number whose mean over guesses is 1 where the item is known and 0 where it is not, by least squares of that system."""
    values = []
    for k, outcome in zip([len(one) for one in rows["choices"]], rows["outcome"], strict=True):
        # Unknowns: what right and wrong count. Known: right = 1. Not known: right/k + wrong (k - 1)/k = 0. Without a choice: 0.
        right, wrong = np.linalg.solve(np.array([[1.0, 0.0], [1 / k, 1 - 1 / k]]), np.array([1.0, 0.0]))
        values.append({"correct": right, "wrong": wrong}.get(outcome, 0.0))
    return np.array(values, dtype=float)


def of(name: str, base: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Per item the product whose mean is the rate of a transition."""
    return np.prod([side if state else 1 - side for side, state in zip((base, run), STATES[name], strict=True)], axis=0)


def corrected(base: pd.DataFrame, run: pd.DataFrame) -> dict[str, Figure | None]:
    """Rates corrected for lucky guesses, with their intervals."""
    if not len(base):
        return dict.fromkeys(NAMES)
    n = len(base)
    sides = [estimates(rows) for rows in (base, run)]
    k = np.array([len(one) for one in base["choices"]], dtype=float)
    dependence = Dependence(components(base), both_histories(base, run))
    alone = not dependence.shared and dependence.n_clusters == n
    guessing = [guess_share(side) for side in sides]
    made: dict[str, Figure | None] = {}
    for name in NAMES:
        x = of(name, *sides)
        value, square = float(x.mean()), float((x**2).mean())
        ends = [float(of(name, *corner).mean()) for corner in itertools.product((np.ones(n), -1 / (k - 1)), repeat=2)]
        spread = (min(ends) - value) ** 2 + (max(ends) - value) ** 2
        u = (x - value) / n
        items = float(n) if alone else dependence.effective(square - value**2, u, PSEUDO_SHARE * spread)
        low, high = inside(value, square, items, *mean_squares(name, k, guessing))
        variance = dependence.variance(u)
        se = None if variance is None else math.sqrt(max(0.0, variance))
        made[name] = {"value": value, "low": low, "high": high, "se": se, "n": n, "clusters": dependence.n_clusters}
    return made


def guess_share(side: np.ndarray) -> float:
    """Of the items that a side does not know, the share that it guesses instead of saying nothing."""
    silent, unknown = float((side == 0).mean()), float((1 - side).mean())
    return 1 - min(1.0, silent / unknown) if unknown > 0 else 1.0


def mean_squares(name: str, k: np.ndarray, guessing: Sequence[float]) -> tuple[float, list[float]]:
    """Mean square of the products where a transition is true, and where each other one is, by summing over what both sides may say."""
    means = {}
    for state, knows in STATES.items():
        total = np.zeros(len(k))
        for said in itertools.product(("right", "wrong", "nothing"), repeat=2):
            chance, sides = np.ones(len(k)), []
            for what, knew, share in zip(said, knows, guessing, strict=True):
                unknown = {"right": share / k, "wrong": share * (1 - 1 / k), "nothing": np.full(len(k), 1 - share)}[what]
                chance = chance * (float(what == "right") if knew else unknown)
                sides.append({"right": np.ones(len(k)), "wrong": -1 / (k - 1), "nothing": np.zeros(len(k))}[what])
            total += chance * of(name, *sides) ** 2
        means[state] = float(total.mean())
    others = [value for state, value in means.items() if state != name]
    return means[name], others


def inside(value: float, square: float, items: float, own: float, others: Sequence[float]) -> tuple[float, float]:
    """The rates π with (value - π)² ≤ z² (πq + (1 - π)r - π²) / items, as roots of a polynomial."""
    other = min(others) if value == 1 else float(np.clip((square - value * own) / (1 - value), min(others), max(others)))
    missing = max(0.0, square - (value * own + (1 - value) * other))
    rate = np.polynomial.Polynomial([0.0, 1.0])
    roots = ((value - rate) ** 2 - Z**2 / items * (rate * own + (1 - rate) * other + missing - rate**2)).roots().real
    return min(value, float(min(roots))), max(value, float(max(roots)))


def raw(base: pd.DataFrame, run: pd.DataFrame) -> dict[str, np.ndarray]:
    """Transition -> per item whether it is the item's."""
    return {
        name: np.array([(a, b) == state for a, b in zip(base["acc"], run["acc"], strict=True)], dtype=float)
        for name, state in STATES.items()
    }


def check_ledger(check: Any, where: str, stored: Mapping[str, Any], base: pd.DataFrame, run: pd.DataFrame) -> None:
    """Compare a Ledger. `base` and `run`: the rows of all turns that pair and that both sides finished, row by row."""
    own = parts(base, run, stored["modality"])
    check.same(f"{where} parts", sorted((one["by"], one["part"]) for one in stored["parts"]), sorted(own))
    for part in stored["parts"]:
        of_base, of_run = own[part["by"], part["part"]]
        place, seen = f"{where} {part['by']} {part['part']}", raw(of_base, of_run)
        joined, histories = components(of_base), both_histories(of_base, of_run)
        fixed = corrected(of_base, of_run)
        for name in NAMES:
            check.same(f"{place} {name}", part["counts"][name], int(seen[name].sum()))
            check.figure(f"{place} {name} rate", part["rates"][name], mean(seen[name], joined, histories))
            check.figure(f"{place} {name} corrected", part["corrected"][name], fixed[name])
    check.same(
        f"{where} lost items",
        [dict(one) | {"dialogues": list(one["dialogues"])} for one in stored["lost"]],
        lost_items(*own["all", f"{stored['modality']}*"]),
    )


def noise_floor(runs: Sequence[pd.DataFrame], modality: str) -> Figure | None:
    """How often two of several repeats disagree, over the targets of the modality that all finished."""
    wanted = [rows[rows["is_target"] & rows["tier"].str.endswith(modality) & (rows["outcome"] != "error")] for rows in runs]
    both = sorted(set.intersection(*(set(rows["dialogue"]) for rows in wanted)))
    done = [rows.set_index("dialogue").loc[both] for rows in wanted]
    couples = [(a["acc"] != b["acc"]).to_numpy(dtype=float) for a, b in itertools.combinations(done, 2)]
    return mean(np.mean(couples, axis=0), components(done[0]), both_histories(done[0], done[0]))


def lost_items(base: pd.DataFrame, run: pd.DataFrame) -> list[dict[str, Any]]:
    """The lost targets, those lost in most tiers first."""
    if not len(base):
        return []
    rows = base.assign(lost=raw(base, run)["lost"])
    made = []
    for (source, subject, question), mine in rows.groupby(["source", "subject", "question"]):
        gone = mine[mine["lost"] == 1]
        if len(gone):
            order = sorted(gone.index, key=lambda i: tier_key(gone.loc[i, "tier"]))
            made.append(
                {
                    "question": question,
                    "source": source,
                    "subject": subject,
                    "dialogues": [gone.loc[i, "dialogue"] for i in order],
                    "n": len(mine),
                }
            )
    return sorted(made, key=lambda one: (-len(one["dialogues"]), one["n"], one["source"], one["subject"], one["question"]))
