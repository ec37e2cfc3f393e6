"""Recompute the figures of run folders from their tables, by other means, and compare.

    python tests/recompute_figures.py RUN…

Reads run.json, results.json and predictions.parquet or items.parquet with json and pandas, and imports nothing of the project: choices are
made anew from the log-probabilities, intervals and tests by `recompute_statistics.py`. Of an IIT run every figure of results.json is
compared; forgetting where the base run is where run.json names it, or beside the run. Of a text or VQA run the figures that are means of
the items; the others (a perplexity, MME's points, what a tool's own standard error gave) are counted as not recomputed.

Exit status 1 where a figure is off, 2 where a folder cannot be checked.
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

sys.path[:0] = [str(Path(__file__).parents[1])]

from tests.recompute_decision import off as check_decision  # noqa: E402 - a script has its own folder on the path
from tests.recompute_ledger import check_ledger  # noqa: E402 - a script has its own folder on the path
from tests.recompute_statistics import Figure, both_histories, components, family, mean, moved, paired  # noqa: E402 - a script has its own folder on the path

TOLERANCE = 1e-6  # of a figure; the detectable difference is bisected to 1e-4 of itself
METRICS = ("acc", "acc_norm", "acc_bytes")
VERSIONS = (3, 4)  # of results.json; 4 is 3 with a seal


class Check:
    """What was compared, and what is off."""

    def __init__(self) -> None:
        self.compared = 0
        self.skipped = 0
        self.off: list[str] = []

    def same(self, where: str, stored: Any, own: Any, tolerance: float = TOLERANCE) -> None:
        """Compare two numbers, texts or missing values."""
        self.compared += 1
        numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (stored, own))
        equal = math.isclose(stored, own, rel_tol=tolerance, abs_tol=tolerance) if numbers else stored == own
        if not equal:
            self.off.append(f"{where}: {stored!r} stored, {own!r} recomputed")

    def figure(self, where: str, stored: Mapping[str, Any], own: Figure | None) -> None:
        """Compare value, bounds, standard error, n and clusters; a figure that must not exist is None."""
        if own is None:
            self.same(f"{where} value", stored["value"], None)
            return
        for name in ("value", "low", "high", "se", "n", "clusters"):
            self.same(f"{where} {name}", stored[name], own[name])


def check_paired(check: Check, where: str, stored: Mapping[str, Any], own: Mapping[str, Any] | None) -> None:
    """Compare a PairedResult."""
    check.figure(f"{where} difference", stored["difference"], None if own is None else own["difference"])
    if own is None:
        return
    for name in ("test", "p", "p_holm", "only_a", "only_b", "detectable_floor", "effective", "df"):
        check.same(f"{where} {name}", stored[name], own[name])
    check.same(f"{where} detectable", stored["detectable"], own["detectable"], tolerance=2e-4)


# ---------------------------------------------------------------- runs of suite iit


def predictions(folder: Path, style: str) -> pd.DataFrame:
    """The turns of a run, with each metric's right or wrong made anew from the log-probabilities, where there are some."""
    rows = pd.read_parquet(folder / "predictions.parquet")
    rows["history_clusters"] = [tuple(one) for one in rows["history_clusters"]]
    rows["chance"] = [1 / len(one) for one in rows["choices"]]
    for name, length in (("acc", None), ("acc_norm", len), ("acc_bytes", lambda text: len(text.encode()))):
        stored = rows[{"acc": "chosen", "acc_norm": "chosen_norm", "acc_bytes": "chosen_bytes"}[name]]
        rows[name] = [
            float((chosen if not len(p) else first_best(p, replies(choices, style), length)) == answer)
            for p, choices, answer, chosen in zip(rows["logprobs"], rows["choices"], rows["answer"], stored, strict=True)
        ]
    rows["right"] = rows["acc"]
    return rows.sort_values(["dialogue", "position"]).reset_index(drop=True)


def replies(choices: Sequence[str], style: str) -> list[str]:
    """What was scored for each choice."""
    return [chr(ord("A") + i) for i in range(len(choices))] if style == "letters" else list(choices)


