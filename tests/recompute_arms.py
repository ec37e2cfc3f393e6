"""Recompute the figures of a run's arms from their tables, by other means: `gaps`, `orders` and `needs`. Imports nothing of the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.recompute_figures import pairs, predictions
from tests.recompute_statistics import Figure, both_histories, components, family, mean, moved, paired

ON = ["dialogue", "position"]


def tables(run: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Targets of a run, and of each of its arms by name."""
    style = json.loads((run / "run.json").read_text())["style"]
    arms = sorted(path.parent for path in (run / "arms").glob("*/results.json"))
    every = {folder: predictions(folder, style) for folder in (run, *arms)}
    targets = {folder: rows[rows["is_target"]] for folder, rows in every.items()}
    return targets.pop(run), {folder.name: rows for folder, rows in targets.items()}


def gaps(run: Path) -> dict[str, dict[str, Any]]:
    """Per arm: accuracies of both sides, run minus arm by tier (a family for Holm), and pooled, with all arms as a family."""
    own, arms = tables(run)
    found: dict[str, dict[str, Any]] = {}
    for name, rows in arms.items():
        a, b = pairs(own, rows, ON)
        tiers = list(dict.fromkeys(rows["tier"]))
        by_tier = family([paired(*pairs(own[own["tier"] == tier], rows[rows["tier"] == tier], ON)) for tier in tiers])
        label, histories = components(a), both_histories(a, b)
        found[name] = {
            "acc": mean(a["right"], label, histories),
            "arm_acc": mean(b["right"], label, histories),
            "per_tier": dict(zip(tiers, by_tier, strict=True)),
            "pooled": paired(a, b),
        }
    family([one["pooled"] for one in found.values()])
    return found


def orders(run: Path) -> dict[str, Any]:
    """Of arm `reordered`: share of items whose choice changes, share that is right in every order, accuracy by places moved."""
    own, arms = tables(run)
    a, b = pairs(own, arms["reordered"], ON)
    whole = np.array([len(one) > 0 for one in b["moved_choices"]])
    a, b = a[whole], b[whole]
    chosen = [[first, *others] for first, others in zip(a["chosen"], b["moved_choices"], strict=True)]
    right = [[one == answer for one in row] for row, answer in zip(chosen, a["answer"], strict=True)]
    label, histories = components(a), both_histories(a, b)
    most = max(map(len, chosen))
    by_places: list[Figure | None] = []
    for places in range(most):
        has = np.array([len(row) > places for row in right])
        parts = (np.array([row[places] for row in right if len(row) > places]), components(a[has]), both_histories(a[has], b[has]))
        by_places.append(mean(*parts))
    return {
        "flip_rate": mean([float(any(one != row[0] for one in row)) for row in chosen], label, histories),
        "always_right": mean([float(all(row)) for row in right], label, histories),
        "accuracy": by_places,
    }


def needs(run: Path) -> dict[str, Any]:
    """What visual targets need, from arms `blind` and `wordless`: accuracy, chance, shares above guessing, counts by need."""
    own, arms = tables(run)
    found: dict[str, Any] = {}
    finished = {name: pairs(own, arms[name], ON) for name in ("blind", "wordless")}
    for name, (a, b) in finished.items():
        acc = mean(b["right"], components(a), both_histories(a, b))
        chance = float(b["chance"].mean())
        found[name] = {"acc": acc, "chance": chance, "solvable": moved(acc, 1 / (1 - chance), -chance / (1 - chance))}
    a, b = finished["blind"]
    words = finished["wordless"][1].set_index("dialogue")["right"]
    kept = a["dialogue"].isin(words.index).to_numpy()
    a, b = a[kept], b[kept]
    kinds = [
        {(1, 1): "either", (1, 0): "text", (0, 1): "image"}.get((int(blind), int(words[dialogue])), "both" if right else "unsolved")
        for dialogue, right, blind in zip(a["dialogue"], a["right"], b["right"], strict=True)
    ]
    label, histories = components(a), both_histories(a, b)
    found["shares"] = {
        need: mean([float(kind == need) for kind in kinds], label, histories) for need in ("text", "image", "either", "both", "unsolved")
    }
    return found
