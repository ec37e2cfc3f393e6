"""What pages count beside results.json, computed again from the tables by pandas and plain loops; nothing of the project is imported.

python tests/recompute_pages.py RUN_A RUN_B     # what changed hands between two runs, by tier
"""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path

import pandas as pd


def targets_of(run: Path) -> pd.DataFrame:
    """Finished target turns of a run: tier, right, and the share of V turns, by dialogue."""
    table = pd.read_parquet(run / "predictions.parquet", columns=["dialogue", "is_target", "tier", "question", "outcome"])
    table = table[table["is_target"] & (table["outcome"] != "error")].set_index("dialogue")
    return table.assign(right=table["outcome"] == "correct", share=[tier.count("V") / len(tier) for tier in table["tier"]])


def changed_hands(run_a: Path, run_b: Path) -> dict[str, dict[str, int]]:
    """Tier -> lost, gained, kept, never -> items that both runs finished."""
    both = targets_of(run_a).join(targets_of(run_b)[["right"]], how="inner", rsuffix="_b")
    names = {(True, False): "lost", (False, True): "gained", (True, True): "kept", (False, False): "never"}
    found: dict[str, dict[str, int]] = {}
    for tier, a, b in zip(both["tier"], both["right"], both["right_b"], strict=True):
        counts = found.setdefault(tier, dict.fromkeys(names.values(), 0))
        counts[names[bool(a), bool(b)]] += 1
    return found


def curve(run: Path, endings: str = "TV") -> dict[float, float]:
    """Visual share -> mean over the tiers with it of the tier's accuracy."""
    table = targets_of(run)
    table = table[[tier[-1] in endings for tier in table["tier"]]]
    by_tier = table.groupby(["share", "tier"])["right"].mean()
    return {float(share): float(mean) for share, mean in by_tier.groupby("share").mean().items()}


def near_duplicates(bench: Path, near: float = 0.9) -> tuple[int, int]:
    """Text targets with the words of another, and with words of which at least `near` are another's."""
    questions = pd.concat(map(pd.read_parquet, sorted((bench / "questions").glob("*.parquet")))).set_index("id")
    dialogues = pd.concat(map(pd.read_parquet, sorted((bench / "dialogues").glob("*.parquet"))))
    targets = questions.loc[[name for name in dialogues["target"].unique() if questions.loc[name, "modality"] == "T"]]
    words = [
        set(re.findall(r"\w+", unicodedata.normalize("NFKC", " ".join([row.question, *row.choices])).casefold()))
        for row in targets.itertuples()
    ]
    shares = [max((len(a & b) / len(a | b) for j, b in enumerate(words) if j != i), default=0.0) for i, a in enumerate(words)]
    return sum(share == 1 for share in shares), sum(share >= near for share in shares)


if __name__ == "__main__":
    for tier, counts in changed_hands(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(tier, counts)
