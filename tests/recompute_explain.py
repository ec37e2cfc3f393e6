"""The gap between two results once more, from the files alone: numpy, scipy, pandas and the standard library, nothing of this project.

    python tests/recompute_explain.py A B METRIC      # two folders of lm-eval's results with samples

What `iit-bench explain` prints of two results that share their extraction rule: the gap, what missing items and cut replies make of it, and
all that is left, with its interval. `tests/evaluators/explain/test_recomputed.py` compares the two.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


def recomputed(folder_a: Path, folder_b: Path, metric: str) -> dict[str, Any]:
    """Gap and parts, means over the tasks of both; `interval` is that of all that is neither missing nor cut."""
    tables_a, tables_b = tables(folder_a, metric), tables(folder_b, metric)
    shared = [task for task in tables_a if task in tables_b]
    rows = [of_task(tables_a[task], tables_b[task]) for task in shared]
    found: dict[str, Any] = {name: float(np.mean([row[name] for row in rows])) for name in ("gap", "items", "truncation", "other")}
    return found | {"interval": interval([row["contributions"] for row in rows]), "n": int(sum(len(row["contributions"]) for row in rows))}


def tables(folder: Path, metric: str) -> dict[str, pd.DataFrame]:
    """Task -> one row per document: score, reply, limit, stops."""
    name, _, chosen = metric.partition(",")
    found = {}
    for file in sorted(folder.rglob("samples_*.jsonl")):
        task = file.name.removeprefix("samples_").rsplit("_", 1)[0]
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line["filter"] == (chosen or "none")]
        rows = []
        for line in lines:
            second = next(iter(line["arguments"].values()))["arg_1"]
            given = second if isinstance(second, dict) else ast.literal_eval(second) if str(second).startswith("{") else {}
            reply = line["resps"][0][0]
            rows.append((line["doc_id"], float(line[name]), reply if isinstance(reply, str) else None, given.get("max_gen_toks", 256)))
        found[task] = pd.DataFrame(rows, columns=["doc", "score", "reply", "limit"]).set_index("doc")
    return found


def of_task(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any]:
    """Parts of one task; no stop strings differ."""
    both = a.join(b, how="inner", lsuffix="_a", rsuffix="_b")
    difference = both.score_a - both.score_b
    cut = pd.Series(
        [is_cut(*row) for row in zip(both.reply_a, both.reply_b, both.limit_a, both.limit_b, strict=True)], index=both.index, dtype=bool
    )
    missing = (a.score.mean() - both.score_a.mean()) - (b.score.mean() - both.score_b.mean())
    other = difference.where(~cut, 0.0)
    return {
        "gap": a.score.mean() - b.score.mean(),
        "items": missing,
        "truncation": difference.where(cut, 0.0).mean(),
        "other": other.mean(),
        "contributions": other.to_numpy(),
    }


def is_cut(one: str | None, other: str | None, limit_one: int, limit_other: int) -> bool:
    """Whether the reply under the lower limit is a beginning of the other."""
    if one is None or other is None or limit_one == limit_other:
        return False
    short, long = (one, other) if limit_one < limit_other else (other, one)
    begun = short.strip().rstrip("\ufffd")
    return bool(begun) and begun != long.strip() and long.strip().startswith(begun)


def interval(tasks: list[np.ndarray]) -> tuple[float, float] | None:
    """Adjusted Wald interval (Bonett & Price 2012) of a mean difference of 0/1 scores, each document its own cluster; one task only."""
    (d,) = tasks
    if not d.any():
        return None
    n = len(d) + 2
    more, less = ((int((d == sign).sum()) + 1) / n for sign in (1, -1))
    half = float(stats.norm.ppf(0.975)) * ((more + less - (more - less) ** 2) / n) ** 0.5
    return more - less - half, more - less + half


if __name__ == "__main__":
    print(json.dumps(recomputed(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]), indent=1))
