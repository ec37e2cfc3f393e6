"""Each shipped recipe trains by the method that its models are named after, and a method decides only its own parts."""

from __future__ import annotations

import pytest

from iit_bench.models.bundled import ASSETS
from iit_bench.training.recipe import load_recipe
from iit_bench.training.rivals import METHODS, method_of
from iit_bench.training.stages import VlmRecipe
from iit_bench.training.vlm import build

RECIPES = {
    "lab-wings-stage1": "wings",
    "lab-wings-stage2": "wings",
    "lab-llava-stage1": "llava",
    "lab-llava-stage2": "llava",
    "lab-llava-one-rate": "llava-one-rate",
}


def recipe_of(name: str, *overrides: str) -> VlmRecipe:
    recipe = load_recipe(name, overrides).recipe
    assert isinstance(recipe, VlmRecipe)
    return recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_by_the_method_of_its_models_name(name: str) -> None:
    assert method_of(recipe_of(name)).name == RECIPES[name]


def test_every_method_has_a_shipped_model() -> None:
    assert {method.name for method in METHODS} == set(RECIPES.values())
    assert all((ASSETS / method.name / "config.json").is_file() for method in METHODS)


def test_one_rate_is_what_sets_the_two_rivals_apart() -> None:
    assert method_of(recipe_of("lab-llava-stage2", "optim.lr.llm=1e-3")).name == "llava-one-rate"
    assert method_of(recipe_of("lab-llava-one-rate", "optim.lr.llm=2e-4")).name == "llava"
    assert method_of(recipe_of("lab-wings-stage2", "optim.lr.llm=1e-3")).name == "wings"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("lab-wings-stage1", (["visual"], False)),
        ("lab-wings-stage2", (["visual", "textual"], True)),
        ("lab-llava-stage1", ([], False)),
        ("lab-llava-stage2", ([], False)),
    ],
)
def test_a_method_decides_the_parts_of_the_model(stage: str, parts: tuple[list[str], bool], tiny: dict[str, tuple[str, ...]]) -> None:
    module, _ = build(recipe_of(stage, *tiny[stage]))
    config = module.config
    assert (config.learners, config.router, config.lora_dim) == (*parts, 4)
    names = {name.split(".")[3] for name, _ in module.named_parameters() if name.startswith("model.layers.")}
    assert {"attn_pool", "attn_t_pool", "reweight_module"} & names == {
        part
        for part, has in (("attn_pool", "visual" in parts[0]), ("attn_t_pool", "textual" in parts[0]), ("reweight_module", parts[1]))
        if has
    }
