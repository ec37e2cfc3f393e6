"""Where our figure is not VLMEvalKit's: explained exactly, or a warning. A figure of partial credits without a zero is their mean."""

from __future__ import annotations

import dataclasses
import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluators.runs.summary import summary_text
from evaluators.statistics import mean, weighted_mean
from evaluators.vqa.agreement import differences
from evaluators.vqa.scores import Answered, task_result
from iit_bench.engine.run import Failure
from iit_bench.types import Figure, SuiteResults, TaskItem
from reports.leaderboard import report


def test_a_mean_of_partial_credits_without_a_zero_is_not_1() -> None:
    """`x.all()` is true of 0.9 and 0.5: their mean became exactly 1."""
    assert mean([0.9, 0.5], [0, 1]).value == pytest.approx(0.7)
    assert weighted_mean([0.9, 0.5, 1.0], [0, 1, 2], [0, 0, 1]).value == pytest.approx(0.85)
    assert mean([1.0] * 7, range(7)).value == 1


def rows(*scores: float, category: str = "") -> list[dict[str, Any]]:
    return [
        {"index": str(i), "score": score, "split": None, "category": category, "image_path": str(i), "unparsed": False}
        for i, score in enumerate(scores)
    ]


def items(*scores: float, outcome: str = "wrong") -> list[TaskItem]:
    return [
        TaskItem(task="T", item=str(i), cluster=str(i), metric="acc", score=score, outcome="correct" if score == 1 else outcome, reply="")
        for i, score in enumerate(scores)
    ]


def test_equal_figures_need_no_note() -> None:
    assert differences("T", "yes/no", Figure(0.5), {"Overall": 50.0}, rows(1, 0), items(1, 0)) == ([], [])


def test_failed_items_explain_a_difference_only_if_they_make_exactly_this_one() -> None:
    """VLMEvalKit scores the mark of a failed reply like a reply; here it is wrong."""
    notes, warnings = differences("T", "yes/no", Figure(0.5), {"Overall": 100.0}, rows(1, 1), items(1, 0, outcome="error"))
    assert notes == ["VLMEvalKit's own figure is 1 (1 items failed, which count as wrong here)"] and not warnings
    notes, warnings = differences("T", "yes/no", Figure(0.5), {"Overall": 75.0}, rows(1, 1), items(1, 0, outcome="error"))
    assert not notes and len(warnings) == 1 and "VLMEvalKit's own figure is 0.75, ours 0.5" in warnings[0]


@pytest.mark.parametrize("kind", ["choice", "circular", "yes/no", "open"])
def test_a_difference_that_nothing_explains_is_a_warning(kind: str) -> None:
    """It was noted as "it weighs the items differently", whatever it was."""
    metrics = {"Overall": 0.25 if kind in ("choice", "circular") else 25.0}
    notes, (warning,) = differences("T", kind, Figure(0.5), metrics, rows(1, 0), items(1, 0))
    assert not notes and "do not explain the difference" in warning


def test_a_figure_of_ours_that_is_not_the_items_mean_is_a_warning() -> None:
    """Where VLMEvalKit's number follows from its rows and ours does not follow from the items, the fault is here."""
    notes, warnings = differences("T", "open", Figure(1.0), {"Overall": 70.0}, rows(0.9, 0.5), items(0.9, 0.5))
    assert not notes and len(warnings) == 1


def test_a_warning_is_a_field_and_is_shown() -> None:
    answered = [Answered(part="main", index=str(i), unit=str(i), cluster=str(i), reply="Yes") for i in range(2)]
    scored = {"main": {"kind": "yes/no", "metrics": {"Overall": 25.0}, "rows": rows(1, 0)}}
    result, made = task_result("T", {"published": None}, answered, scored)
    assert len(result.warnings) == 1 and result.notes == ()
    outcomes = dict.fromkeys(("correct", "wrong"), 1)
    suite = SuiteResults(suite="vqa", complete=True, outcomes=outcomes, tasks=(result,))
    assert "warning: VLMEvalKit's own figure is 0.25, ours 0.5" in summary_text("run", suite)
    assert [item.outcome for item in made] == ["correct", "wrong"]
    failed = [dataclasses.replace(answered[0], reply=Failure("item", "too hard", "")), answered[1]]
    result, _ = task_result(
        "T", {"published": None}, failed, {"main": {"kind": "yes/no", "metrics": {"Overall": 50.0}, "rows": rows(1, 0)}}
    )
    assert result.warnings == () and result.notes == ("VLMEvalKit's own figure is 0.5 (1 items failed, which count as wrong here)",)


def test_a_warning_is_on_the_page(tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).parents[2] / "data" / "run_version_1" / "vqa", tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    results["tasks"][0]["warnings"] = ["VLMEvalKit's own figure is 0.25, ours 0.5"]
    (folder / "results.json").write_text(json.dumps(results))
    report([folder], tmp_path / "page")
    page = html.unescape((tmp_path / "page" / "index.html").read_text(encoding="utf-8"))
    assert "warning: VLMEvalKit's own figure is 0.25, ours 0.5" in page
