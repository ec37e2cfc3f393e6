"""Recipes train by the method they name, or that their model and rates describe; a method decides only its own parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.models.bundled import ASSETS
from iit_bench.training.method_records import OPTIONS
from iit_bench.training.recipe import load_recipe
from iit_bench.training.rivals import METHODS, method_of
from iit_bench.training.stages import VlmRecipe
from iit_bench.training.train import make_task

SHIPPED = {
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


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_trains_by_the_method_of_its_models_name(name: str) -> None:
    method = method_of(recipe_of(name)).name
    assert method == SHIPPED[name]
    assert (ASSETS / method / "config.json").is_file()


def test_every_method_has_its_options_under_its_name() -> None:
    assert set(METHODS) == set(OPTIONS)
    assert all(options().name == name for name, options in OPTIONS.items())


@pytest.mark.parametrize(
    ("switches", "name"),
    [
        ("textual: false, router: false", "wings-visual"),
        ("visual: false, router: false", "wings-textual"),
        ("router: false", "wings-without-router"),
        ("rank: 16", "wings"),
    ],
)
def test_a_part_of_wings_is_the_same_by_its_name_and_by_switches(switches: str, name: str) -> None:
    """Cells of the experiment, and models of before, have the switches."""
    by_switch, by_name = (
        method_of(recipe_of("lab-llava-stage2", f"method={{name: {method}}}", "optim.lr={llm: 1e-4}"))
        for method in (f"wings, {switches}", name)
    )
    assert type(by_switch) is type(by_name) is METHODS[name]
    assert by_switch.config_fields() == by_name.config_fields() and by_switch.options.parts == by_name.options.parts


def test_one_rate_is_what_sets_the_two_full_tunings_apart() -> None:
    assert method_of(recipe_of("lab-llava-stage2", "optim.lr.llm=1e-3")).name == "llava-one-rate"
    assert method_of(recipe_of("lab-llava-one-rate", "optim.lr.llm=2e-4")).name == "llava"
    assert method_of(recipe_of("lab-wings-stage2", "optim.lr.llm=1e-3")).name == "wings"


def test_a_named_method_has_its_own_options() -> None:
    options: Any = recipe_of("lab-llava-stage2", "method={name: lora, rank: 3}", "optim.lr={adapter: 1e-4}").method
    assert dataclasses.asdict(options)["rank"] == 3 and options.alpha == 32


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method={name: lor}"], "must be one of wings, wings-visual.*'lor'"),
        (["method=lora"], "must be one of wings"),
        (["method={name: lora, rnk: 3}"], "'rnk'"),
        (["method={name: lora, rank: 0}", "optim.lr={adapter: 1}"], "'rank'.*1 or more"),
        (["method={name: lora, targets: [all]}"], "targets must be some of q_proj"),
        (["method={name: lora}"], "optim.lr.llm is above 0, but a model of method lora has no such part; the parts are projector, adapter"),
        (["method={name: projector}"], "the parts are projector"),
        (["method={name: llava-one-rate}"], "must be equal"),
        (["method={name: llava}", "model.rank=3"], "model and method both"),
        (["method={name: wings, textual: false}"], "router weighs two learners"),
        (["method={name: wings, textual: false, visual: false}"], "nothing is left of Wings"),
        (["method={name: wings-visual, textual: true}"], "'textual'"),
        (["method={name: wings-textual}", "optim.lr={textual: 1, visual: 1}"], "no such part; the parts are llm, projector, textual"),
        (["method={name: wings-without-router, mode: released}"], "weighs two learners by a router"),
        (["method={name: replay, share: 1}"], "'share'.*below 1"),
        (["method={name: replay, sources: {easyvqa: 1}}"], "no 'easyvqa'"),
        (["method={name: replay, sources: {facts: 0}}"], "above 0"),
        (["method={name: replay, sources: {}}"], "no text to replay"),
        (["method={name: replay}", "data.mixture=[{source: 'lab:easyvqa', weight: 1}]"], "lab:facts, with method llava"),
        (["optim.lr.adapter=1"], "no such part"),
    ],
)
def test_a_wrong_method_is_one_sentence(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_recipe("lab-llava-stage2", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "method", "parts"),
    [
        ("lab-wings-stage1", "{}", (["visual"], False)),
        ("lab-wings-stage2", "{}", (["visual", "textual"], True)),
        ("lab-llava-stage1", "{}", ([], False)),
        ("lab-llava-stage2", "{}", ([], False)),
        ("lab-llava-stage2", "{name: wings, rank: 4}", (["visual", "textual"], True)),
        ("lab-llava-stage2", "{name: wings, rank: 4, router: false}", (["visual", "textual"], False)),
        ("lab-llava-stage2", "{name: wings, rank: 4, textual: false, router: false}", (["visual"], False)),
        ("lab-llava-stage2", "{name: wings, rank: 4, visual: false, router: false}", (["textual"], False)),
        ("lab-llava-stage2", "{name: wings-without-router, rank: 4}", (["visual", "textual"], False)),
        ("lab-llava-stage2", "{name: wings-visual, rank: 4}", (["visual"], False)),
        ("lab-llava-stage2", "{name: wings-textual, rank: 4}", (["textual"], False)),
    ],
)
def test_a_method_decides_the_parts_of_the_model(
    stage: str, method: str, parts: tuple[list[str], bool], inputs: dict[str, Path], tiny: dict[str, tuple[str, ...]]
) -> None:
    named = (f"inputs.model={inputs['llava-stage1']}", f"method={method}", "optim.batch=3") if method != "{}" else tiny[stage]
    task = make_task(recipe_of(stage, *named))
    config, (learners, router) = task.module.config, parts
    assert (config.learners, config.router, config.lora_dim) == (learners, router, 4)
    assert config.equal_weights == (len(learners) == 2 and not router)
    assert set(task.groups) == {"llm", "tower", "projector", *learners, *(["router"] if router else [])}
    assert sum(p.numel() for group in task.groups.values() for p in group) == sum(p.numel() for p in task.module.parameters())


@pytest.mark.slow
def test_two_learners_without_a_router_both_add_with_weight_one(inputs: dict[str, Path]) -> None:
    """As with a router that weighs them alike, at scale 2."""
    overrides = (f"inputs.model={inputs['llava-stage1']}", "optim.batch=3", "data.turns=[2]")
    plain = make_task(recipe_of("lab-llava-stage2", *overrides, "method={name: wings, rank: 4, router: false}"))
    routed = make_task(recipe_of("lab-llava-stage2", *overrides, "method={name: wings, rank: 4}"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("visual", "textual"):
            for parameter, other in zip(plain.groups[name], routed.groups[name], strict=True):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
                other.copy_(parameter)
        for parameter in routed.groups["router"]:
            parameter.zero_()
        rows = plain.rows(0)
        loss = plain.loss(rows)
        torch.testing.assert_close(loss, routed.loss(rows), rtol=1e-5, atol=1e-5)
        for parameter in plain.groups["textual"]:
            parameter.zero_()
        assert abs(plain.loss(rows) - loss) > 1e-3


@pytest.mark.slow
def test_text_is_replayed_in_the_share_that_is_asked_for(inputs: dict[str, Path]) -> None:
    overrides = (f"inputs.model={inputs['llava-stage1']}", "method={name: replay, share: 0.25, sources: {facts: 1}}", "optim.batch=400")
    task = make_task(recipe_of("lab-llava-stage2", *overrides))
    rows = task.rows(0)
    turns = sum(row.labels[i] != -100 and row.labels[i - 1] == -100 for row in rows for i in range(1, len(row.ids)))
    text = turns - sum(len(row.images) for row in rows)
    assert turns == pytest.approx(400, abs=3)
    assert 60 < text < 140  # of 100: more than three standard errors of alike turns on either side
    assert any(not row.images for row in rows)
    task.loss([row for row in rows if not row.images][:2]).backward()
