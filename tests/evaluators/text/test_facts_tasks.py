"""The lab's facts as lm-eval tasks: with the chat template, the question and the numbers of IIT's tier T."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import evaluate_text
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import Run


@pytest.mark.slow
def test_in_the_models_chat_format_every_choice_has_the_logprob_of_tier_t(run: Callable[..., Run], tmp_path: Path) -> None:
    iit = run(load_model("base-llm", ModelOptions(device="cpu")), out="iit", tiers=("T",))
    out = tmp_path / "text"
    given = {
        "model": "base-llm",
        "out": out,
        "suite": "text",
        "tasks": ("iit_facts_capital",),
        "device": "cpu",
        "apply_chat_template": True,
    }
    evaluate_text(RunOptions(**given), progress=False)
    asked = {}
    for file in (out / "lm_eval").rglob("samples_*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            logprobs = [float(response[0][0]) for response in sample["resps"]]
            asked[sample["doc"]["id"]] = dict(zip(sample["doc"]["choices"], logprobs, strict=True))
    capitals = [p for p in iit.predictions if p.subject == "capital"]
    assert capitals
    for prediction in capitals:  # the benchmark shuffles the choices
        assert asked[prediction.question] == pytest.approx(dict(zip(prediction.choices, prediction.logprobs, strict=True)), abs=2e-4)
