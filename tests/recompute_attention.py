"""Recomputes what `iit-bench attention` prints from attention.parquet, by numpy, scipy and pandas only: nothing of the project is imported.

iit-bench attention RUN --json > figures.json
python tests/recompute_attention.py RUN/attention.parquet figures.json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

sys.path[:0] = [str(Path(__file__).parents[1])]

from tests.recompute_statistics import Dependence, components  # noqa: E402 - a script has its own folder on the path

TEXT, KINDS = ("before", "between", "after"), ("before", "image", "between", "after")


def mean(values: Sequence[float], rows: pd.DataFrame) -> dict[str, Any]:
    """Mean with Student's interval on the variance over pairs of rows, by target clusters or two-way."""
    x, n = np.asarray(values, dtype=float), len(values)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    figure: dict[str, Any] = {"value": float(x.mean()), "low": None, "high": None, "n": n}
    dependence = Dependence(components(rows), list(rows["history_clusters"]))
    variance = dependence.variance((x - x.mean()) / n)
    if not variance or variance <= 0 or dependence.df <= 0:
        return figure
    half = float(stats.t.ppf(0.975, dependence.df)) * math.sqrt(variance)
    return figure | {"low": float(x.mean()) - half, "high": float(x.mean()) + half}


def of_dialogue(row: Any) -> dict[str, float | None]:
    """Shift, MDI and AEI of one row of the table."""
    found: dict[str, float | None] = {"shift": None, "mdi": None, "aei": None}
    if len(row.before) and len(row.after) and len(row.layers) >= 3:
        r = stats.pearsonr(row.before, row.after).statistic
        found["shift"] = None if math.isnan(r) else 1 - float(r)
    on_text = sum(float(np.sum(getattr(row, kind))) * getattr(row, f"n_{kind}") for kind in TEXT) / len(row.layers)
    on_image = float(np.sum(row.image)) * row.n_image / len(row.layers)
    texts = sum(getattr(row, f"n_{kind}") for kind in TEXT)
    if on_text and on_image:
        found["mdi"] = (on_text / texts) / (on_image / row.n_image)
        found["aei"] = on_text / (on_text + on_image) / (texts / (texts + row.n_image))
    return found


def of_rows(rows: pd.DataFrame) -> dict[str, Any]:
    """Means of the three over some rows."""
    each = [of_dialogue(row) for row in rows.itertuples()]

    def of(name: str) -> tuple[list[Any], pd.DataFrame]:
        there = [i for i, one in enumerate(each) if one[name] is not None]
        return [each[i][name] for i in there], rows.iloc[there]

    shift = mean(*of("shift"))
    if shift["low"] is not None:
        shift |= {"low": max(0.0, shift["low"]), "high": min(2.0, shift["high"])}
    values, where = of("mdi")
    mdi = mean([math.log(value) for value in values], where)
    mdi |= {name: None if mdi[name] is None else math.exp(mdi[name]) for name in ("value", "low", "high")}
    return {"shift": shift, "mdi": mdi, "aei": mean(*of("aei"))}


def compare(where: str, stored: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """What is off in one figure."""
    off = []
    for name, value in own.items():
        there = stored[name]
        if (there is None) != (value is None) or (value is not None and not math.isclose(there, value, rel_tol=1e-6, abs_tol=1e-9)):
            off.append(f"{where} {name}: {there} is stored, {value} recomputed")
    return off


def check(table: Path, figures: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Figures compared, and what is off."""
    rows = pd.read_parquet(table)
    parts = {"pooled": rows} | {tier: rows[rows["tier"] == tier] for tier in rows["tier"].unique()}
    stored = {"pooled": figures["pooled"]} | {one["tier"]: one for one in figures["tiers"]}
    off = [] if set(parts) == set(stored) else [f"tiers: {sorted(stored)} are stored, {sorted(parts)} are in the table"]
    compared = 0
    for name in set(parts) & set(stored):
        for what, own in of_rows(parts[name]).items():
            off += compare(f"{name} {what}", stored[name][what], own)
            compared += 1
    sides = rows[(rows["n_before"] > 0) & (rows["n_after"] > 0) & (rows["n_image"] > 0)]
    for prefix, group in (("", "curves"), ("router_", "router")):
        for kind in KINDS:
            having = sides[sides[f"{prefix}{kind}"].map(len) > 0]
            if len(having) != 0 or kind in figures[group]:
                values = np.stack(list(having[f"{prefix}{kind}"]))
                for layer, one in enumerate(figures[group][kind]):
                    off += compare(f"{group} {kind} {layer}", one, mean(values[:, layer], having))
                    compared += 1
    return compared, off


def main(table: str, figures: str) -> int:
    """Print what is off."""
    compared, off = check(Path(table), json.loads(Path(figures).read_text(encoding="utf-8")))
    print(f"{table}: {compared} figures compared, {len(off)} comparisons off")
    print("".join(f"  {line}\n" for line in off), end="")
    return int(bool(off))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
