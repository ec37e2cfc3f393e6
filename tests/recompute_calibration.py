"""Calibration of a run by other means than evaluators/: `python tests/recompute_calibration.py RUN` prints it.

From the table with pandas, item by item in plain Python, variances as sums over clusters. Imports nothing of the project.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

ENDINGS = {"text": "T", "visual": "V", "all": "TV"}


def probabilities(row: Any, per_character: bool, letters: bool) -> list[float]:
    """Of the choices of one row."""
    scores = [
        score / len(choice) if per_character and not letters else score for score, choice in zip(row.logprobs, row.choices, strict=True)
    ]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def labels(rows: pd.DataFrame) -> list[int]:
    """Connected components of group and cluster, by repeated relabelling."""
    label = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for column in ("group", "cluster"):
            least = pd.Series(label).groupby(rows[column].to_numpy()).transform("min").tolist()
            changed |= least != label
            label = least
    return label


def by_clusters(values: np.ndarray, label: list[int]) -> tuple[float, float, float]:
    """Mean, and Student's interval on clusters."""
    mean = values.mean()
    sums = pd.Series((values - mean) / len(values)).groupby(label).sum()
    sizes = pd.Series(label).value_counts() / len(values)
    g = len(sums)
    half = stats.t.ppf(0.975, 1 / (sizes**2).sum() - 1) * math.sqrt((sums**2).sum() * g / (g - 1))
    return mean, mean - half, mean + half


def recompute(run: Path, per_character: bool) -> dict[str, dict[str, Any]]:
    """Per kind of target: n, accuracy, confidence, overconfidence and Brier score with one-way intervals, the plain calibration error."""
    rows = pd.read_parquet(run / "predictions.parquet")
    rows = rows[rows["is_target"] & (rows["outcome"] != "error")]
    letters = json.loads((run / "run.json").read_text())["style"] == "letters"
    found = {}
    for name, endings in ENDINGS.items():
        mine = rows[rows["tier"].str[-1].isin(list(endings))].reset_index(drop=True)
        if not len(mine):
            continue
        each = [probabilities(row, per_character, letters) for row in mine.itertuples()]
        confidence = np.array([max(one) for one in each])
        right = np.array([one.index(max(one)) == answer for one, answer in zip(each, mine["answer"], strict=True)], dtype=float)
        brier = np.array([sum((p - (i == a)) ** 2 for i, p in enumerate(one)) for one, a in zip(each, mine["answer"], strict=True)])
        label = labels(mine)
        number = max(1, min(10, len(mine) // 20))
        edges = [np.quantile(confidence, k / number) for k in range(1, number)]
        place = np.array([sum(edge < one for edge in edges) for one in confidence])
        gaps = [abs((right - confidence)[place == b].sum()) / len(mine) for b in set(place.tolist())]
        found[name] = {
            "n": len(mine),
            "accuracy": right.mean(),
            "confidence": confidence.mean(),
            "overconfidence": by_clusters(confidence - right, label),
            "brier": by_clusters(brier, label),
            "ece_plain": sum(gaps),
            "shared": bool(len(mine) and mine["history_clusters"].map(len).max() > 0),
        }
    return found


if __name__ == "__main__":
    for metric in (False, True):
        print("per character" if metric else "sums", json.dumps(recompute(Path(sys.argv[1]), metric), indent=1, default=float))
