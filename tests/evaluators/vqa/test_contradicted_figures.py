"""Figures of VLMEvalKit's data sets that take more than the items follow from its tables: a changed one is refused by every reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from iit_bench.types import SuiteResults
from iit_bench.workflows.verifying import verify
from tests.changed_numbers import as_json, changed_numbers, unnoticed
from tests.resealed import change

pytestmark = pytest.mark.slow

TASKS = ("MMMU_DEV_VAL", "MMBench_DEV_EN", "MME", "HallusionBench", "POPE", "AMBER", "VSR-zeroshot", "DocVQA_VAL")
OF_THE_TABLE = ("n_documents", "n_without_image")  # of a data set before any limit: in no file of a run


@pytest.fixture(scope="module")
def whole(make_parrot, tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Never changed: copy it to change it."""
    out = tmp_path_factory.mktemp("contradicted") / "run"
    options = RunOptions(model="parrot", out=out, suite="vqa", tasks=TASKS, data_root=tables)
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
    assert {"total", "perception", "fAcc", "qAcc", "mean", "F1", "Avg ACC", "acc dev", "acc without image"} <= shown
    assert len(list(changed_numbers(tasks))) > 200
    assert [place for place in unnoticed(run, SuiteResults, tasks) if not place.endswith(OF_THE_TABLE)] == []


@pytest.mark.parametrize(
    ("task", "metric"),
    [("POPE", "F1"), ("POPE", "acc"), ("MME", "total"), ("HallusionBench", "qAcc"), ("AMBER", "Avg ACC"), ("VSR-zeroshot", "F1")],
)
def test_report_and_verify_refuse_it_in_one_sentence(
    folder: Path, task: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_score(folder, task, metric, value=0.123)
    assert main(["report", str(folder), "--out", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    assert "results.json" in said and f"says tasks.{task}.scores.{metric}.value = 0.123, and by its items.parquet and parrot_{task}" in said
    assert said.count("\n") <= 2
    (found,) = verify([folder])
    assert [one.file for one in found.faults] == ["results.json"] and f"tasks.{task}.scores.{metric}.value" in found.faults[0].detail


@pytest.mark.parametrize("more", [{"low": None}, {"from_stderr": True}, {"method": "normal, stderr of lm-eval"}])
def test_a_mean_is_compared_whatever_its_other_fields_say(folder: Path, more: dict[str, Any]) -> None:
    edit_score(folder, "DocVQA_VAL", "acc", value=0.123, **more)
    with pytest.raises(UserError, match=r"says tasks\.DocVQA_VAL\.scores\.acc\.value = 0\.123"):
        load_run(folder)


def gone(path: Path) -> None:
    path.unlink()


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Yes", b"No", 1))


@pytest.mark.parametrize(("damage", "said"), [(gone, "is missing, which this run wrote"), (edited, "its sha256 is not the one")])
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
