"""Run folders of format version 1, made by the build before version 2: read, their figures recomputed from their tables."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluators.compare.runs import comparisons
from evaluators.runs.reading import load_run
from iit_bench.storage import earlier_versions
from iit_bench.storage import runs as storage
from iit_bench.storage.runs import save_run_header
from reports.leaderboard import report
from tests.resealed import save_run_outcome

FOLDERS = Path(__file__).parents[2] / "data" / "run_version_1"
SUITES = ("iit", "text", "vqa")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the three run folders, to change."""
    return shutil.copytree(FOLDERS, tmp_path / "old")


def change(folder: Path, edit: Any) -> None:
    path = folder / "results.json"
    results = json.loads(path.read_text())
    edit(results)
    path.write_text(json.dumps(results))


@pytest.mark.parametrize("suite", SUITES)
def test_recomputed_figures_are_those_that_were_stored(suite: str) -> None:
    header = json.loads((FOLDERS / suite / "run.json").read_text())
    assert header["version"] == 1
    run, stored = load_run(FOLDERS / suite), storage.load_run(FOLDERS / suite)
    assert stored.outdated and run.run["suite"] == suite
    again, before = (dict(figures_of(dataclasses.asdict(one.results))) for one in (run, stored))
    kept = {where for where in before if not where.startswith("forgetting")}  # the base is not there: see below
    assert kept and {where: again[where] for where in kept} == {where: before[where] for where in kept}


def figures_of(value: Any, where: str = "") -> Iterator[tuple[str, tuple[Any, int]]]:
    """(path, (value, n)) of every figure."""
    if isinstance(value, dict) and {"value", "n", "clusters"} <= value.keys():
        yield where, (value["value"] if value["value"] is None else pytest.approx(value["value"]), value["n"])
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ():
        yield from figures_of(inner, f"{where}.{key}" if where else str(key))


def test_figures_of_iit_come_from_its_predictions(old: Path) -> None:
    def edit(results: dict[str, Any]) -> None:
        results["tiers"][0]["acc"] |= {"value": 0.123, "low": 0.1, "high": 0.2}

    change(old / "iit", edit)
    assert storage.load_run(old / "iit").results.tiers[0].acc.value == 0.123
    assert load_run(old / "iit").results == load_run(FOLDERS / "iit").results


def test_positions_and_paired_differences_of_iit_have_their_fields() -> None:
    results = load_run(FOLDERS / "iit").results
    assert {(one.tier, one.position) for one in results.positions} == {("T", 0), ("V", 0), *((t, i) for t in ("TT", "TV") for i in (0, 1))}
    assert [one.over for one in results.interleaving] == ["TT", "TV"]
    assert results.forgetting.base_run == "base" and [one.over for one in results.forgetting.per_tier] == ["T", "TT"]
    assert results.forgetting.pooled.over == "T*"


def test_forgetting_of_an_older_run_is_measured_again_where_its_base_is_beside_it(old: Path) -> None:
    shutil.copytree(old / "iit", old / "base")
    change(old / "base", lambda results: results.pop("forgetting"))
    change(old / "iit", lambda results: results["forgetting"]["pooled"]["difference"].update(value=0.5))
    pooled = load_run(old / "iit").results.forgetting.pooled
    assert (pooled.difference.value, pooled.difference.n, pooled.against) == (0, 8, "this run")


@pytest.mark.parametrize("there", ["no base", "another base"])
def test_forgetting_of_an_older_run_has_no_figures_without_its_base(old: Path, there: str) -> None:
    if there == "another base":
        shutil.copytree(old / "iit", old / "base")
        change(old / "base", lambda results: results.pop("forgetting"))
        change(old / "iit", lambda results: results["forgetting"]["base_acc"].update(value=0.75))
    forgetting = load_run(old / "iit").results.forgetting
    figures = [forgetting.pooled.difference, forgetting.retention, *(one.difference for one in forgetting.per_tier)]
    assert all(figure.value is None and "base run 'base' was not found" in figure.note for figure in figures)


def test_what_texts_held_is_in_fields() -> None:
    group, *tasks = load_run(FOLDERS / "text").results.tasks
    assert group.members == tuple(task.task for task in tasks) and all(task.members is None for task in tasks)
    assert group.chance["acc"] == pytest.approx(0.25) and all(task.n_shot == 0 for task in (group, *tasks))
    assert {task.output_type for task in tasks} == {"multiple_choice"} and all(len(task.documents_sha256) == 64 for task in tasks)
    (easyvqa,) = load_run(FOLDERS / "vqa").results.tasks
    assert (easyvqa.n_documents, easyvqa.output_type, easyvqa.dataset_class) == (9673, "VQA", "ImageVQADataset")
    assert len(easyvqa.documents_sha256) == 64 and easyvqa.state == "scored"


def test_a_figure_that_its_items_do_not_give_is_kept_and_named(old: Path) -> None:
    def edit(results: dict[str, Any]) -> None:
        results["tasks"][1]["scores"]["acc"] |= {"value": 0.123, "low": 0.1, "high": 0.2}

    change(old / "text", edit)
    kept, others = load_run(old / "text").results.tasks[1], load_run(FOLDERS / "text").results.tasks
    assert kept.scores["acc"].value == 0.123
    assert kept.notes == ("acc: as stored by an earlier iit-bench, since it cannot be recomputed from the items",)
    assert dataclasses.replace(kept, scores=others[1].scores, notes=()) == others[1]


def test_intervals_of_tasks_come_from_their_items(old: Path) -> None:
    def edit(results: dict[str, Any]) -> None:
        for task in results["tasks"]:
            for figure in task["scores"].values():
                figure |= {"low": 0.0, "high": 1.0}

    for suite in ("text", "vqa"):
        change(old / suite, edit)
        assert load_run(old / suite).results == load_run(FOLDERS / suite).results


@pytest.mark.parametrize(
    ("figure", "state"),
    [
        ({"value": None, "note": "not run: no data here", "method": ""}, "not run"),
        ({"value": None, "note": "VLMEvalKit failed to score it (KeyError); see vlmeval.log", "method": ""}, "failed"),
        ({"value": 0.5, "note": "", "method": "normal, stderr of lm-eval"}, "scored"),
    ],
)
def test_the_state_of_a_task_was_in_its_note(figure: dict[str, Any], state: str) -> None:
    (task,) = earlier_versions.upgraded({"version": 1, "tasks": [{"scores": {"acc": figure}, "details": {}}]})["tasks"]
    assert task["state"] == state and task["scores"]["acc"]["from_stderr"] is (state == "scored")


@pytest.mark.slow
def test_a_run_of_version_1_is_compared_with_one_of_version_2_and_reported_beside_it(tmp_path: Path) -> None:
    for suite in SUITES:
        run = load_run(FOLDERS / suite)
        header = {name: value for name, value in run.run.items() if name not in ("format", "version")}
        save_run_header(tmp_path / "new" / suite, header | {"name": f"new {suite}"})
        rows = run.predictions if suite == "iit" else run.items
        save_run_outcome(tmp_path / "new" / suite, rows, run.results, run.errors)
        assert load_run(tmp_path / "new" / suite).results == run.results
        (found,) = comparisons(FOLDERS / suite, tmp_path / "new" / suite)
        assert all(one["difference"]["value"] == 0 for one in map(_result, found.as_dict()["results"]))
    page = report([FOLDERS, tmp_path / "new"], tmp_path / "page").read_text()
    assert "new iit" in page and "against" in page


def _result(one: dict[str, Any]) -> dict[str, Any]:
    return one.get("result", one)
