"""Result files that VLMEvalKit wrote are read as figures with intervals: those of our own run, whose files they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from evaluators.compare.runs import comparisons
from evaluators.compare.tasks import differences, how_asked
from evaluators.runs import reading, recompute
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import read_all, read_runs
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.errors import UserError
from iit_bench.storage.runs import Run, TaskRun, load_run
from iit_bench.types import Figure, SuiteResults, TaskItem, TaskResult
from tests.resealed import relist

pytestmark = pytest.mark.slow

CHOICE = ("AI2D_TEST", "MMBench_DEV_EN", "MMMU_DEV_VAL")
YES_NO = ("MME", "HallusionBench", "POPE")
OPEN = ("ChartQA_TEST", "DocVQA_VAL", "TextVQA_VAL")


@pytest.fixture(scope="module")
def run(make_parrot, tables, tmp_path_factory) -> TaskRun:
    out = tmp_path_factory.mktemp("run") / "vqa"
    options = RunOptions(model="parrot", out=out, suite="vqa", tasks=(*CHOICE, *YES_NO, *OPEN), data_root=tables)
    evaluate_vqa_model(make_parrot(), options, progress=False)
    return load_run(out)


@pytest.fixture(scope="module")
def outputs(run, tmp_path_factory) -> Path:
    """VLMEvalKit's files as it lays them out: OUTPUTS/MODEL/MODEL_DATASET…"""
    folder = tmp_path_factory.mktemp("outputs") / "parrot"
    folder.mkdir()
    for path in run.path.glob("vlmeval/*/main/*"):
        shutil.copy(path, folder)
    return folder


def test_figures_and_items_are_those_of_the_run_that_wrote_the_files(run, outputs) -> None:
    (found,) = read_runs(outputs.parent)
    assert found.run["tool"] == "VLMEvalKit" and found.run["model"]["name"] == "parrot"
    assert {result.task for result in found.results.tasks} == set(run.run["tasks"])
    mine = {result.task: result for result in run.results.tasks}
    for result in found.results.tasks:
        theirs, ours = result.scores, {name: figure for name, figure in mine[result.task].scores.items() if "without image" not in name}
        assert {name: figure.value for name, figure in theirs.items()} == pytest.approx(
            {name: figure.value for name, figure in ours.items()}, abs=1e-9
        ), result.task
        assert (result.metric, result.best) == (mine[result.task].metric, mine[result.task].best)
        shown = theirs[result.metric]
        assert shown.low < shown.value < shown.high and shown.n == ours[result.metric].n
    scores = {(item.task, item.item, item.metric): item.score for item in run.items if "without image" not in item.metric}
    assert {(item.task, item.item, item.metric): item.score for item in found.items} == pytest.approx(scores)


@pytest.mark.parametrize("task", [*CHOICE, *OPEN])
def test_the_judge_is_known_and_the_numbers_may_stand_in_one_column(run, outputs, task) -> None:
    (found,) = read_runs(outputs)
    one, other = (next(result for result in each.results.tasks if result.task == task) for each in (found, run))
    assert differences(how_asked(found, one), how_asked(run, other)) == []


def test_the_two_are_compared_item_by_item(run, outputs) -> None:
    (found,) = comparisons(outputs, run.path)
    assert {one.result.over for one in found.results} == {*CHOICE, *OPEN}
    assert all(one.result.difference.value == 0 for one in found.results)
    assert set(found.left_out) == set(YES_NO)
    assert "judge (not recorded and exact_matching)" in found.left_out["MME"]


def test_points_are_compared_by_the_accuracy_of_their_items(run) -> None:
    (found,) = comparisons(run.path, run.path)
    mme = next(one for one in found.results if one.result.over == "MME")
    assert (mme.metric, mme.best, mme.a) == ("acc", 1.0, next(r for r in run.results.tasks if r.task == "MME").scores["acc"])
    assert mme.result.difference.value == 0 and mme.result.difference.clusters < mme.result.difference.n  # two questions an image


def test_figures_without_scored_rows_have_no_interval_and_say_so(outputs, tmp_path) -> None:
    folder = tmp_path / "parrot"
    folder.mkdir()
    for name in ("parrot_AI2D_TEST_acc.csv", "parrot_POPE_score.csv"):
        shutil.copy(outputs / name, folder)
    (found,) = read_runs(folder)
    choice, yes_no = found.results.tasks
    assert choice.scores["Overall"].value == pd.read_csv(folder / "parrot_AI2D_TEST_acc.csv")["Overall"][0]
    assert (choice.best, yes_no.best) == (1.0, None)  # fractions; percentages
    assert choice.scores["Overall"].low is None and "without an interval" in choice.notes[0]
    assert found.items == []


def test_files_of_one_folder_are_one_run_however_they_are_named(outputs) -> None:
    paths = [outputs / "parrot_AI2D_TEST_acc.csv", outputs / "parrot_MME_score.csv"]
    _, (one,) = read_all(paths)
    assert one.run["tasks"] == ["AI2D_TEST", "MME"]


def test_two_files_of_figures_of_one_data_set_are_refused(outputs, tmp_path) -> None:
    folder = shutil.copytree(outputs, tmp_path / "parrot")
    shutil.copy(folder / "parrot_AI2D_TEST_acc.csv", folder / "parrot_AI2D_TEST_score.csv")
    with pytest.raises(UserError, match=r"are both figures of 'AI2D_TEST'; leave one of them"):
        read_runs(folder)


