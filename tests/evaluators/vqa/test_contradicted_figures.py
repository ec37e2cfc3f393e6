"""Figures of VLMEvalKit's data sets that take more than the items follow from its tables: a changed one is refused by every reader."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluators.runs.made_again import by_table
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.vqa.evaluate import evaluate_vqa_model
from evaluators.vqa.scores import FACTS
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.types import SuiteResults
from iit_bench.workflows.verifying import verify
from tests.changed_numbers import as_json, changed_numbers, unnoticed
from tests.resealed import change

pytestmark = pytest.mark.slow

WITHOUT_ITEMS = "OCRBench"  # VLMEvalKit writes no scores by item of it
TASKS = (WITHOUT_ITEMS, "MMMU_DEV_VAL", "MMBench_DEV_EN", "MME", "HallusionBench", "POPE", "AMBER", "VSR-zeroshot", "DocVQA_VAL")


def add_ocrbench(root: Path) -> None:
    """A table of OCRBench's columns: answers are a list as text, and the category says how they are counted."""
    table = pd.read_csv(root / "DocVQA_VAL.tsv", sep="\t").head(6)
    table["answer"] = [str([str(index)]) for index in table["index"]]
    table["category"] = ["Doc-oriented VQA", "Key Information Extraction"] * 3
    table.to_csv(root / f"{WITHOUT_ITEMS}.tsv", sep="\t", index=False)


@pytest.fixture(scope="module")
def whole(make_parrot, tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Never changed: copy it to change it."""
    place = tmp_path_factory.mktemp("contradicted")
    out, data = place / "run", shutil.copytree(tables, place / "data")
    add_ocrbench(data)
    options = RunOptions(model="parrot", out=out, suite="vqa", tasks=TASKS, data_root=data)
    evaluate_vqa_model(make_parrot(), options, progress=False)
    return out


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def edit_score(folder: Path, task: str, metric: str, **values: Any) -> None:
    def edit(body: dict[str, Any]) -> None:
        (found,) = [one for one in body["tasks"] if one["task"] == task]
        found["scores"][metric] |= values

    change(folder / "results.json", edit)


def table_of(folder: Path, task: str) -> Path:
    return next(folder.glob(f"vlmeval/{task}/main/*_auxmatch.tsv"))


def test_no_changed_figure_of_any_kind_of_data_set_is_read(whole: Path) -> None:
    run = load_run(whole, "vqa")
    tasks = {"tasks": as_json(run.results)["tasks"]}
    shown = {metric for task in run.results.tasks for metric in task.scores}
    assert {"total", "perception", "fAcc", "qAcc", "mean", "F1", "Avg ACC", "acc dev", "acc without image", "Final Score"} <= shown
    assert len(list(changed_numbers(tasks))) > 200
    assert unnoticed(run, SuiteResults, tasks) == []


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("POPE", "F1"),
        ("POPE", "acc"),
        ("MME", "total"),
        ("HallusionBench", "qAcc"),
        ("AMBER", "Avg ACC"),
        ("VSR-zeroshot", "F1"),
        (WITHOUT_ITEMS, "Final Score"),
    ],
)
def test_report_and_verify_refuse_it_in_one_sentence(
    folder: Path, task: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_score(folder, task, metric, value=0.123)
    assert main(["report", str(folder), "--out", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    by = FACTS if task == WITHOUT_ITEMS else f"parrot_{task}"
    assert "results.json" in said and f"says tasks.{task}.scores.{metric}.value = 0.123, and by its items.parquet and {by}" in said
    assert said.count("\n") <= 2
    (found,) = verify([folder])
    assert [one.file for one in found.faults] == ["results.json"] and f"tasks.{task}.scores.{metric}.value" in found.faults[0].detail


@pytest.mark.parametrize("more", [{"low": None}, {"from_stderr": True}, {"method": "normal, stderr of lm-eval"}])
def test_a_mean_is_compared_whatever_its_other_fields_say(folder: Path, more: dict[str, Any]) -> None:
    edit_score(folder, "DocVQA_VAL", "acc", value=0.123, **more)
    with pytest.raises(UserError, match=r"says tasks\.DocVQA_VAL\.scores\.acc\.value = 0\.123"):
        load_run(folder)


def test_figures_of_a_run_of_before_facts_were_kept_are_read_as_they_are(folder: Path) -> None:
    def without(body: dict[str, Any]) -> None:
        for name in [one for one in body["files"] if one.endswith(FACTS)]:
            (folder / name).unlink()
            del body["files"][name]

    change(folder / "run.json", without)
    edit_score(folder, WITHOUT_ITEMS, "Final Score", value=0.123)
    (found,) = [one for one in load_run(folder, "vqa").results.tasks if one.task == WITHOUT_ITEMS]
    assert found.scores["Final Score"].value == 0.123 and found.n_documents == 6


def test_a_table_of_other_items_is_no_reason_to_believe_a_figure(folder: Path) -> None:
    """An index that is spelled otherwise in the table than in the items left the stored figure unchecked, and said nothing."""
    run: TaskRun = load_run(folder, "vqa")
    (stored,) = [one for one in run.results.tasks if one.task == "POPE"]
    items = [one for one in run.items if one.task == "POPE"]
    assert "F1" in by_table(run, stored, items).scores
    spelled = [dataclasses.replace(one, item=f"{one.item}.0") for one in items]
    with pytest.raises(UserError, match=r"parrot_POPE_auxmatch\.tsv' and items\.parquet of its run are not of the same items \('0"):
        by_table(run, stored, spelled)
    unsealed = dataclasses.replace(run, sealed=False)
    assert by_table(unsealed, stored, spelled).scores == {}


def gone(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    """The same table, of another folder."""
    elsewhere = path.parents[4] / "elsewhere.tsv"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Yes", b"No", 1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(gone, "is missing, which this run wrote"), (edited, "its sha256 is not the one"), (linked, "leads out of the folder of its run")],
)
def test_a_table_that_is_gone_or_was_changed_is_named(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(table_of(folder, "MME"))
    with pytest.raises(UserError, match=rf"parrot_MME_auxmatch.tsv' .*{said}"):
        load_run(folder)


def test_figures_of_a_run_of_before_seals_are_those_of_its_tables(folder: Path, whole: Path) -> None:
    for task, metric in (("POPE", "F1"), ("POPE", "acc"), ("HallusionBench", "mean"), ("AMBER", "Avg ACC")):
        edit_score(folder, task, metric, value=0.123)
    change(folder / "results.json", lambda body: body.pop("seal"), version=3)
    again: TaskRun = load_run(folder, "vqa")
    assert {task.task: task.scores for task in again.results.tasks} == {task.task: task.scores for task in load_run(whole).results.tasks}
