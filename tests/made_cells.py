"""Cells of an experiment with effects that are known: made up by random draws, for tests only. No model was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iit_bench.lab import cells
from iit_bench.lab.cells import Attention, Cell, CellResult, Count, Item, Point, Role

Levels = Mapping[str, float]  # tier -> probability of a right answer
TIERS = ("T", "TT", "VT", "V", "TV", "VV")
BASE = {"T": 0.9, "TT": 0.9}
ABLATIONS = ("wings-visual", "wings-rank-4", "replay", "wings-released")
ROLES: Mapping[str, Role] = {"control": "control", **dict.fromkeys(ABLATIONS, "ablation")}
LABELS = {"wings": "Wings", "full": "full tuning", "lora": "LoRA", "control": "text-only control", "base": "base LLM"}


def levels(text: float, after: float, vqa: float) -> Levels:
    """By tier, from three probabilities."""
    return {tier: after if tier.endswith("T") and "V" in tier else text if "V" not in tier else vqa for tier in TIERS}


# method -> rate -> levels: Wings keeps 10 points more text at 2e-4 and 20 at 1e-3, loses 10 after an image, and sees 5 points less.
KNOWN: Mapping[str, Mapping[float, Levels]] = {
    "full": {2e-5: levels(0.88, 0.85, 0.55), 2e-4: levels(0.75, 0.70, 0.75), 1e-3: levels(0.55, 0.50, 0.80)},
    "wings": {2e-5: levels(0.89, 0.75, 0.50), 2e-4: levels(0.85, 0.60, 0.70), 1e-3: levels(0.75, 0.40, 0.75)},
    "control": {2e-5: levels(0.89, 0.88, 0.35), 2e-4: levels(0.80, 0.78, 0.35), 1e-3: levels(0.65, 0.60, 0.35)},
    "wings-visual": {2e-4: levels(0.85, 0.60, 0.68)},
}


def write(
    folder: Path,
    methods: Mapping[str, Mapping[float, Levels]] = KNOWN,
    seeds: Sequence[int] = (0, 1, 2),
    n: int = 120,
    spread: float = 0.02,
    draw: int = 0,
    **changes: Any,
) -> Path:
    """A folder of cells, and of the base's.

    Args:
        folder: where; made if it is not there.
        methods: see `KNOWN`.
        seeds: of every arm.
        n: targets per tier, two of which share a cluster.
        spread: standard deviation of a seed's own effect.
        draw: seed of the random draws.
        changes: fields of every cell's record.
    """
    rng = np.random.default_rng(draw)
    hardness = {kind: np.repeat(rng.normal(0, 0.1, (n + 1) // 2), 2)[:n] for kind in "TV"}

    def put(method: str, rate: float, seed: int, by_tier: Levels) -> None:
        rows, scores = [], {}
        own = {kind: rng.normal(0, spread if method != "base" else 0.0) for kind in "TV"}
        for tier, level in by_tier.items():
            kind = tier[-1]
            right = rng.random(n) < np.clip(level + hardness[kind] + own[kind], 0.02, 0.98)
            scores[tier] = Count(n, int(right.sum()))
            rows += [_item(tier, place, bool(one)) for place, one in enumerate(right.tolist())]
        cells.write(
            folder,
            _result(
                Cell(method=method, label=LABELS.get(method, method), role=ROLES.get(method, "main"), rate=rate, seed=seed),
                scores,
                by_tier,
                changes,
            ),
            rows,
        )

    put("base", 0.0, 0, BASE)
    for method, rates in methods.items():
        for rate, by_tier in rates.items():
            for seed in seeds:
                put(method, rate, seed, by_tier)
    return folder


def _item(tier: str, place: int, right: bool) -> Item:
    kind = "facts" if tier.endswith("T") else "digits"
    return Item(
        item=f"{kind}/{place}",
        tier=tier,
        source=kind,
        kind="all",
        cluster=f"{kind} {place // 2}",
        correct=right,
        margin=1.0 if right else -1.0,
    )


def _curves(cell: Cell) -> dict[str, tuple[float, ...]]:
    """A token after the image has 2 + seed times the weight of one before it, in each layer."""
    return {"before": (0.01,) * 4, "image": (0.1,) * 4, "after": (0.01 * (2 + cell.seed),) * 4}


def _result(cell: Cell, scores: Mapping[str, Count], by_tier: Levels, changes: Mapping[str, Any]) -> CellResult:
    trained = cell.method != "base"
    shift = 0.2 + (BASE["T"] - by_tier["T"]) + 0.01 * cell.seed
    seen = Attention(items=20, shifts=20, layers=(0, 1, 2, 3), shift=shift, low=shift - 0.1, high=shift + 0.1, curves=_curves(cell))
    cost = {"stage1": 30.0, "train": 150.0 if cell.method == "wings" else 100.0, "score": 20.0, "attention": 5.0}
    fields: dict[str, Any] = {
        "cell": cell,
        "identity": "0" * 64,
        "recipes": (),
        "inputs": {"llm": "a" * 64, "tower": "b" * 64, "benchmark": "c" * 64},
        "versions": {"torch": "2.14", "iit_bench": "made up"},
        "parameters": {"trained": 2_000_000 if trained else 0, "total": 3_000_000},
        "seconds": cost,
        "cpu_seconds": cost,
        "tokens": 100_000 if trained else 0,
        "steps": 400 if trained else 0,
        "path": tuple(Point(step=step, scores={"V": Count(100, 50), "T": Count(100, 80)}) for step in (200, 400)) if trained else (),
        "scores": scores,
        "sources": {},
        "attention": seen if trained else None,
    }
    return CellResult(**(fields | changes))
