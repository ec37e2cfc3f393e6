"""Files as lighteval 0.13.0 writes them are read as figures with intervals; they are made here with the columns of its Doc and Detail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from statsmodels.stats.proportion import proportion_confint

from evaluators.runs.reading import read_runs
from iit_bench.errors import UserError
from reports.leaderboard import report

RIGHT = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
DATE = "2026-01-02T03-04-05.678901"


def write(folder: Path, details: bool = True) -> Path:
    """A results file of a task whose choices were scored and of one that generates."""
    home = folder / "results" / "org" / "model"
    home.mkdir(parents=True)
    mean = sum(RIGHT) / len(RIGHT)
    content = {
        "config_general": {"lighteval_sha": "abc", "max_samples": 10, "total_evaluation_time_secondes": "3.5", "model_name": "org/model"}
        | {"model_config": {"model_name": "org/model", "dtype": "bfloat16", "generation_parameters": {"temperature": 0, "top_p": None}}},
        "results": {"arc:easy|0": {"acc": mean, "acc_stderr": 0.1528}, "words|5": {"em": mean, "em_stderr": 0.1528}}
        | {"arc:_average|0": {"acc": mean, "acc_stderr": 0.15}, "all": {"acc": mean, "em": mean}},
        "versions": {"arc:easy|0": 2, "words|5": 1},
        "config_tasks": {name: {"original_num_docs": 40, "effective_num_docs": 10} for name in ("arc:easy|0", "words|5")},
        "summary_tasks": {},
        "summary_general": {},
    }
    path = home / f"results_{DATE}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    for task, metric in (("arc:easy|0", "acc"), ("words|5", "em")) if details else ():
        rows: list[dict[str, Any]] = []
        for place, right in enumerate(RIGHT):
            doc = {"query": f"Question {place}?", "choices": ["Paris", "Rome", "Bern", "Oslo"], "gold_index": 0, "id": f"doc-{place}"}
            scored = metric == "acc"
            response = {"text": [] if scored else ["Paris" if right else "<script>alert"], "reasonings": []}
            response |= {"logprobs": [-1.0, -0.5 if not right else -2.0, -3.0, -4.0] if scored else [], "argmax_logits_eq_gold": []}
            rows.append({"doc": doc | {"task_name": task}, "metric": {metric: right}, "model_response": response})
        place_of = folder / "details" / "org" / "model" / DATE / f"details_{task}_{DATE}.parquet"
        place_of.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), place_of)
    return path


@pytest.mark.oracle
def test_a_mean_of_documents_has_wilsons_interval(tmp_path):
    (run,) = read_runs(write(tmp_path))
    assert [(result.task, result.n_shot) for result in run.results.tasks] == [("arc:easy|0", 0), ("words|5", 5)]
    for result, metric in zip(run.results.tasks, ("acc", "em"), strict=True):
        figure = result.scores[metric]
        assert (figure.value, figure.n) == (pytest.approx(0.7), 10)
        assert (figure.low, figure.high) == pytest.approx(proportion_confint(sum(RIGHT), len(RIGHT), method="wilson"))
    assert (run.run["tool"], run.run["model"]["name"], run.run["model"]["dtype"]) == ("lighteval", "org/model", "bfloat16")


def test_scored_choices_have_a_chance_level_and_the_chosen_text(tmp_path):
    (run,) = read_runs(write(tmp_path))
    assert [result.chance for result in run.results.tasks] == [{"acc": 0.25}, {}]
    replies = [item.reply for item in run.items if item.task == "arc:easy|0"]
    assert replies == ["Paris" if right else "Rome" for right in RIGHT]
    assert [item.item for item in run.items[:2]] == ["doc-0", "doc-1"]


def test_without_details_the_interval_comes_from_the_standard_error(tmp_path):
    (run,) = read_runs(write(tmp_path, details=False))
    figure = run.results.tasks[0].scores["acc"]
    assert figure.from_stderr and figure.low < 0.7 < figure.high and figure.n == 10
    assert "--save-details" in run.results.tasks[0].notes[0]


def test_a_folder_of_its_results_joins_the_page(tmp_path):
    write(tmp_path / "out")
    page = report([tmp_path / "out"], tmp_path / "report").read_text()
    assert "lighteval" in page and "arc:easy|0" in page and "<script>alert" not in page


def test_a_damaged_table_is_one_sentence(tmp_path):
    path = write(tmp_path)
    next(tmp_path.rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is no table of lighteval's details"):
        read_runs(path)
