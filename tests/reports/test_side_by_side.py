"""Two models side by side: which pairs have a page, and the numbers on it against counts by hand."""

from __future__ import annotations

import base64
import csv
import gzip
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from evaluators.compare.tasks import compare_suites
from evaluators.iit.columns import Turns
from evaluators.iit.comparison import compare
from evaluators.iit.ledger import transitions
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from reports import side_by_side
from reports.cells import points
from reports.leaderboard import report
from tests.recompute_pages import changed_hands, curve
from tests.reports.test_leaderboard import Reader, shown

MakeRun = Callable[..., Path]
TIERS = ("T", "TT", "V", "TV")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun]) -> tuple[dict[str, Path], Path]:
    make = maker_in(tmp_path_factory.mktemp("runs"))
    runs = {
        "base": make("base", 0.95, text_only=True, tiers=TIERS),
        "wings": make("wings", 0.9, base="base", tiers=TIERS),
        "llava": make("llava", 0.6, base="base", tiers=TIERS, failed=2),
        "third": make("third", 0.5, tiers=TIERS),
    }
    return runs, report(list(runs.values()), tmp_path_factory.mktemp("report")).parent


def page_of(folder: Path, a: str, b: str) -> Reader:
    return Reader((folder / "pairs" / f"{a}--{b}.html").read_text(encoding="utf-8"))


def test_each_model_is_beside_its_base_and_neighbours_beside_each_other(made: tuple[dict[str, Path], Path]) -> None:
    names = {path.stem for path in (made[1] / "pairs").iterdir()}
    assert names == {"index", "base--wings", "base--llava", "wings--llava", "llava--third"}
    rows = Reader((made[1] / "pairs" / "index.html").read_text(encoding="utf-8")).tables["pairs"][1:]
    assert [row[:3] for row in rows] == [
        ["base", "wings", "base and model"],
        ["base", "llava", "base and model"],
        ["wings", "llava", "neighbours"],
        ["llava", "third", "neighbours"],
    ]


def test_a_base_that_is_its_models_neighbour_too_has_one_page_with_it(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("base", 0.5), make_run("tuned", 0.9, base="base")]
    names = {path.stem for path in (report(runs, tmp_path / "report").parent / "pairs").iterdir()}
    assert names == {"index", "base--tuned"}


@pytest.mark.parametrize(("a", "b"), [("base", "llava"), ("wings", "llava")])
def test_counts_of_what_changed_hands_are_those_of_the_predictions(made: tuple[dict[str, Path], Path], a: str, b: str) -> None:
    runs = made[0]
    counts = changed_hands(runs[a], runs[b])
    rows = page_of(made[1], a, b).rows("hands-counts")
    for tier, of_tier in counts.items():
        assert {name: int(rows[tier][name]) for name in of_tier} == of_tier
        right = of_tier["lost"] + of_tier["kept"]
        assert rows[tier]["lost of what was right"] == shown(of_tier["lost"] / right)
    turns = [Turns.of_run(load_run(runs[name])) for name in (b, a)]
    assert Counter(transitions(*turns).values())["lost"] == int(rows["all"]["lost"])


def test_differences_are_those_of_compare(made: tuple[dict[str, Path], Path]) -> None:
    runs, folder = made
    rows = page_of(folder, "wings", "llava").rows("difference-table")
    for result in compare(*(Turns.of_run(load_run(runs[name])) for name in ("wings", "llava")), "llava"):
        value = result.difference.value or 0.0
        assert rows[result.over]["difference"].split(" | ")[0] == ("+" if round(100 * value, 1) > 0 else "") + shown(value)
        assert rows[result.over]["n"] == str(result.difference.n)


def test_the_numbers_of_the_curve_are_offered_as_they_are_computed_again(made: tuple[dict[str, Path], Path]) -> None:
    runs, folder = made
    for key, endings in (("all", "TV"), ("text", "T"), ("visual", "V")):
        rows = list(csv.DictReader(io.StringIO((folder / "figures" / f"leaderboard-curve-{key}.csv").read_text(encoding="utf-8"))))
        for name, run in runs.items():
            mine = {float(row["visual share"]): float(row["accuracy"]) for row in rows if row["model"] == name}
            assert mine == pytest.approx(
                curve(run, endings) if name != "base" or key == "text" else {0.0: curve(run)[0.0]} if key == "all" else {}
            )


