"""What a report says of arms: on a model's page, and on the page about the benchmark."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from evaluators.arms.figures import arms_of
from evaluators.arms.names import ARMS
from evaluators.arms.needs import needs_of, ranked
from evaluators.iit.columns import Turns
from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.storage.runs import load_run
from reports.cells import percent, points
from reports.entries import groups_of
from reports.iit.needs import needs
from reports.leaderboard import report
from reports.section import Folded, TablePart, Words
from tests.reports.test_leaderboard import Reader

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(bench, tmp_path_factory) -> list[Path]:
    """Two runs, of which the first has all its arms."""
    folder = tmp_path_factory.mktemp("runs")
    common = RunOptions(model="random", bench=bench.path, style="letters", out=folder / "one")
    evaluate(dataclasses.replace(common, arms=("all",)), progress=False)
    evaluate(dataclasses.replace(common, seed=1, out=folder / "other"), progress=False)
    return [folder / "one", folder / "other"]


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory) -> Path:
    return report(runs, tmp_path_factory.mktemp("report")).parent


def section(page: Path, key: str) -> str:
    """The words of a section, "" if the page has none."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf'<section[^>]*"{key}-heading".*?</section>', text, re.DOTALL)
    return " ".join(Reader(found[0]).text.split()) if found else ""


def test_a_models_page_has_a_row_per_arm_with_its_gap(runs, site):
    found = section(site / "models" / "one.html", "arms")
    arms = arms_of(load_run(runs[0]))
    assert len(arms) >= 10
    for one in arms:
        assert ARMS[one.arm].changes in found
        gap = one.pooled.difference
        assert points(gap.value) in found and percent(one.arm_acc.value) in found
    orders = next(one.orders for one in arms if one.orders)
    assert f"the model changes its choice in {percent(orders.flip_rate.value)}%" in found
    assert "their choices keep their order" in found or not next(one for one in arms if one.arm == "reordered").left_out


def test_a_run_without_arms_has_no_such_section(site):
    assert section(site / "models" / "other.html", "arms") == ""


def test_the_benchmarks_page_leads_with_the_share_that_is_solvable_without_the_image(runs, site, bench):
    found = section(site / "benchmark.html", "needs")
    run = load_run(runs[0])
    mine = needs_of(run, Turns.of_run(run))
    assert mine is not None and mine.solvable_blind.value is not None
    assert f"{percent(max(0.0, mine.solvable_blind.value))}% of the visual questions are solvable without the image" in found
    first = ranked([mine.answers])[0]
    assert first.question in found and bench.questions[first.question].answer_text in found


def test_the_benchmarks_page_says_why_nothing_is_known_of_it(runs, tmp_path):
    page = report(runs[1:], tmp_path / "report").parent / "benchmark.html"
    assert "no run on the page was asked again with its images removed" in section(page, "needs")


def test_hostile_questions_are_text(runs, bench):
    (group,) = groups_of([load_run(runs[0])])
    hostile = "\x00<script>alert(1)</script>\u202e" + "x" * 1_000_000
    questions = {name: dataclasses.replace(one, question=hostile, answer_text=hostile) for name, one in bench.questions.items()}
    made = needs(group.entries, questions)
    assert made is not None
    tables = [part.table for part in made.parts if isinstance(part, TablePart)]
    tables += [part.table for folded in made.parts if isinstance(folded, Folded) for part in folded.parts if isinstance(part, TablePart)]
    shown = [cell.text for table in tables for row in table.rows for cell in row]
    assert any("<script>" in text for text in shown)  # as text, which the template escapes
    assert max(map(len, shown)) < 400 and not any("\x00" in text or "\u202e" in text for text in shown)
    assert isinstance(made.parts[0], Words)


def test_items_lead_to_the_explorer_where_there_is_one(runs, site, tmp_path):
    without = report(runs, tmp_path / "report", samples=False).parent
    for folder, linked in ((site, True), (without, False)):
        places = Reader((folder / "benchmark.html").read_text(encoding="utf-8")).attributes("href")
        assert any(place.startswith("samples/index.html#run=one&item=") for place in places) == linked == (folder / "samples").is_dir()
