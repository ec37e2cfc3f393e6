"""The page of a series by other means than reports/: `python tests/recompute_series.py REPORT RUN… [--base RUN]` prints what is off.

REPORT is the folder that `iit-bench report --series` wrote, RUN… the checkpoints; without a base the first of them is what the others are
compared with. Every figure is made anew from the runs' tables, and compared with the files of the curves (CSV), with the table and with the
headline as printed. Imports nothing of the project.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

sys.path[:0] = [str(Path(__file__).parents[1])]

from tests.recompute_figures import Check, pairs, predictions  # noqa: E402 - a script has its own folder on the path
from tests.recompute_ledger import corrected  # noqa: E402 - a script has its own folder on the path
from tests.recompute_pages import check_printed, numbers, table_of, words_of  # noqa: E402 - a script has its own folder on the path
from tests.recompute_statistics import Figure, components, mean, paired  # noqa: E402 - a script has its own folder on the path

SCORES = {"IIT": "[TV]*", "T score": "[TV]*T", "V score": "[TV]*V", "text-only": "T*"}  # and the tiers that each is the mean of
ENDS = ("value", "low", "high")
ON = ["dialogue", "position"]


def turns(run: Path) -> pd.DataFrame:
    """Every turn of a run."""
    return predictions(run, json.loads((run / "run.json").read_text())["style"])


def score(run: Path, rows: pd.DataFrame, pattern: str) -> Figure | None:
    """The mean over the benchmark's tiers of a pattern; None where one of them has no finished target."""
    tiers = {tier for tier in json.loads((run / "run.json").read_text())["benchmark"]["tiers"] if re.fullmatch(pattern, tier)}
    done = rows[rows["is_target"] & rows["tier"].isin(tiers) & (rows["outcome"] != "error")]
    exists = bool(tiers) and set(done["tier"]) == tiers
    return mean(done["acc"], components(done), list(done["history_clusters"]), done["tier"]) if exists else None


def against(base: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Figure | None]:
    """What was forgotten, and the corrected rates of lost and gained text targets."""
    theirs, mine = (side[side["is_target"] & side["tier"].str.endswith("T")] for side in (base, rows))
    both = set(theirs["tier"]) & set(mine["tier"])
    a, b = pairs(theirs[theirs["tier"].isin(both)], mine[mine["tier"].isin(both)], ON)
    lost, rates = paired(a, b), corrected(a, b)
    return {"forgotten": lost and lost["difference"], "lost": rates["lost"], "gained": rates["gained"]}


def moved(before: pd.DataFrame, rows: pd.DataFrame) -> list[int]:
    """Text targets lost and gained since the checkpoint before, and of how many."""
    a, b = pairs(*(side[side["is_target"] & side["tier"].str.endswith("T")] for side in (before, rows)), ON)
    right, now = a["acc"].to_numpy() == 1, b["acc"].to_numpy() == 1
    return [int((right & ~now).sum()), int((~right & now).sum()), len(a)]


def recompute(runs: Sequence[Path], base: Path | None) -> list[dict[str, Any]]:
    """One record per checkpoint, in the order of the last number in its folder's name where all have one of their own, else as given."""
    found = [re.findall(r"\d+", run.name) for run in runs]
    steps = [int(one[-1]) for one in found if one]
    by_step = len(set(steps)) == len(runs) and len({re.sub(r"\d+(?!.*\d)", "", run.name) for run in runs}) == 1
    placed = sorted(zip(steps, runs, strict=True)) if by_step else list(enumerate(runs, 1))
    tables = [turns(run) for _, run in placed]
    reference = tables[0] if base is None else turns(base)
    made = []
    for i, (place, run) in enumerate(placed):
        scores = {name: score(run, tables[i], pattern) for name, pattern in SCORES.items()}
        same = base is None and i == 0
        changes = {} if same else against(reference, tables[i])
        made.append({"place": place, "name": json.loads((run / "run.json").read_text())["name"], "scores": scores, "against": changes})
        made[-1]["moved"] = moved(tables[i - 1], tables[i]) if i else None
    return made