def test_files_of_both_tools_in_a_folder_are_all_read(outputs, tmp_path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(outputs, folder / "parrot")
    figures = {"results": {"piqa": {"alias": "piqa", "acc,none": 0.5, "acc_stderr,none": 0.1}}, "configs": {}, "n-shot": {"piqa": 0}}
    figures |= {
        "n-samples": {"piqa": {"original": 4, "effective": 4}},
        "versions": {"piqa": 1.0},
        "config": {"model": "hf"},
        "model_name": "m",
    }
    (folder / "results_2026-01-01T00-00-00.000000.json").write_text(json.dumps(figures))
    assert sorted({run.run["suite"] for run in read_runs(folder)}) == ["text", "vqa"]


def test_a_linked_copy_of_a_file_is_not_read_twice(outputs, tmp_path) -> None:
    folder = tmp_path / "parrot"
    shutil.copytree(outputs, folder / "T20260101")
    (folder / "parrot_MME_score.csv").symlink_to(folder / "T20260101" / "parrot_MME_score.csv")
    (found,) = read_runs(folder)
    assert found.run["tasks"].count("MME") == 1


# ---------------------------------------------------------------- formats, bad files


def test_json_and_excel_tables_are_read_like_tsv(outputs, tmp_path) -> None:
    pytest.importorskip("openpyxl")
    found = {}
    for ending in ("json", "xlsx"):
        folder = tmp_path / ending / "parrot"
        folder.mkdir(parents=True)
        shutil.copy(outputs / "parrot_MME_score.csv", folder)
        frame = pd.read_csv(outputs / "parrot_MME_auxmatch.tsv", sep="\t")
        target = folder / f"parrot_MME_auxmatch.{ending}"
        frame.to_json(target, orient="records") if ending == "json" else frame.to_excel(target, index=False)
        (found[ending],) = read_runs(folder)
    assert found["json"].items and found["json"].items == found["xlsx"].items
    assert found["json"].results.tasks[0].scores["total"].value == pytest.approx(found["xlsx"].results.tasks[0].scores["total"].value)


def test_bad_files_are_one_sentence_each(outputs, tmp_path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(outputs / "parrot_MMBench_DEV_EN_acc.csv", folder)
    with pytest.raises(UserError, match="does not show where the model's name ends"):
        read_runs(folder)
    model = tmp_path / "parrot"
    model.mkdir()
    shutil.copy(outputs / "parrot_AI2D_TEST_acc.csv", model)
    (model / "parrot_AI2D_TEST_exact_matching_result.tsv").write_text("index\tprediction\n1\tA\n")
    with pytest.raises(UserError, match=r"'.*parrot_AI2D_TEST_acc.csv' or a table beside it is damaged \(KeyError: 'hit'\)"):
        read_runs(model)
    shutil.copy(outputs / "parrot_AI2D_TEST_exact_matching_result.tsv", model)
    shutil.copy(outputs / "parrot_AI2D_TEST_exact_matching_result.tsv", model / "parrot_AI2D_TEST_gpt4_result.tsv")
    with pytest.raises(UserError, match="of two judges or formats; leave one of them"):
        read_runs(model)
    (model / "parrot_AI2D_TEST_gpt4_result.tsv").unlink()
    (model / "parrot_AI2D_TEST_acc.csv").unlink()
    (model / "parrot_AI2D_TEST_acc.json").write_text("{")
    with pytest.raises(UserError, match=r"table .*acc.json' cannot be read"):
        read_runs(model)


def test_figures_of_an_older_run_are_computed_from_its_items_and_tables(run, tmp_path) -> None:
    """Partial credits without a 0 were stored as 1, and points of MME as if all were right: what was stored is not taken."""
    folder = shutil.copytree(run.path, tmp_path / "old")
    results = json.loads((folder / "results.json").read_text())
    for task in results["tasks"]:
        if task["task"] == "MME":
            task["scores"]["total"] |= {"value": 600.0, "low": 500.0, "high": 600.0}
    del results["seal"]
    results["version"] = 2
    (folder / "results.json").write_text(json.dumps(results))
    relist(folder / "results.json")
    again = {result.task: result for result in reading.load_run(folder).results.tasks}
    mine = {result.task: result for result in run.results.tasks}
    assert again["MME"].scores["total"] == mine["MME"].scores["total"]
    assert again["MME"].scores["perception"] == mine["MME"].scores["perception"]


def test_a_stored_mean_of_1_is_not_taken_where_the_items_say_otherwise() -> None:
    figure = Figure(1.0, low=0.8, high=1.0, n=2, clusters=2, method="wilson")
    made = {"task": "DocVQA_VAL", "cluster": "", "metric": "acc", "outcome": "wrong", "reply": ""}
    rows = [TaskItem(**made | {"item": str(i), "score": score, "cluster": str(i)}) for i, score in enumerate((0.9, 0.7))]
    stored = TaskResult(task="DocVQA_VAL", metric="acc", scores={"acc": figure}, outcomes={})
    suite = SuiteResults(suite="vqa", complete=True, outcomes={}, tasks=(stored,))
    (result,) = recompute.recomputed(Run(path=Path("nowhere"), run={}, results=suite, foreign_items=rows)).results.tasks
    assert result.scores["acc"].value == pytest.approx(0.8) and result.notes == ()