def first_best(logprobs: Sequence[float], texts: Sequence[str], length: Callable[[str], int] | None) -> int:
    """Index of the highest log-probability per unit of length; the first of equals."""
    return int(np.argmax([p / (length(text) if length else 1) for p, text in zip(logprobs, texts, strict=True)]))


def check_iit(check: Check, folder: Path, run: Mapping[str, Any], results: Mapping[str, Any], base: Path | None) -> None:
    """Every figure of results.json of an IIT run."""
    every = predictions(folder, run["style"])
    targets = every[every["is_target"]]
    done = targets[targets["outcome"] != "error"]
    check.same("n_dialogues", results["n_dialogues"], len(targets))
    check_outcomes(check, "outcomes", results["outcomes"], targets)
    for tier in results["tiers"]:
        mine, finished = (rows[rows["tier"] == tier["tier"]] for rows in (targets, done))
        where = f"tier {tier['tier']}"
        check_outcomes(check, f"{where} outcomes", tier["outcomes"], mine)
        check_part(check, where, tier, finished, METRICS)
        strict = mean(mine["acc"] * (mine["outcome"] != "error"), mine["cluster"], mine["history_clusters"])
        check.figure(f"{where} acc_strict", tier["acc_strict"], strict)
        check.figure(f"{where} acc_corrected", tier["acc_corrected"], over_chance(finished))
    whole = set(run["benchmark"]["tiers"]) | {tier["tier"] for tier in results["tiers"]}
    takes: dict[str, set[str]] = {"iit": whole, "text_only_score": {tier for tier in whole if "V" not in tier}}
    takes |= {"t_score": {tier for tier in whole if tier[-1] == "T"}, "v_score": {tier for tier in whole if tier[-1] == "V"}}
    takes |= {"subset_score": set(results["subset_tiers"])} if results["subset_score"] else {}
    for name, tiers in takes.items():
        check_score(check, name, results[name], done[done["tier"].isin(tiers)], tiers)
    for name, keys, rows in (("breakdown", ["tier", "source", "subject"], done), ("positions", ["tier", "position"], every)):
        for part in results[name]:
            members = rows[(rows[keys] == [part[key] for key in keys]).all(axis=1) & (rows["outcome"] != "error")]
            check_part(check, f"{name} {[part[key] for key in keys]}", part, members, METRICS[:2])
    check_interleaving(check, results["interleaving"], done)
    if results["forgetting"] is not None and base is not None:
        check_forgetting(check, results["forgetting"], every, predictions(base, run["style"]))
    check.skipped += results["forgetting"] is not None and base is None
    if results.get("decision") is not None and base is not None:
        check.compared += 9
        check.off += [f"decision {line}" for line in check_decision(folder, base)]


def check_outcomes(check: Check, where: str, stored: Mapping[str, int], rows: pd.DataFrame) -> None:
    """Counts by outcome."""
    counts = rows["outcome"].value_counts().to_dict()
    check.same(where, {name: n for name, n in stored.items() if n}, {str(name): int(n) for name, n in counts.items()})


