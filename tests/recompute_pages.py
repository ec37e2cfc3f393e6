"""What pages count beside results.json, computed again from the tables by pandas and plain loops; nothing of the project is imported.

python tests/recompute_pages.py RUN_A RUN_B     # what changed hands between two runs, by tier
"""

from __future__ import annotations

import html
import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def table_of(page: str, key: str) -> list[list[str]]:
    """The texts of the cells of a page's table, row by row; its headings left out."""
    table = page[page.index(f'<table id="{key}"') :]
    body = table[table.index("<tbody") : table.index("</table>")]
    cell = re.compile(r"<t[hd][ >].*?</t[hd]>", re.DOTALL)
    rows = [[words_of(text) for text in cell.findall(row)] for row in body.split("</tr>")]
    return [row for row in rows if row]


def words_of(markup: str) -> str:
    """The text of some markup on one line; no-break spaces stay."""
    return re.sub("[ \\n\\t]+", " ", html.unescape(re.sub(r"<[^>]+>", " ", markup))).strip()


def numbers(text: str) -> list[float]:
    """The numbers of a text, in order; a true minus sign is one, a dash between two numbers is none."""
    joined = re.sub("(?<=\\d)\N{NARROW NO-BREAK SPACE}(?=\\d)", "", text)
    return [float(one.replace("\N{MINUS SIGN}", "-")) for one in re.findall("[+\N{MINUS SIGN}-]?\\d+(?:\\.\\d+)?", joined)]


def check_printed(check: Any, where: str, text: str, exact: Sequence[float], decimals: int = 1, more: Sequence[float] = ()) -> None:
    """Compare the numbers of a text, rounded to `decimals`, with exact ones; `more`: what each may be off beyond rounding."""
    found = numbers(text)
    check.same(f"{where}: how many numbers in {text!r}", len(found), len(exact))
    for one, value, extra in itertools.zip_longest(found, exact, more, fillvalue=0.0):
        check.compared += 1
        if abs(one - value) > 0.5 * 10**-decimals + extra + 1e-9:
            check.off.append(f"{where}: {one} printed, {value} recomputed")


if __name__ == "__main__":
    for tier, counts in changed_hands(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(tier, counts)
