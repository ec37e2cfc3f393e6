"""Counts of documents and standard errors in other tools' files can be what they say, or the file is damaged: intervals stand on them."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, cast

import pytest

from evaluators.compare.tasks import differences, how_asked
from evaluators.runs.reading import read_runs
from evaluators.runs.summary import summary_text
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import TaskRun
from reports.leaderboard import report
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


UNTOLD = {  # files that do not tell how many were asked, and what they say of a task otherwise
    "lighteval": ("files of lighteval", ("config_tasks",)),
    "lmms-eval": ("files of lmms-eval", ("n-samples", "n-shot")),
    "VLMEvalKit": ("files of VLMEvalKit", ()),
}


@pytest.fixture(params=UNTOLD)
def untold(request: pytest.FixtureRequest, tmp_path: Path) -> TaskRun:
    """A run of which only figures are left."""
    name, removed = UNTOLD[request.param]
    file, text = next((file, text) for file, text in BORDERS[name].files.items() if "result" not in file or file.endswith(".json"))
    if removed:
        text = json.dumps({key: value for key, value in json.loads(text).items() if key not in removed})
    path = tmp_path / "theirs" / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    (run,) = read_runs(tmp_path / "theirs")
    return cast(TaskRun, run)


def test_an_unknown_count_is_shown_as_unknown(untold: TaskRun, tmp_path: Path) -> None:
    """It was shown as n = 0, and its items as 0 right and 0 wrong."""
    (result,) = untold.results.tasks
    figure = result.scores[result.metric]
    assert (figure.n, result.n_documents) == (0, None) and figure.value is not None
    assert figure.low is None or (figure.from_stderr and figure.method.startswith("normal")), "made from n"
    words = summary_text("theirs", untold.results)
    assert " n unknown" in words and "n=0" not in words and "no items at hand" in words
    page = unescape(report([tmp_path / "theirs"], tmp_path / "report").read_text(encoding="utf-8")).replace("\N{NO-BREAK SPACE}", " ")
    assert "n unknown" in page
    assert not re.search(r"\bn(?: =)? 0\b", page) and not re.search(r"<td[^>]*>\s*0\s*</td>", page)


def test_an_unknown_count_is_exported_as_none(untold: TaskRun, tmp_path: Path) -> None:
    out = tmp_path / "csv"
    assert main(["export", str(tmp_path / "theirs"), "--to", "csv", "--out", str(out)]) == 0
    (file,) = out.glob("*.csv")
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert rows and {(row["n"], row["clusters"]) for row in rows} == {("", "")}


def test_an_unknown_count_is_not_the_number_of_another_run(untold: TaskRun) -> None:
    (result,) = untold.results.tasks
    asked = how_asked(untold, result)
    assert differences(asked, replace(asked, n=40)) == ["number of items (not recorded and 40)"]
    assert "few-shot examples" not in asked.settings or result.n_shot == 0  # which lighteval has in a task's name


def test_examples_that_lmms_eval_does_not_tell_are_not_none(tmp_path: Path) -> None:
    for file, text in BORDERS["files of lmms-eval"].files.items():
        content = text if file.endswith(".jsonl") else json.dumps({k: v for k, v in json.loads(text).items() if k != "n-shot"})
        (tmp_path / file).write_text(content, encoding="utf-8")
    (run,) = read_runs(tmp_path)
    assert [result.n_shot for result in run.results.tasks] == [None]


@pytest.mark.parametrize("task", ["fold/words", "w" * 300])
@pytest.mark.parametrize("name", ["files of lm-eval", "files of lmms-eval"])
def test_a_task_whose_name_no_file_can_have_is_read_without_samples(name: str, task: str, tmp_path: Path, capsys) -> None:
    """The tool could not write its samples; the results were called damaged."""
    for file, text in BORDERS[name].files.items():
        if not file.endswith(".jsonl"):
            content = {key: {task: of["a"]} if isinstance(of, dict) and "a" in of else of for key, of in json.loads(text).items()}
            (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    (run,) = read_runs(tmp_path)
    (result,) = run.results.tasks
    assert (result.task, result.scores[result.metric].n, run.items) == (task, 2, [])
    assert main(["show", str(tmp_path)]) != 70, capsys.readouterr().err


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
