"""What a reader sees of a run that stopped when it was decided."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from evaluators.runs.summary import summary_text
from iit_bench.storage.runs import load_run
from iit_bench.types import Decision, Figure
from reports.leaderboard import report
from tests.reports.conftest import MakeRun
from tests.resealed import save_run_outcome


def decided(verdict: Any, asked: int = 0) -> Decision:
    loss = Figure(0.093, low=0.01, high=0.18, n=237, clusters=79, method="betting confidence sequence")
    evidence = {"e_lost": 43.2, "e_not_lost": 0.01, "e_needed": 40.0}
    return Decision(verdict=verdict, margin=0.02, groups=79, of_groups=300, loss=loss, asked=asked, **evidence)


def page_of(make_run: MakeRun, tmp_path: Path, decision: Decision, base: str = "base") -> tuple[str, str]:
    make_run(base)
    folder = make_run("stopped", base=base)
    run = load_run(folder)
    save_run_outcome(folder, run.predictions, dataclasses.replace(run.results, decision=decision), run.errors)
    index = report([folder], tmp_path / "report")
    return index.read_text(), (index.parent / "models" / "stopped.html").read_text()


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("lost", "Text-only abilities of base were lost: decided after 79 of 300 groups."),
        ("not lost", "Less than 2.0 points of the text-only abilities of base were lost: decided after 79 of 300 groups."),
        ("undecided", "Undecided after 79 of 300 groups: neither was a loss against base found, nor one of 2.0 points or more ruled out."),
    ],
)
def test_page_begins_with_the_verdict_and_shows_its_evidence(make_run: MakeRun, tmp_path: Path, verdict: str, words: str) -> None:
    index, page = page_of(make_run, tmp_path, decided(verdict))
    assert words in page.partition("<main>")[0] and "43.2 (40 decides)" in page and "9.3 points (+1.0 to +18.0; n 237)" in page
    assert "+9.3" in index and "+1.0 to +18.0" in index  # the interval that holds whenever a run stops, not that of a fixed n
    assert ("are too narrow" in page) == ("stopped when decided" in index) == (verdict != "undecided")


def test_page_has_one_sentence_for_the_two_counts_of_a_block(make_run: MakeRun, tmp_path: Path) -> None:
    _, page = page_of(make_run, tmp_path, decided("lost", asked=80))
    assert "decided after 79 of 300 groups (the last block was asked to its end, so scores are over 80 groups)." in page


def test_page_of_a_run_that_was_asked_whole_has_the_loss_of_a_whole_run(make_run: MakeRun, tmp_path: Path) -> None:
    why = "49 history clusters serve 300 independent targets"
    index, page = page_of(make_run, tmp_path, dataclasses.replace(decided("undecided"), loss=Figure(None, note=why), note=why))
    assert f"The run was asked whole, not until decided: {why}." in page and "e-value" not in page
    assert "percentage points" in page.partition("<main>")[0] and "stopped when decided" not in index and "are too narrow" not in page


def test_a_run_that_was_ended_by_the_machine_is_not_decided_yet(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("base")
    folder = make_run("stopped", base="base", failed=1)
    run = load_run(folder)
    results = dataclasses.replace(run.results, decision=decided("undecided"))
    save_run_outcome(folder, run.predictions, results, run.errors)
    page = (report([folder], tmp_path / "report").parent / "models" / "stopped.html").read_text()
    assert "Not decided yet after 79 of 300 groups" in page and "Undecided after" not in page
    assert "not decided yet: an error of the machine" in summary_text("stopped", results)


def test_other_runs_have_no_such_section(make_run: MakeRun, tmp_path: Path) -> None:
    index = report([make_run("whole")], tmp_path / "report")
    assert "Lost or not" not in (index.parent / "models" / "whole.html").read_text() and "stopped when decided" not in index.read_text()


def test_hostile_name_of_a_base_is_words(make_run: MakeRun, tmp_path: Path) -> None:
    results = load_run(make_run("stopped", base=str(make_run("base").name))).results
    assert results.forgetting is not None
    hostile = dataclasses.replace(results.forgetting, base="<script>alert(1)</script>\u202e")
    folder = tmp_path / "stopped"
    run = load_run(folder)
    save_run_outcome(folder, run.predictions, dataclasses.replace(results, decision=decided("lost"), forgetting=hostile), run.errors)
    page = (report([folder], tmp_path / "report").parent / "models" / "stopped.html").read_text()
    assert "<script>alert" not in page and "⟨U+202E⟩" in page
