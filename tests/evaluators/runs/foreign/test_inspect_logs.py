"""Logs that inspect wrote itself are read as figures with intervals, and what they lack is said."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("inspect_ai")

from evaluators.runs.foreign import inspect_logs
from evaluators.runs.reading import read_runs
from iit_bench.errors import UserError
from reports.leaderboard import report

pytestmark = pytest.mark.slow

ANSWERS = ["A", "B", "A", "A", "B", "A", "B", "A"]  # of the model; the right one is always A


def run_inspect(folder: Path, **more) -> Path:
    """inspect's own evaluation of eight questions by its mock model."""
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    samples = more.pop("samples", [Sample(id=i, input=f"Question {i}?", target="A") for i in range(len(ANSWERS))])
    task = Task(dataset=MemoryDataset(samples, name="questions"), solver=generate(), scorer=match(), name="letters", **more)
    outputs = [ModelOutput.from_content("mockllm/model", reply) for reply in ANSWERS * 4]
    for output in outputs:
        output.usage = ModelUsage(input_tokens=3, output_tokens=1, total_tokens=4)  # else inspect counts, with a file from the network
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = inspect_eval(task, model=model, log_dir=str(folder), display="none", max_connections=1, max_samples=1, log_realtime=False)
    assert log.status == "success"
    return Path(log.location.removeprefix("file://"))


@pytest.fixture(scope="module")
def log_file(tmp_path_factory) -> Path:
    return run_inspect(tmp_path_factory.mktemp("inspect"))


@pytest.mark.oracle
def test_the_figure_is_inspects_own_with_our_interval(log_file):
    from inspect_ai.log import read_eval_log

    (run,) = read_runs(log_file)
    (result,) = run.results.tasks
    theirs = read_eval_log(log_file).results.scores[0].metrics
    figure = result.scores["match"]
    assert (result.task, result.metric, run.run["suite"], figure.n) == ("letters", "match", "text", len(ANSWERS))
    assert figure.value == pytest.approx(theirs["accuracy"].value) == ANSWERS.count("A") / len(ANSWERS)
    n, z = len(ANSWERS), 1.959963984540054
    p, centre = figure.value, (figure.value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (figure.low, figure.high) == pytest.approx((centre - half, centre + half))
    assert figure.method == "wilson" and run.run["tool"].startswith("inspect 0.3") and run.run["model"]["name"] == "mockllm/model"


def test_items_have_ids_replies_and_outcomes(log_file):
    (run,) = read_runs(log_file.parent)
    assert [(item.item, item.reply, item.outcome) for item in run.items] == [
        (str(i), reply, "correct" if reply == "A" else "wrong") for i, reply in enumerate(ANSWERS)
    ]


def test_epochs_of_one_sample_are_a_cluster(tmp_path):
    (run,) = read_runs(run_inspect(tmp_path, epochs=3))
    figure = run.results.tasks[0].scores["match"]
    assert (figure.n, figure.clusters) == (3 * len(ANSWERS), len(ANSWERS))
    scores = {}
    for item in run.items:
        scores.setdefault(item.cluster, []).append(item.score)
    assert figure.value == pytest.approx(np.mean([score for one in scores.values() for score in one]))


def test_two_logs_of_the_same_questions_know_it(log_file, tmp_path):
    from inspect_ai.dataset import Sample

    same = run_inspect(tmp_path / "same")
    other = run_inspect(tmp_path / "other", samples=[Sample(id=i, input=f"Question {i}!", target="A") for i in range(len(ANSWERS))])
    hashes = [read_runs(path)[0].results.tasks[0].documents_sha256 for path in (log_file, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_questions_with_pictures_are_of_suite_vqa(tmp_path, make_image):
    import base64

    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText

    uri = f"data:image/png;base64,{base64.b64encode(make_image(0).data).decode()}"
    asked = [ChatMessageUser(content=[ContentImage(image=uri), ContentText(text="What is it?")])]
    (run,) = read_runs(run_inspect(tmp_path, samples=[Sample(id="one", input=asked, target="A")]))
    assert run.results.suite == "vqa" and run.results.tasks[0].judge == "match"


def test_the_leaderboard_marks_whose_number_it_is(log_file, tmp_path):
    page = report([log_file], tmp_path / "report").read_text()
    assert "inspect 0.3" in page and "letters" in page and "mockllm/model" in page


def test_a_damaged_log_and_a_missing_package_are_one_sentence(log_file, tmp_path, monkeypatch):
    half = tmp_path / "half.eval"
    half.write_bytes(log_file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"half.eval' is no log of inspect, or a damaged one"):
        read_runs(half)
    monkeypatch.setitem(__import__("sys").modules, "inspect_ai.log", None)
    with pytest.raises(UserError, match=r"pip install 'iit-bench\[formats\]'"):
        inspect_logs.read_log(log_file)
