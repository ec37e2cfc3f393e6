"""Faults that were reported about whole runs of image-text models, one test each: what was wrong, and what is right."""

from __future__ import annotations

import dataclasses
import json

import pytest

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    def call(model, bench, **more):
        options = RunOptions(model=model.info.name, bench=bench.path, out=tmp_path / "run", limit=2, **more)
        results = evaluate_model(model, bench, options, progress=False)
        errors = [json.loads(line) for line in (tmp_path / "run" / "errors.jsonl").read_text().splitlines()[1:]]
        return results, errors

    return call


@pytest.mark.parametrize(("name", "mark"), [("llava", "<image>"), ("qwen2_vl", "<|image_pad|>"), ("gemma3", "<start_of_image>")])
@pytest.mark.parametrize("scoring", ["loglikelihood", "generate"])
def test_a_mark_in_questions_choices_and_system_prompt_ended_the_run(run, bench, family_model, name, mark, scoring):
    """No repeat could get past a question with the model's own mark in its words; every dialogue is answered."""
    questions = {
        key: dataclasses.replace(
            one, question=f"{one.question} ({mark})", choices=tuple(f"{choice} {mark}" for choice in one.choices), fixed_order=True
        )
        for key, one in bench.questions.items()
    }
    marked = dataclasses.replace(bench, questions=questions)
    more = {"tiers": ("T", "V", "VT"), "style": "options", "system_prompt": f"No {mark}.", "max_new_tokens": 2}
    results, errors = run(family_model(name), marked, scoring=scoring, **more)
    assert errors == []
    assert sum(results.outcomes.values()) > 0


def test_a_model_without_chats_runs_the_tiers_of_one_question(run, bench, family_model):
    """PaliGemma could not be loaded; it runs T and V, and the other tiers are unavailable with the reason."""
    results, errors = run(family_model("paligemma"), bench, scoring="loglikelihood")
    assert errors == []
    notes = {tier.tier: tier.acc.note for tier in results.tiers}
    assert notes["TV"] == "the model takes one question without history"
    assert {tier for tier, note in notes.items() if note != "the model takes one question without history"} == {"T", "V"}
