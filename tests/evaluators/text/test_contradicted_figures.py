"""Figures of lm-eval's tasks that are no means follow from its files in the run folder: a changed one is refused by every reader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from evaluators.text.evaluate import evaluate_text
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.types import SuiteResults
from iit_bench.workflows.verifying import verify
from tests.changed_numbers import as_json, changed_numbers, unnoticed
from tests.resealed import change

pytestmark = pytest.mark.slow


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name} for name in names]


FORMS: dict[str, dict[str, Any]] = {
    "chosen": {"doc_to_target": "answer", "metric_list": metrics("acc", "acc_norm")},
    "entailed": {"doc_to_choice": ["no", "yes"], "doc_to_target": "label", "metric_list": metrics("acc", "f1", "mcc")},
    "likely": {"output_type": "loglikelihood", "doc_to_target": "{{choices[answer]}}", "metric_list": metrics("perplexity", "acc")},
    "translated": {"output_type": "generate_until", "doc_to_target": "{{choices[answer]}}", "metric_list": metrics("bleu")},
}
GROUP = {"group": "both", "task": ["chosen", "entailed"], "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}]}


@pytest.fixture(scope="module")
def whole(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of these tasks, two of them in a group. Never changed: copy it to change it."""
    folder = tmp_path_factory.mktemp("contradicted")
    rows = [{"question": f"Number {i}?", "choices": [f"red {i}", f"blue {i}"], "answer": i % 2, "label": i % 3 % 2} for i in range(9)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"data_files": {"test": str(folder / "d.jsonl")}, "cache_dir": str(folder / "cache")}
    of_all = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "doc_to_text": "{{question}}\nAnswer:"}
    for name, form in FORMS.items():
        choices = {} if "output_type" in form else {"output_type": "multiple_choice", "doc_to_choice": "choices"}
        until = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 8}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **of_all, **choices, **until, **form}))
    (folder / "both.yaml").write_text(yaml.safe_dump(GROUP))
    tasks = ("both", "likely", "translated")
    options = RunOptions(model=checkpoint, out=folder / "run", suite="text", tasks=tasks, include_path=folder, device="cpu")
    evaluate_text(options, progress=False)
    return folder / "run"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def edit_task(folder: Path, task: str, edit: Any) -> None:
    change(folder / "results.json", lambda body: edit(next(one for one in body["tasks"] if one["task"] == task)))


@pytest.mark.parametrize("every", [False, True])
def test_no_changed_number_is_read(whole: Path, every: bool) -> None:
    """Chance levels take every sample: verify compares them, other readers do not."""
    run = load_run(whole, "text", every=every)
    tasks = {"tasks": as_json(run.results)["tasks"]}
    shown = {metric for task in run.results.tasks for metric in task.scores}
    assert {"acc", "acc_norm", "f1", "mcc", "perplexity", "bleu"} <= shown and run.results.tasks[0].members == ("chosen", "entailed")
    assert len(list(changed_numbers(tasks))) > 100
    found = unnoticed(run, SuiteResults, tasks, every)
    assert [place for place in found if every or ".chance." not in place] == []


@pytest.mark.parametrize(("task", "metric"), [("entailed", "f1"), ("entailed", "mcc"), ("likely", "perplexity"), ("translated", "bleu")])
def test_report_and_verify_refuse_it_in_one_sentence(
    folder: Path, task: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_task(folder, task, lambda body: body["scores"][metric].update(value=0.123))
    assert main(["report", str(folder), "--out", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    assert f"says tasks.{task}.scores.{metric}.value = 0.123, and by its items.parquet and results_" in said
    assert "results.json" in said and said.count("\n") <= 2
    (found,) = verify([folder])
    assert [one.file for one in found.faults] == ["results.json"] and f"tasks.{task}.scores.{metric}.value" in found.faults[0].detail


def test_a_mean_is_compared_whatever_its_other_fields_say(folder: Path) -> None:
    edit_task(folder, "chosen", lambda body: body["scores"]["acc"].update(value=0.123, low=None, from_stderr=True))
    with pytest.raises(UserError, match=r"says tasks\.chosen\.scores\.acc\.value = 0\.123"):
        load_run(folder)


def test_a_changed_chance_level_is_found_by_verify(folder: Path) -> None:
    edit_task(folder, "chosen", lambda body: body["chance"].update(acc=0.1))
    assert "says tasks.chosen.chance = " in verify([folder])[0].faults[0].detail


def test_without_lm_evals_files_means_follow_from_the_items(folder: Path) -> None:
    """As in the folder of a run whose run.json lists no files."""
    shutil.rmtree(folder / "lm_eval")
    change(folder / "run.json", lambda body: body.pop("files"))
    values = [{name: figure.value for name, figure in task.scores.items()} for task in load_run(folder).results.tasks]
    edit_task(folder, "entailed", lambda body: body["scores"]["acc"].update(value=0.123))
    assert len(values) == 5
    with pytest.raises(UserError, match=r"says tasks\.entailed\.scores\.acc\.value = 0\.123, and by its items.parquet and errors"):
        load_run(folder)
