"""Forms of lm-eval tasks that the paper's list has not, against HFLM: scored ends, mutual information, prefixed replies, descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evaluators.text.model import EngineLM
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model

pytestmark = pytest.mark.oracle


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name} for name in names]


CHOICE = {"doc_to_text": "Q: {{q}}\nA:", "doc_to_choice": "choices", "doc_to_target": "gold"}
FORMS: dict[str, dict[str, Any]] = {
    "end": {"output_type": "loglikelihood", "doc_to_text": "{{q}}", "doc_to_target": "{{choices[gold]}}"},
    "mutual": {"output_type": "multiple_choice", **CHOICE, "metric_list": metrics("acc", "acc_norm", "acc_mutual_info", "brier_score")},
    "prefixed": {"output_type": "multiple_choice", **CHOICE, "gen_prefix": "The answer is", "metric_list": metrics("acc")},
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_target": "{{choices[gold]}}",
        "description": "You are a geographer.",
        "gen_prefix": "It is",
        "generation_kwargs": {"until": ["\n", "z"], "max_gen_toks": 10},
        "metric_list": metrics("exact_match"),
    },
}
FORMS["end"]["metric_list"] = metrics("perplexity", "acc")
WAYS = {
    "plain": {},
    "a turn each": {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."},
    "one turn": {"apply_chat_template": True, "fewshot_as_multiturn": False},
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    places = ("France", "the red circle", "Paris", "the blue square", "no capital", "yes")
    rows = [{"q": f"What is number {i} of {place}?", "choices": [*places[:3], "maybe"], "gold": i % 4} for i, place in enumerate(places)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"data_files": {"test": str(folder / "d.jsonl")}, "cache_dir": str(folder / "cache")}
    for name, form in FORMS.items():
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "fewshot_split": "test", **form}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["tiny llama", "wings"])
def test_requests_answers_and_metrics_are_hflms(name, way, tasks, checkpoint, tmp_path):
    model = load_model("wings" if name == "wings" else checkpoint, ModelOptions(device="cpu"))
    hflm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=4, max_length=model.context_limit)
    found = []
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        for lm in (hflm, EngineLM(model, log, BatchLimits.for_model(model.info, None))):
            manager = TaskManager(include_path=str(tasks), include_defaults=False)
            found.append(simple_evaluate(lm, tasks=list(FORMS), task_manager=manager, num_fewshot=2, bootstrap_iters=0, **WAYS[way]))
    theirs, ours = found
    for task in FORMS:
        assert theirs["samples"][task]
        for a, b in zip(theirs["samples"][task], ours["samples"][task], strict=True):
            assert a["arguments"] == b["arguments"]
            for (one,), (other,) in zip(a["resps"], b["resps"], strict=True):
                assert other == one if isinstance(one, str) else other == (pytest.approx(one[0], rel=1e-4, abs=1e-4), one[1])
        values = {metric: value for metric, value in theirs["results"][task].items() if isinstance(value, float)}
        assert len(values) >= len(FORMS[task]["metric_list"])
        for metric, value in values.items():
            assert ours["results"][task][metric] == pytest.approx(value, rel=1e-4, abs=5e-5), (task, metric)


@pytest.mark.slow
def test_the_suite_takes_every_metric_over_in_silence(tasks, options, run_with, model, capfd):
    results = run_with(model, options(*FORMS, include_path=tasks, data_root=None, limit=None, max_new_tokens=None))
    assert capfd.readouterr().out == ""  # where lm-eval would report its bootstrap
    (file,) = (options().out / "lm_eval").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]
    assert {one.task for one in results.tasks} == set(FORMS)
    for one in results.tasks:
        for metric in FORMS[one.task]["metric_list"]:
            figure = one.scores[metric["metric"]]
            assert (figure.value, figure.n) == (pytest.approx(theirs[one.task][f"{metric['metric']},none"]), 6)
            if metric["metric"] == "brier_score":  # lm-eval has no standard error of it
                assert figure.low is None and figure.high is None
            else:
                assert figure.low <= figure.value <= figure.high, (one.task, metric)