def test_lost_questions_are_listed_with_both_answers_the_most_often_lost_first(made: tuple[dict[str, Path], Path]) -> None:
    runs, folder = made
    page = page_of(folder, "base", "llava")
    mine, theirs = ({p.dialogue: p for p in load_run(runs[name]).predictions} for name in ("base", "llava"))
    lost: dict[str, list[str]] = {}
    for dialogue, prediction in mine.items():
        if prediction.outcome == "correct" and theirs[dialogue].outcome == "wrong":
            lost.setdefault(prediction.question, []).append(prediction.tier)
    rows = page.tables["lost-items"][1:]
    assert {row[0]: sorted(row[1].split(" | ")[0].split(", ")) for row in rows} == {name: sorted(tiers) for name, tiers in lost.items()}
    sizes = [len(lost[row[0]]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    for row in rows:
        first = f"{row[0]}/{'T' if 'T' in lost[row[0]] else 'TT'}"
        assert [row[2], row[3].split(" | ")[0], row[4].split(" | ")[0]] == [
            mine[first].choices[mine[first].answer],
            mine[first].reply,
            theirs[first].reply,
        ]


def test_pairs_that_are_asked_for_are_made_beyond_the_limit(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "MOST", 1)
    runs = [make_run(name, skill, tiers=("T", "V")) for name, skill in (("a:b", 0.9), ("c", 0.8), ("d", 0.3))]
    folder = report(runs, tmp_path / "out", pairs=["d:a:b"]).parent
    assert {path.stem for path in (folder / "pairs").iterdir()} == {"index", "a-b--c", "d--a-b"}
    assert "1 at most" in Reader((folder / "pairs" / "index.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("words", "reason"),
    [("a:x", "names no two models"), ("a", "names no two models"), ("a:a", "is one model twice"), ("a:c", "differ in style")],
)
def test_pairs_that_cannot_be_made_are_refused(make_run: MakeRun, tmp_path: Path, words: str, reason: str) -> None:
    runs = [make_run("a", tiers=("T",)), make_run("b", tiers=("T",)), make_run("c", tiers=("T",), style="letters")]
    with pytest.raises(UserError, match=reason):
        report(runs, tmp_path / "out", pairs=[words])


# ---------------------------------------------------------------- tasks


@pytest.fixture(scope="module")
def with_tasks(
    tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], MakeRun], suite_maker_in: Callable[[Path], MakeRun]
) -> tuple[dict[str, Path], Reader, Path]:
    """A base and its model, both with text runs, of which one task is not asked alike; the model has a VQA run."""
    root = tmp_path_factory.mktemp("tasks")
    make, suite = maker_in(root), suite_maker_in(root)
    runs = {"base": make("base", 0.95, tiers=("T", "V"), n=6), "wings": make("wings", 0.9, base="base", tiers=("T", "V"), n=6)}
    runs |= {
        "A": suite("text", "base", {"piqa": 0.9, "arc_easy": 0.8}),
        "B": suite("text", "wings", {"piqa": 0.5, "arc_easy": 0.8}, failed=2),
    }
    runs["vqa"] = suite("vqa", "wings", {"MME": 0.5})
    out = report(list(runs.values()), root / "report", samples=True).parent
    return runs, page_of(out, "base", "wings"), out


@pytest.mark.slow
def test_tasks_have_the_paired_differences_of_compare(with_tasks: tuple[dict[str, Path], Reader, Path]) -> None:
    runs, page, _ = with_tasks
    for one in compare_suites(load_run(runs["A"]), load_run(runs["B"]))[0]:
        row = page.rows("tasks-text-difference")[one.result.over]
        assert row["difference"].split(" | ")[0] == points(one.result.difference.value or 0.0)
        assert row["only A"] == str(one.result.only_a) and row["n"] == str(one.result.difference.n)


@pytest.mark.slow
def test_items_of_tasks_that_changed_hands_are_those_counted_with_pandas(with_tasks: tuple[dict[str, Path], Reader, Path]) -> None:
    runs, page, _ = with_tasks
    a, b = (pd.read_parquet(runs[side] / "items.parquet").set_index(["task", "item"])["score"] for side in "AB")
    both = pd.DataFrame({"a": a, "b": b})
    for task, mine in both.groupby("task"):
        row = page.rows("tasks-text-hands")[str(task)]
        assert row["lost"] == str(int(((mine.a == 1) & (mine.b == 0)).sum())) and row["gained"] == str(
            int(((mine.a == 0) & (mine.b == 1)).sum())
        )
        assert int(row["kept"]) + int(row["never"]) == int((mine.a == mine.b).sum())
    lost = both[(both.a == 1) & (both.b == 0)]
    listed = [(row[1], row[0]) for row in page.tables["tasks-text-lost"][1:]]
    assert sorted(listed) == sorted(lost.index) and listed
    assert "wings has no run" not in page.text and "base has no run of this suite on this page" in page.text


@pytest.mark.slow
def test_an_item_of_a_task_leads_to_its_dialogue(with_tasks: tuple[dict[str, Path], Reader, Path]) -> None:
    _, page, out = with_tasks
    packed = (out / "samples" / "data" / "catalogue.js").read_text().split('"')[3]
    led = [address for address in page.attributes("href") if "item=piqa" in address]
    assert led and all(address.startswith("../samples/index.html#run=text-wings&item=piqa") for address in led)
    assert b'"text-wings"' in gzip.decompress(base64.b64decode(packed))
