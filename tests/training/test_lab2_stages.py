"""The stages of Lab 2 train on every source, with two images in one question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iit_bench.data import flags
from iit_bench.training.recipe import load_recipe
from iit_bench.training.rivals import METHODS, method_of
from iit_bench.training.train import make_task, stages_of

pytestmark = pytest.mark.slow


@pytest.fixture
def few_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "dev"):
        monkeypatch.setitem(flags.RENDERINGS, split, 1)


def test_rivals_are_trained_on_what_the_shipped_methods_are_and_as_long(tmp_path: Path) -> None:
    shipped: Any = load_recipe("lab2-llava-stage2").recipe
    stages: list[Any] = [loaded.recipe for loaded, folder in stages_of(load_recipe("lab2-rivals"), tmp_path) if "stage1" not in folder.name]
    assert all(recipe.data.sources == shipped.data.sources and recipe.limit == shipped.limit for recipe in stages)
    trained = [recipe for recipe in stages if recipe.kind == "vlm"]
    assert {recipe.alpha for recipe in stages if recipe.kind == "merge"} == {0.25, 0.5, 0.75}
    assert {(recipe.optim.steps, recipe.optim.batch) for recipe in trained} == {(shipped.optim.steps, shipped.optim.batch)}
    others = {made for name, made in METHODS.items() if name not in ("wings", "llava-one-rate")}
    assert {type(method_of(recipe)) for recipe in trained} == others


def test_shipped_recipes_of_parts_of_wings_are_those_that_models_were_trained_by() -> None:
    """A folder that was trained before the parts had names counts as finished only while its recipe's hash is the same."""
    assert {part: load_recipe(f"rival-wings-{part}").sha256[:12] for part in ("visual", "textual", "without-router")} == {
        "visual": "b2bf862cbb86",
        "textual": "0d31e7c4f170",
        "without-router": "ac4788d6fc6f",
    }


def test_a_base_llm_learns_from_the_sources_it_names_and_is_scored_on_both() -> None:
    tiny = ("model.layers=2", "model.width=48", "model.heads=2", "model.mlp=64", "model.vocabulary=400", "optim.batch=30")
    task = make_task(load_recipe("lab2-base", tiny).recipe)
    rows = [row for step in range(8) for row in task.rows(step)]
    text = task.tokenizer.decode([token for row in rows for token in row.ids])
    assert "flag" in text and "digit" in text and "whose capital is" in text
    task.loss(rows[:4]).backward()
    scored = task.score("dev", 12)
    assert {"T facts", "T two-hop", "T", "TT", "ST", "S"} <= set(scored) and scored["T"].n == 12


def test_a_multimodal_stage_sees_every_source(inputs: dict[str, Path], few_renderings: None) -> None:
    start = (f"inputs.llm={inputs['llm']}", f"inputs.tower={inputs['tower']}", "model.rank=4", "optim.batch=24")
    task: Any = make_task(load_recipe("lab2-wings-stage1", start).recipe)
    rows = [row for step in range(3) for row in task.rows(step)]
    turns = sum(row.labels[i] != -100 and row.labels[i - 1] == -100 for row in rows for i in range(1, len(row.ids)))
    assert sum(len(row.images) for row in rows) > turns == 72  # some questions have two
    mark = task.tokenizer.convert_tokens_to_ids("<image>")
    length = task.module.config.image_token_length
    assert all(row.ids.count(mark) == length * len(row.images) for row in rows)
    task.loss(rows[:6]).backward()
