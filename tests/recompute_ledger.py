"""The forgetting ledger again, item by item: what `recompute_figures.py` compares with. Imports nothing of the project.

Corrected rates come from solving, per item, the equations of a guess; the mean squares and cubes behind their intervals from summing over
both sides' guesses; the intervals as roots.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tests.recompute_statistics import Dependence, Figure, Z, both_histories, components, mean

NAMES = ("lost", "kept", "gained", "never")
STATES = {"lost": (1, 0), "kept": (1, 1), "gained": (0, 1), "never": (0, 0)}  # right, or known, in (base, run)


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
    sides = [estimates(rows) for rows in (base, run)]
    k = np.array([len(one) for one in base["choices"]], dtype=float)
    guessing = [guess_share(side) for side in sides]
    dependence = Dependence(components(base), both_histories(base, run))
    return {name: share(of(name, *sides), dependence, mean_powers(name, k, guessing)) for name in NAMES}


def guess_share(side: np.ndarray) -> float:
    """Of the items that a side does not know, the share that it guesses instead of saying nothing."""
    silent, unknown = float((side == 0).mean()), float((1 - side).mean())
    return 1 - min(1.0, silent / unknown) if unknown > 0 else 1.0


def mean_powers(name: str, k: np.ndarray, guessing: Sequence[float]) -> list[np.ndarray]:
    """Mean square and cube of the products where a transition is true, then where each other one is: sums over what both may say."""
    means = {}
    for state, knows in STATES.items():
        total = np.zeros(2)
        for said in itertools.product(("right", "wrong", "nothing"), repeat=2):
            chance, sides = np.ones(len(k)), []
            for what, knew, guesses in zip(said, knows, guessing, strict=True):
                unknown = {"right": guesses / k, "wrong": guesses * (1 - 1 / k), "nothing": np.full(len(k), 1 - guesses)}[what]
                chance = chance * (float(what == "right") if knew else unknown)
                sides.append({"right": np.ones(len(k)), "wrong": -1 / (k - 1), "nothing": np.zeros(len(k))}[what])
            product = of(name, *sides)
            total += [float((chance * product**2).mean()), float((chance * product**3).mean())]
        means[state] = total
    return [means[name], *(value for state, value in means.items() if state != name)]


def seen_share(x: np.ndarray, dependence: Dependence) -> Figure | None:
    """Of the items of which `x` is 1; where it is not seen, the number is 0."""
    return share(x, dependence, [np.ones(2), np.zeros(2)]) if len(x) else None


def share(x: np.ndarray, dependence: Dependence, powers: Sequence[np.ndarray]) -> Figure:
    """The mean of `x` with its interval; `powers`: mean square and cube of an item of which it is true, then of the others' kinds."""
    n, own, others = len(x), powers[0], np.array(powers[1:])
    value = round(float(x.mean()), 12)
    seen = np.array([float((x**2).mean()), float((x**3).mean())])
    left = others.min(axis=0) if value == 1 else np.clip((seen - value * own) / (1 - value), others.min(axis=0), others.max(axis=0))
    missing = max(0.0, seen[0] - float(value * own[0] + (1 - value) * left[0]))
    pi = np.polynomial.Polynomial([0.0, 1.0])
    square, cube = (pi * float(a) + (1 - pi) * float(b) for a, b in zip(own, left, strict=True))
    square = square + missing
    variance, third = square - pi**2, cube - 3 * pi * square + 2 * pi**3
    items = effective((x - value) / n, dependence, value, lambda rate: float(variance(rate)))

    def bound(middle: float, pick: Any) -> float:
        found = ((middle - pi) ** 2 - variance * (Z**2 / items)).roots()
        return float(pick(found.real))

    bounds = []
    for pick in (min, max):
        plain = float(np.clip(bound(value, pick), 0, 1))
        skew = float(third(plain) / variance(plain)) if variance(plain) > 1e-12 else float(own[1] / own[0])
        bounds.append(bound(value - (Z**2 - 1) / 6 * skew / items, pick))
    spread = dependence.variance((x - value) / n)
    se = None if spread is None else math.sqrt(max(0.0, spread))
    return {
        "value": value,
        "low": min(value, bounds[0]),
        "high": max(value, bounds[1]),
        "se": se,
        "n": n,
        "clusters": dependence.n_clusters,
    }


def effective(u: np.ndarray, dependence: Dependence, value: float, variance: Callable[[float], float]) -> float:
    """Items over the design effect, which is at least 1 and leans, by one degree of freedom, to clusters that are half as one."""
    n = len(u)
    independent, as_one, history = dependence.sizes()
    if not dependence.shared and dependence.n_clusters == n:
        return float(n)
    by_clusters = dependence.variance(u)
    if by_clusters is None:
        return as_one
    sums = np.array([float(part.sum()) for _, part in pd.Series(u).groupby(dependence.target)])
    usual = (n * float(np.clip(value, 0, 1)) + 1) / (n + 2)
    before = 1 + 0.5 * (independent / min(as_one, history) - 1) * min(1.0, usual * (1 - usual) / max(variance(usual), 1e-12))
    degrees, effect = 0.0, 1.0
    if float((sums**2).sum()) > 1e-12 / n**2:
        kurtosis = len(sums) * float((sums**4).sum()) / float((sums**2).sum()) ** 2
        degrees = min(2 * len(sums) / max(kurtosis - 1, 1e-12 * len(sums)), dependence.df)
        effect = by_clusters / float((u**2).sum())
    effect = max(1.0, np.average([effect, before], weights=[degrees, 1]))
    certain = math.inf if effect == 1 else dependence.df / (1 - 1 / effect) ** 2
    t = float(stats.t.ppf(0.975, certain)) if 0 < certain < 1e9 else Z
    return max(n / effect * (Z / t) ** 2, min(as_one, history, n / effect))


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
        dependence = Dependence(components(of_base), both_histories(of_base, of_run))
        fixed = corrected(of_base, of_run)
        for name in NAMES:
            check.same(f"{place} {name}", part["counts"][name], int(seen[name].sum()))
            check.figure(f"{place} {name} rate", part["rates"][name], seen_share(seen[name], dependence))
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
