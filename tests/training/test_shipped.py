"""The shipped models are those that the shipped recipes make, and their cards record it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from iit_bench.training import assets
from iit_bench.training.recipe import load_recipe

MADE_BY = {
    "base-llm": "lab2-base",
    "tower": "lab2-tower",
    "wings": "lab2-wings-stage2",
    "llava": "lab2-llava-stage2",
    "llava-one-rate": "lab2-llava-one-rate",
}


@pytest.mark.parametrize("name", MADE_BY)
def test_card_names_the_recipe_as_it_is_now_and_the_weights_as_they_are(name: str) -> None:
    folder = assets.models() / name
    card = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert (card["recipe"], card["recipe_sha256"]) == (MADE_BY[name], load_recipe(MADE_BY[name]).sha256)
    assert all(override.startswith("inputs.") for override in card["overrides"])  # nothing but where the stage before lies
    assert (
        card["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == assets.weights_sha256(folder)
    )
    assert all(score["n"] > 0 for split in ("dev", "test") for score in card["scores"][split].values())


def test_shipped_models_are_small_and_in_bfloat16() -> None:
    from safetensors import safe_open

    files = sorted(assets.models().rglob("*.*"))
    assert sum(file.stat().st_size for file in files) < 25_000_000
    for name in MADE_BY:
        with safe_open(assets.models() / name / "model.safetensors", framework="pt") as tensors:
            kinds = {tensors.get_tensor(key).dtype for key in tensors.keys()}  # noqa: SIM118 - not a mapping
        assert kinds <= {torch.bfloat16, torch.int64}  # int64: batch counters of the tower


def test_shipped_models_name_no_path_of_the_machine_that_made_them() -> None:
    for file in sorted(assets.models().rglob("*.json")):
        text = file.read_text(encoding="utf-8")
        assert str(Path.home()) not in text and '_name_or_path": "/' not in text, file


@pytest.mark.slow
def test_shipped_base_llm_knows_a_fact_in_a_wording_it_was_not_taught() -> None:
    from iit_bench.data import facts
    from iit_bench.training import scores
    from iit_bench.training.stages import BaseRecipe
    from iit_bench.training.train import make_task

    recipe = load_recipe("lab-base", ["model.layers=1"]).recipe
    assert isinstance(recipe, BaseRecipe)
    task = make_task(recipe)
    task.load(assets.models() / "base-llm")
    asked = [[question] for question in facts.questions("test")[::40]]
    assert scores.accuracy(task.tokenizer, task.reply_logits, asked).acc > 0.9
