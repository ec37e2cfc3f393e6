"""Items of suite text with the words that lm-eval's files hold of them; of suite vqa: tests/evaluators/vqa/test_explained.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluators.runs.options import RunOptions
from evaluators.show.selection import Filter
from evaluators.show.show import diff, show
from evaluators.text.evaluate import evaluate_text_model
from evaluators.text.tasks import TaskOptions, load_tasks, write_facts
from iit_bench.cli import main
from iit_bench.storage.runs import load_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(llama, tmp_path_factory) -> Path:
    """Our run of the lab's facts as lm-eval tasks."""
    folder = write_facts(tmp_path_factory.mktemp("tasks") / "facts")
    out = tmp_path_factory.mktemp("text") / "run"
    options = RunOptions(model=llama.info.name, out=out, suite="text", tasks=("iit_facts_capital",), limit=6, include_path=folder)
    found = load_tasks(options.tasks, TaskOptions(include_path=folder), tmp_path_factory.mktemp("scratch"))
    evaluate_text_model(llama, found, options, progress=False)
    return out


def test_a_text_item_has_the_prompt_choices_and_log_probabilities_of_lm_evals_sample(text):
    (file,) = text.rglob("samples_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    found = show(text)
    assert found.total == 6
    for item, sample in zip(found.items, samples, strict=True):
        arguments = list(sample["arguments"].values())
        assert item.asked.turns == (arguments[0]["arg_0"],)
        assert item.asked.choices == tuple(one["arg_1"].strip() for one in arguments)
        assert item.answers[0].logprobs == tuple(float(one[0][0]) for one in sample["resps"])
        assert item.asked.answer == int(sample["target"]) and item.asked.choices[item.answers[0].chosen] == item.answers[0].reply
    lines = found.as_text()
    assert samples[0]["doc"]["question"] in lines and "(gold" in lines and "chosen" in lines


def test_lm_evals_own_files_show_the_same(text):
    (file,) = text.rglob("results_*.json")
    ours, theirs = show(text), show(file)
    assert [item.asked for item in theirs.items] == [item.asked for item in ours.items]
    assert diff(text, file).matching == 0


def test_items_are_filtered_by_task_item_and_outcome(text, capsys):
    wrong = [item.item for item in load_run(text).items if item.metric == "acc" and item.outcome == "wrong"]
    assert [item.asked.question for item in show(text, Filter(outcomes=("wrong",), sources=("iit_facts_capital",))).items] == wrong
    assert show(text, Filter(items=("iit_facts_capital/3",))).items[0].asked.question == "3"
    assert main(["show", str(text), "--tier", "VT"]) == 2
    assert "has no tiers and subjects; filter by --source and --item" in capsys.readouterr().err
