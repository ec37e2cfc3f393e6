"""Counts of documents and standard errors in other tools' files can be what they say, or the file is damaged: intervals stand on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluators.runs.reading import read_runs
from iit_bench.errors import UserError
from tests.reliability.borders import BORDERS
from tests.reliability.damages import changed

PLACES = {
    "files of lm-eval": ("n-samples", "a", "effective"),
    "files of lmms-eval": ("n-samples", "a", "original"),
    "files of lighteval": ("config_tasks", "arc:easy|0", "effective_num_docs"),
}


def read(name: str, folder: Path, count: Any) -> Any:
    for file, text in BORDERS[name].files.items():
        if not file.endswith(".jsonl"):
            text = json.dumps(changed(json.loads(text), PLACES[name], count, False))
        (folder / file).write_text(text, encoding="utf-8")
    return read_runs(folder)


@pytest.mark.parametrize("count", [-2, 0.5, True, [], "x", float("nan")], ids=str)
@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_count_is_one_sentence(name: str, count: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is damaged \(.*is no count of documents"):
        read(name, tmp_path, count)


@pytest.mark.parametrize("name", PLACES)
def test_a_whole_number_with_a_point_is_one(name: str, tmp_path: Path) -> None:
    (run,) = read(name, tmp_path, 2.0)
    (result,) = run.results.tasks
    assert str(result.scores[result.metric].n) == "2"


def test_lighteval_writes_an_unknown_count_as_minus_one(tmp_path: Path) -> None:
    (run,) = read("files of lighteval", tmp_path, -1)
    (result,) = run.results.tasks
    assert (result.scores["acc"].n, result.n_documents) == (0, 40)


@pytest.mark.parametrize("name", PLACES)
def test_a_standard_error_below_0_is_one_sentence(name: str, tmp_path: Path) -> None:
    for file, text in BORDERS[name].files.items():
        if not file.endswith(".jsonl"):  # without samples, an interval is the standard error's
            content = json.loads(text)
            (values,) = (row for task, row in content["results"].items() if task != "all")
            values |= {key: -0.1 for key in values if "_stderr" in key}
            (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"is damaged \(.*a standard error of -0.1, below 0"):
        read_runs(tmp_path)
