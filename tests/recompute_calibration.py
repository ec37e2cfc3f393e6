"""Calibration of a run by other means than evaluators/: `python tests/recompute_calibration.py RUN PAGE` prints what is off.

PAGE is the model's page in a report. From the run's table with pandas, item by item in plain Python; variances as in
`recompute_statistics.py`; the corrected error's noise by draws of its own: as near as so few draws as the project's can be. Imports
nothing of the project.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

sys.path[:0] = [str(Path(__file__).parents[1])]

from tests.recompute_figures import Check  # noqa: E402 - a script has its own folder on the path
from tests.recompute_pages import check_printed, table_of  # noqa: E402 - a script has its own folder on the path
from tests.recompute_statistics import Dependence, Figure, components, mean  # noqa: E402 - a script has its own folder on the path

ENDS = ("value", "low", "high")
ENDINGS = {"text": "T", "visual": "V", "all": "TV"}
DRAWS = 2000  # of the noise, by the project
OWN_DRAWS = 16_000
FAR = 4.5  # standard deviations of the rank of a quantile among so many draws
RESOLUTION = 1e-5  # to which the project searches


def probabilities(row: Any, per_character: bool, letters: bool) -> list[float]:
    """Of the choices of one row."""
    scores = [
        score / len(choice) if per_character and not letters else score for score, choice in zip(row.logprobs, row.choices, strict=True)
    ]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def mean_by_t(values: np.ndarray, dependence: Dependence) -> Figure:
    """A mean with Student's interval on clusters, two-way where histories are shared."""
    value = float(values.mean())
    variance = dependence.variance((values - value) / len(values)) or 0.0
    half = stats.t.ppf(0.975, dependence.df) * math.sqrt(variance)
    return {"value": value, "low": value - half, "high": value + half}


def of_rows(rows: pd.DataFrame, per_character: bool, letters: bool) -> dict[str, Any]:
    """Every figure over finished targets."""
    each = [probabilities(row, per_character, letters) for row in rows.itertuples()]
    confidence = np.array([max(one) for one in each])
    right = np.array([one.index(max(one)) == answer for one, answer in zip(each, rows["answer"], strict=True)], dtype=float)
    brier = np.array([sum((p - (i == a)) ** 2 for i, p in enumerate(one)) for one, a in zip(each, rows["answer"], strict=True)])
    label, histories = components(rows), list(rows["history_clusters"])
    dependence = Dependence(label, histories)
    place = bins_of(confidence)
    bins = []
    for b in range(place.max() + 1):
        mine = np.flatnonzero(place == b)
        accuracy = mean(right[mine], label[mine], [histories[i] for i in mine])
        bins.append({"confidence": float(confidence[mine].mean()), "accuracy": accuracy})
    ece, far, plain = error(right - confidence, right, place, dependence)
    return {
        "n": len(rows),
        "bins": bins,
        "accuracy": mean(right, label, histories),
        "confidence": float(confidence.mean()),
        "overconfidence": mean_by_t(confidence - right, dependence),
        "brier": mean_by_t(brier, dependence),
        "ece_plain": plain,
        "ece": ece,
        "ece_far": far,
    }


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each item, by edges that lie between equally many."""
    number = max(1, min(10, len(confidence) // 20))
    edges = [np.quantile(confidence, k / number) for k in range(1, number)]
    return pd.factorize(np.array([sum(edge < one for edge in edges) for one in confidence]), sort=True)[0]


def error(gap: np.ndarray, right: np.ndarray, place: np.ndarray, dependence: Dependence) -> tuple[Figure, Figure, float]:
    """The corrected error with its interval; how far each of the three may be off by the project's draws; the error as it is seen."""
    n, number = len(gap), int(place.max()) + 1
    signed = np.array([gap[place == b].sum() / n for b in range(number)])
    plain = float(np.abs(signed).sum())
    share = np.array([(place == b).mean() for b in range(number)])
    shapes = (signed / plain if plain else np.full(number, 1 / number), np.sign(signed) * share)
    scale = covariance(gap, right, place, dependence)
    noise = stats.multivariate_t(shape=scale, df=dependence.df, allow_singular=True, seed=0).rvs(OWN_DRAWS).reshape(OWN_DRAWS, number)
    figure, far = {}, {}
    for end, at, joined in (("low", 0.975, min), ("value", 0.5, np.mean), ("high", 0.025, lambda both: max(plain, *both))):
        rank = FAR * math.sqrt(at * (1 - at) / DRAWS)  # a quantile of few draws is a quantile near it of many
        below, figure[end], beyond = (
            float(joined([least(shape, noise, q, plain) for shape in shapes])) for q in (at + rank, at, at - rank)
        )
        far[end] = max(figure[end] - below, beyond - figure[end])
    return figure, far, plain


