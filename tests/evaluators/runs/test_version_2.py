"""Run folders of format version 2, made by the build before version 3: their figures are recomputed, and what a sign meant is turned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evaluators.iit.forgetting import forgetting
from evaluators.runs.reading import load_run
from iit_bench.storage import runs as storage
from reports.leaderboard import report

FOLDERS = Path(__file__).parents[2] / "data" / "run_version_2"  # two runs, and one of the tiers T and TV; "tuned" has "base" as its base


def stored(name: str) -> dict:
    return json.loads((FOLDERS / name / "results.json").read_text())


def test_forgetting_is_measured_again_as_base_minus_run() -> None:
    """Version 2 stored run minus base; right: base minus run, from the predictions of both."""
    old = stored("tuned")
    run, base = load_run(FOLDERS / "tuned"), load_run(FOLDERS / "base")
    found = run.results.forgetting
    again = forgetting(run.predictions, base.predictions, "base", "base")
    assert old["version"] == 2 and found is not None and (found.pooled, found.per_tier) == (again.pooled, again.per_tier)
    for new, before in zip((*found.per_tier, found.pooled), (*old["forgetting"]["per_tier"], old["forgetting"]["pooled"]), strict=True):
        assert before["difference"]["value"] > 0 and new.difference.value == pytest.approx(-before["difference"]["value"])
        assert (new.only_a, new.only_b) == (before["only_b"], before["only_a"])


def test_what_was_stored_is_not_trusted(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS, tmp_path / "runs")
    path = tmp_path / "runs" / "tuned" / "results.json"
    results = json.loads(path.read_text())
    results["iit"]["acc"] |= {"value": 0.9, "low": 0.8, "high": 1.0}
    results["forgetting"]["pooled"]["difference"] |= {"value": 0.9}
    path.write_text(json.dumps(results))
    assert storage.load_run(tmp_path / "runs" / "tuned").results.iit["acc"].value == 0.9
    assert load_run(tmp_path / "runs" / "tuned").results == load_run(FOLDERS / "tuned").results


def test_a_base_that_is_gone_leaves_no_figures_of_forgetting(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS / "tuned", tmp_path / "tuned")
    found = load_run(tmp_path / "tuned").results.forgetting
    assert found is not None and found.pooled.difference.value is None
    assert found.pooled.difference.note == "the base run 'base' was not found, and an earlier iit-bench made the stored figures"


def test_a_run_of_some_tiers_loses_its_iit_score() -> None:
    assert stored("some")["iit"]["acc"]["value"] is not None
    results = load_run(FOLDERS / "some").results
    assert results.iit["acc"].value is None and results.subset_tiers == ("T", "TV")
    assert results.subset_score["acc"].value == pytest.approx(stored("some")["iit"]["acc"]["value"])


@pytest.mark.slow
def test_they_are_on_a_page(tmp_path: Path) -> None:
    page = report([FOLDERS / name for name in ("base", "tuned", "some")], tmp_path / "page").read_text()
    assert "subset score" in page and "Base LLM (A) minus model (B)" in page