def check_series(check: Check, report: Path, runs: Sequence[Path], base: Path | None) -> None:
    """Compare the curves' files, the table and the headline."""
    own = recompute(runs, base)
    of_base = None if base is None else score(base, turns(base), SCORES["text-only"])
    check_curves(check, report / "figures", own, of_base)
    page = (report / "series.html").read_text(encoding="utf-8")
    rows = table_of(page, "series")
    names = [one["name"] for one in own]
    check.same("checkpoints", [name for row, name in zip(rows, names, strict=True) if row[0].startswith(name)], names)  # badges may follow
    shown = [name for name in SCORES if any(one["scores"][name] for one in own)]
    for row, one in zip(rows, own, strict=True):
        figures = [one["scores"][name] for name in shown] + [one["against"].get(name) for name in ("forgotten", "lost", "gained")]
        check.same(f"{one['name']} place", numbers(row[1]), [one["place"]])
        for cell, figure in zip(row[2:-2], figures, strict=True):
            expected = [] if figure is None else [*(100 * figure[end] for end in ENDS), figure["n"]]
            check_printed(check, f"{one['name']} in the table", cell, expected)
        for cell, count in zip(row[-2:], one["moved"] or (), strict=False):
            check_printed(check, f"{one['name']} since the one before", cell, [count, one["moved"][2]])
    check_headline(check, words_of(page), own)


def check_curves(check: Check, folder: Path, own: Sequence[Mapping[str, Any]], of_base: Figure | None) -> None:
    """Compare every point of the three curves, and the base's level beside the scores."""
    wanted = {
        "scores": {name: [one["scores"][name] for one in own] for name in SCORES},
        "lost": {"lost": [one["against"].get("forgotten") for one in own]},
        "items": {name: [one["against"].get(name) for one in own] for name in ("lost", "gained")},
    }
    for key, lines in wanted.items():
        with (folder / f"series-series-{key}.csv").open(encoding="utf-8", newline="") as file:
            _, *stored = csv.reader(file)
        points = {(name, place): [float(end) for end in found if end] for name, place, *found in stored}
        expected = {
            (name, str(one["place"])): [figure[end] for end in ENDS]
            for name, figures in lines.items()
            for one, figure in zip(own, figures, strict=True)
            if figure is not None
        }
        if key == "scores" and of_base is not None:
            expected |= {(name, place): [of_base["value"]] for name, place in points if not place}
            check.same("levels beside the scores", sum(not place for _, place in points), 1)
        check.same(f"points of {key}", sorted(points), sorted(expected))
        for point in points.keys() & expected.keys():
            check.same(f"{key} {point} numbers", len(points[point]), len(expected[point]))
            for value, mine in zip(points[point], expected[point], strict=False):
                check.same(f"{key} {point}", value, mine)


def check_headline(check: Check, text: str, own: Sequence[Mapping[str, Any]]) -> None:
    """Compare the sentence: a score from the first to the last checkpoint, what the last one lost, and who lost most."""
    first, last = own[0], own[-1]
    name = next(name for name in SCORES if first["scores"][name] and last["scores"][name])
    head = re.search(rf"From {re.escape(first['name'])} to {re.escape(last['name'])}, {name} goes from (\S+)% to (\S+)% right", text)
    check.same("headline begins with the score", bool(head), True)
    for words, one in zip(head.groups() if head else (), (first, last), strict=False):
        check_printed(check, "headline score", words, [100 * one["scores"][name]["value"]])
    lost = {one["name"]: one["against"]["forgotten"] for one in own if one["against"].get("forgotten")}
    end = list(lost.values())[-1]
    sign = -1 if round(100 * end["value"], 1) < 0 else 1
    said = re.search(
        r"(?:the last|\S+) (lost|gained) (\S+) points on text targets \(95% interval (\S+) to ([^\s:)]+)(: perhaps nothing)?\)", text
    )
    check.same("headline names the loss", bool(said), True)
    if said:
        check.same("headline verb", said[1], "gained" if sign < 0 else "lost")
        bounds = sorted(sign * 100 * end[bound] for bound in ("low", "high"))
        check_printed(check, "headline loss", " ".join(said.group(2, 3, 4)), [sign * 100 * end["value"], *bounds])
        check.same("headline doubt", bool(said[5]), bounds[0] <= 0 <= bounds[1])
    most = max(lost, key=lambda one: lost[one]["value"])
    worst = re.search(r"and (?:step (\d+)|(\S+)) lost most, ([\d.]+)", text)
    larger = round(100 * lost[most]["value"], 1) > max(0.0, round(100 * end["value"], 1))
    check.same("headline names the worst", bool(worst), larger)
    if worst and larger:
        places = {one["name"]: str(one["place"]) for one in own}
        check.same("headline worst", worst[1] or worst[2], places[most] if worst[1] else most)
        check_printed(check, "headline worst loss", worst[3], [100 * lost[most]["value"]])


def main(arguments: list[str]) -> int:
    """Check a report and print what is off."""
    base = Path(arguments.pop(arguments.index("--base") + 1)) if "--base" in arguments else None
    report, *runs = (Path(one) for one in arguments if one != "--base")
    check = Check()
    check_series(check, report, runs, base)
    print(f"{check.compared} comparisons, {len(check.off)} off", *check.off, sep="\n  ")
    return int(bool(check.off))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