def check_part(check: Check, where: str, stored: Mapping[str, Any], rows: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Accuracies and chance of finished rows."""
    for name in metrics:
        check.figure(f"{where} {name}", stored[name], mean(rows[name], rows["cluster"], rows["history_clusters"]))
    check.same(f"{where} chance", stored["chance"], float(rows["chance"].mean()) if len(rows) else None)


def over_chance(rows: pd.DataFrame) -> Figure | None:
    """(acc - chance) / (1 - chance)."""
    chance = float(rows["chance"].mean()) if len(rows) else 0.0
    return moved(mean(rows["acc"], rows["cluster"], rows["history_clusters"]), 1 / (1 - chance), -chance / (1 - chance))


def check_score(check: Check, name: str, stored: Mapping[str, Any], rows: pd.DataFrame, tiers: set[str]) -> None:
    """A mean over `tiers`, which exists where each has a finished row."""
    exists = bool(tiers) and set(rows["tier"]) == tiers
    joined, histories = components(rows), list(rows["history_clusters"])
    for metric in METRICS:
        check.figure(f"{name} {metric}", stored[metric], mean(rows[metric], joined, histories, rows["tier"]) if exists else None)
    if not exists:
        check.figure(f"{name} acc_corrected", stored["acc_corrected"], None)
        return
    chance = rows.groupby("tier")["chance"].mean()
    scale = 1 / (1 - chance)
    weighted = mean(rows["acc"], joined, histories, rows["tier"], scale)
    own = moved(weighted, float(scale.mean()), -float((chance * scale).mean()))
    check.figure(f"{name} acc_corrected", stored["acc_corrected"], own)
    by_tier = rows.groupby("tier")["acc"].mean()
    check.same(f"{name} acc_corrected as a mean of tiers", own and own["value"], float(((by_tier - chance) * scale).mean()))


def pairs(a: pd.DataFrame, b: pd.DataFrame, on: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished rows of two sides that match, in one order."""
    both = a.reset_index().merge(b.reset_index(), on=list(on), suffixes=("_a", "_b"))
    both = both[(both["outcome_a"] != "error") & (both["outcome_b"] != "error")]
    return a.loc[both["index_a"]], b.loc[both["index_b"]]


def check_interleaving(check: Check, stored: Sequence[Mapping[str, Any]], done: pd.DataFrame) -> None:
    """Each tier against the same targets without history."""
    run = [tier for tier in dict.fromkeys(done["tier"]) if len(tier) > 1 and (done["tier"] == tier[-1]).any()]
    check.same("tiers with an interleaving effect", sorted(one["over"] for one in stored if one["difference"]["n"]), sorted(run))
    own = family([paired(*pairs(done[done["tier"] == one["over"]], done[done["tier"] == one["against"]], ["group"])) for one in stored])
    for one, mine in zip(stored, own, strict=True):
        check_paired(check, f"interleaving {one['over']}", one, mine)


def paired_tiers(a: pd.DataFrame, b: pd.DataFrame, ending: str) -> dict[str, dict[str, Any] | None]:
    """A minus B by tier that ends in `ending` and that both have, a family for Holm; then the pool of them, under "*"."""
    a, b = (rows[rows["is_target"] & rows["tier"].str.endswith(ending)] for rows in (a, b))
    tiers = [tier for tier in dict.fromkeys(a["tier"]) if (b["tier"] == tier).any()]
    a, b = (rows[rows["tier"].isin(tiers)] for rows in (a, b))
    on = ["dialogue", "position"]
    by_tier = family([paired(*pairs(a[a["tier"] == tier], b[b["tier"] == tier], on)) for tier in tiers])
    return dict(zip(tiers, by_tier, strict=True)) | {"*": family([paired(*pairs(a, b, on))])[0]}


def check_forgetting(check: Check, stored: Mapping[str, Any], run: pd.DataFrame, base: pd.DataFrame) -> None:
    """Base minus run on text targets, accuracies of both, retention and the ledger. `run` and `base`: every turn."""
    own = paired_tiers(base, run, "T")
    check.same("forgetting tiers", sorted(stored["tiers"]), sorted(set(own) - {"*"}))
    for one in stored["per_tier"]:
        check_paired(check, f"forgetting {one['over']}", one, own[one["over"]])
    check_paired(check, "forgetting pooled", stored["pooled"], own["*"])
    a, b = pairs(*(rows[rows["is_target"] & rows["tier"].isin(stored["tiers"])] for rows in (base, run)), ["dialogue", "position"])
    joined, histories = components(a), both_histories(a, b)
    figures = [mean(side["acc"], joined, histories) for side in (a, b)]
    for name, figure in zip(("base_acc", "acc"), figures, strict=True):
        check.figure(f"forgetting {name}", stored[name], figure)
    check.figure("forgetting retention", stored["retention"], retention(a, b, figures[0], own["*"]))
    if stored["ledger"] is not None:
        check_ledger(check, "ledger", stored["ledger"], *pairs(base, run, ["dialogue", "position"]))


def retention(base: pd.DataFrame, run: pd.DataFrame, base_acc: Figure | None, lost: Mapping[str, Any] | None) -> Figure | None:
    """(acc - chance) / (base - chance); what is lost, scaled, below 1. None where the base's interval includes chance."""
    chance = float(base["chance"].mean()) if len(base) else 0.0
    if base_acc is None or lost is None or base_acc["low"] <= chance:
        return None
    above, d = base_acc["value"] - chance, lost["difference"]
    figure = {"value": (float(run["acc"].mean()) - chance) / above, "low": 1 - d["high"] / above, "high": 1 - d["low"] / above}
    return figure | {"se": None if d["se"] is None else d["se"] / above, "n": d["n"], "clusters": d["clusters"]}


def base_of(folder: Path, run: Mapping[str, Any], results: Mapping[str, Any]) -> Path | None:
    """The base run of an IIT run: as run.json names it, or beside the run."""
    if results["forgetting"] is None:
        return None
    named, beside = run["arguments"].get("base"), results["forgetting"]["base_run"]
    places = [*([Path(named), Path(named) / "iit"] if named else []), folder.parent / beside, folder.parent.parent / beside]
    return next((place for place in places if (place / "predictions.parquet").is_file()), None)


# ---------------------------------------------------------------- runs of the suites text and vqa


def check_tasks(check: Check, folder: Path, results: Mapping[str, Any]) -> None:
    """The figures that are means of items, over the clusters that they count."""
    items = pd.read_parquet(folder / "items.parquet")
    items["item"] = items["task"] + "/" + items["item"]
    items["cluster"] = items["task"] + "/" + items["cluster"]
    for task in results["tasks"]:
        for metric, figure in task["scores"].items():
            members = items[items["task"].isin(task["members"] or [task["task"]]) & (items["metric"] == metric)]
            own = None if figure["value"] is None or figure["from_stderr"] else mean_of_items(members, figure)
            if own is None:
                check.skipped += 1
            else:
                check.figure(f"{task['task']} {metric}", figure, own)


def mean_of_items(rows: pd.DataFrame, stored: Mapping[str, Any]) -> Figure | None:
    """The mean of the items, or of their tasks' means, whichever the tool took; None for another value, or one without interval."""
    if stored["low"] is None or len(rows) != stored["n"]:
        return None
    clusters = next((one for one in ("item", "cluster") if rows[one].nunique() == stored["clusters"]), None)
    sizes = rows.groupby("task").size()
    for weights in (sizes, pd.Series(1.0, index=sizes.index)):
        value = float((rows.groupby("task")["score"].mean() * weights).sum() / weights.sum())
        if clusters and math.isclose(value, stored["value"], abs_tol=1e-9):
            return mean(rows["score"], rows[clusters], None, rows["task"], weights)
    return None


# ---------------------------------------------------------------- the command


def check_run(folder: Path) -> Check:
    """Check a run folder of any suite.

    Raises:
        ValueError: its results have another version, which evaluators/runs/recompute.py makes anew.
    """
    run, results = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "results.json"))
    if results["version"] not in VERSIONS:
        raise ValueError(
            f"{str(folder)!r} has results of version {results['version']}, and only those of versions {VERSIONS} are recomputed here"
        )
    check = Check()
    if run["suite"] == "iit":
        check_iit(check, folder, run, results, base_of(folder, run, results))
    else:
        check_tasks(check, folder, results)
    return check


def main(folders: Sequence[str]) -> int:
    """Check every folder and print what is off."""
    status = 0 if folders else 2
    for name in folders:
        try:
            check = check_run(Path(name))
        except (OSError, ValueError, KeyError) as error:
            print(f"{name}: cannot be checked: {error}")
            status = 2
            continue
        print(f"{name}: {check.compared} comparisons, {len(check.off)} off; {check.skipped} figures not recomputed")
        print("".join(f"  {line}\n" for line in check.off), end="")
        status = status or int(bool(check.off))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