def covariance(gap: np.ndarray, right: np.ndarray, place: np.ndarray, dependence: Dependence) -> np.ndarray:
    """Of the bins' parts of the error: products of the clusters' sums, at least what independent items with one error more would give."""
    n, number, g = len(gap), int(place.max()) + 1, dependence.n_clusters
    centred = (gap - pd.Series(gap).groupby(place).transform("mean").to_numpy()) / n
    sums = pd.DataFrame({"u": centred, "target": dependence.target, "bin": place}).pivot_table("u", "target", "bin", "sum", fill_value=0.0)
    found = sum(np.outer(row, row) for row in sums.to_numpy()) * g / (g - 1)
    of_sum = dependence.variance(centred)
    if of_sum is not None and found.sum() > 0:
        found = found * max(1.0, of_sum / found.sum())
    for b in range(number):
        size = int((place == b).sum())
        level = (right[place == b].sum() + 1) / (size + 2)
        found[b, b] = max(found[b, b], level * (1 - level) * size / n**2)
    return np.asarray(found)


def least(shape: np.ndarray, noise: np.ndarray, at: float, plain: float) -> float:
    """The error, 0 … 1, under which the quantile `at` of what is observed is `plain`."""

    def beyond(size: float) -> float:
        return float(np.quantile(np.abs(size * shape + noise).sum(axis=1), at)) - plain

    return 0.0 if beyond(0.0) >= 0 else 1.0 if beyond(1.0) < 0 else float(optimize.brentq(beyond, 0.0, 1.0, xtol=1e-9))


def recompute(run: Path, per_character: bool) -> dict[str, dict[str, Any]]:
    """Per kind of target the figures of its finished targets."""
    rows = pd.read_parquet(run / "predictions.parquet")
    rows = rows[rows["is_target"] & (rows["outcome"] != "error")]
    letters = json.loads((run / "run.json").read_text())["style"] == "letters"
    parts = {name: rows[rows["tier"].str[-1].isin(list(endings))].reset_index(drop=True) for name, endings in ENDINGS.items()}
    return {name: of_rows(mine, per_character, letters) for name, mine in parts.items() if len(mine)}


def check_calibration(check: Check, where: str, stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare a Calibration, as a dict, with `of_rows`."""
    check.same(f"{where} bins", len(stored["bins"]), len(own["bins"]))
    for number, (one, mine) in enumerate(zip(stored["bins"], own["bins"], strict=False)):
        check.same(f"{where} bin {number} confidence", one["confidence"], mine["confidence"])
        check.figure(f"{where} bin {number} accuracy", one["accuracy"], mine["accuracy"])
    check.figure(f"{where} accuracy", stored["accuracy"], own["accuracy"])
    for name in ("confidence", "ece_plain"):
        check.same(f"{where} {name}", stored[name], own[name])
    limits: dict[str, Callable[[float], float]] = {"overconfidence": lambda x: min(1, max(-1, x)), "brier": lambda x: min(2, max(0, x))}
    for name, inside in limits.items():
        for end in ENDS:
            check.same(f"{where} {name} {end}", stored[name][end], inside(own[name][end]))
    for end in ENDS:
        check.same(f"{where} ece {end}", stored["ece"][end], own["ece"][end], own["ece_far"][end] + RESOLUTION)


def check_page(check: Check, run: Path, page: Path) -> None:
    """Compare the table of a model's page, as far as its numbers are printed, with the run's table."""
    for name, per_character in (("sum of log-probabilities", False), ("per character", True)):
        own = recompute(run, per_character)
        for pool, words, *cells in table_of(page.read_text(encoding="utf-8"), "calibration-table"):
            if words == name:
                check_row(check, f"{pool}, {words}", cells, own[pool])


def check_row(check: Check, where: str, cells: Sequence[str], own: Mapping[str, Any]) -> None:
    """Compare mean probability, accuracy, too sure by, calibration error and Brier score, as printed."""
    far = [100 * own["ece_far"][end] for end in ENDS]
    exact = [
        ([100 * own["confidence"]], 1, ()),
        ([*(100 * own["accuracy"][end] for end in ENDS), own["n"]], 1, ()),
        ([100 * own["overconfidence"][end] for end in ENDS], 1, ()),
        ([*(100 * own["ece"][end] for end in ENDS), own["n"]], 1, far),
        ([*(own["brier"][end] for end in ENDS), own["n"]], 3, ()),
    ]
    for number, (cell, (values, decimals, more)) in enumerate(zip(cells, exact, strict=True)):
        check_printed(check, f"{where}, column {number + 1}", cell, values, decimals, more)


def main(arguments: list[str]) -> int:
    """Check a page and print what is off."""
    check = Check()
    check_page(check, *map(Path, arguments))
    print(f"{check.compared} comparisons, {len(check.off)} off", *check.off, sep="\n  ")
    return int(bool(check.off))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
