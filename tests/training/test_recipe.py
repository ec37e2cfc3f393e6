"""Recipes: every key is known, every value has its type, and an error names both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import UserError
from iit_bench.training import recipe
from iit_bench.training.identity import difference, identity_of
from iit_bench.training.loop import schedule
from iit_bench.training.recipe import load_recipe
from iit_bench.training.records import LearningRates, Optimisation
from iit_bench.training.stages import BaseRecipe, ChainRecipe, VlmRecipe


@pytest.mark.parametrize("name", recipe.shipped())
def test_shipped_recipes_are_read(name: str) -> None:
    loaded = load_recipe(name)
    assert loaded.name == name and len(loaded.sha256) == 64
    if isinstance(loaded.recipe, ChainRecipe):
        for stage in loaded.recipe.stages:
            load_recipe(stage.recipe, [f"{key}={value}" for key, value in stage.set.items()])


@pytest.mark.parametrize("name", recipe.shipped())
def test_what_a_folder_keeps_of_a_recipe_is_that_recipe(name: str, tmp_path: Path) -> None:
    loaded = load_recipe(name).recipe
    (tmp_path / recipe.KEPT).write_text(recipe.as_yaml(loaded), encoding="utf-8")
    assert load_recipe(str(tmp_path / recipe.KEPT)).recipe == loaded


def test_of_paths_from_the_root_a_folder_keeps_the_names(tmp_path: Path) -> None:
    values = ["inputs.llm=/home/me/llm.gguf", "inputs.tower=lite0", "data.sources={}", "optim.lr.projector=1e-5", "limit=7"]
    mixture = (
        "data.mixture=[{source: /home/me/a.json, images: ~/b.zip, weight: 1e-5}, {source: c.json}, {source: hf:a/b}, {source: 'lab:facts'}]"
    )
    (tmp_path / recipe.KEPT).write_text(recipe.as_yaml(load_recipe("smol-wings-stage1", [*values, mixture]).recipe), encoding="utf-8")
    again: Any = load_recipe(str(tmp_path / recipe.KEPT)).recipe
    assert (again.inputs.llm, again.inputs.tower, again.optim.lr.projector, again.limit) == ("llm.gguf", "lite0", 1e-5, 7)
    assert [(part.source, part.images) for part in again.data.mixture] == [
        ("a.json", "b.zip"),
        ("c.json", ""),
        ("hf:a/b", ""),
        ("lab:facts", ""),
    ]
    assert again.data.mixture[0].weight == 1e-5


def test_of_paths_from_the_root_the_record_has_the_names_and_what_it_had_before_is_the_same_training() -> None:
    whole = "data.mixture=[{source: /home/me/a.json, images: ~/b.zip, weight: 1e-5}, {source: 'lab:facts'}]"
    loaded = load_recipe("smol-wings-stage1", [whole, "inputs.llm=/home/me/llm", "run.device=cuda"])
    known = identity_of(loaded)
    named = 'data.mixture=[{"source": "a.json", "images": "b.zip", "weight": "1e-5"}, {"source": "lab:facts"}]'
    assert known["overrides"] == [named, "inputs.llm=llm"]
    assert not difference({**known, "overrides": [whole, "inputs.llm=llm"]}, known)  # a card or checkpoint of an earlier version
    assert difference({**known, "overrides": [whole.replace("a.json", "c.json"), "inputs.llm=llm"]}, known)
    assert load_recipe("smol-wings-stage1", [named]).recipe.data.mixture[0].weight == 1e-5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"recipe": "lab-tower"}, "it is of recipe lab-tower, and this is lab-base"),
        ({"recipe_sha256": "0"}, "recipe lab-base has changed since"),
        ({"overrides": ["optim.steps=9", "seed=3"]}, "--set here: optim.steps=5; there: optim.steps=9"),
        ({"overrides": ["seed=3"]}, "--set here: optim.steps=5; there: no others"),
        ({}, ""),
    ],
)
def test_a_training_of_another_recipe_is_told_by_what_differs(there: dict[str, Any], words: str) -> None:
    known = identity_of(load_recipe("lab-base", ["seed=3", "optim.steps=5"]))
    assert difference({**known, **there}, known) == words


def test_a_record_without_paths_is_as_it_was_given() -> None:
    given = ("data.mixture=[{source: a.json, weight: 1e-5}]", "data.turns=[1,  2]", "seed=3")
    assert identity_of(load_recipe("smol-wings-stage1", given))["overrides"] == list(given)


def test_overrides_are_typed_and_reach_inside() -> None:
    loaded = load_recipe("lab-base", ["optim.lr.llm=1e-3", "seed=3", "data.turns=[2]"]).recipe
    assert isinstance(loaded, BaseRecipe)
    assert (loaded.optim.lr.llm, loaded.seed, loaded.data.turns) == (1e-3, 3, (2,))


def test_overrides_do_not_change_the_hash_of_the_recipe() -> None:
    assert load_recipe("lab-base", ["seed=3"]).sha256 == load_recipe("lab-base").sha256 != load_recipe("lab-tower").sha256


def test_comments_do_not_change_the_hash_but_values_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "kind: base\noptim: {steps: 5, batch: 4, lr: {llm: 1.0e-3}}\n"
    path.write_text(text)
    before = load_recipe(str(path)).sha256
    path.write_text("# why\n" + text)
    assert load_recipe(str(path)).sha256 == before
    path.write_text(text.replace("5", "6"))
    assert load_recipe(str(path)).sha256 != before


@pytest.mark.parametrize("key", ["null", "true", "3", "1.5"])
@pytest.mark.parametrize("place", ["kind: base\n{}: 3\n", "kind: base\noptim: {{{}: 3}}\n", "kind: base\nstages: [{{{}: 3}}]\n"])
def test_a_key_that_is_no_word_is_said_as_yaml_has_it(key: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(place.format(key))
    with pytest.raises(UserError, match=rf"mine\.yaml: has the key {key}, and keys are words"):
        load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1", ("'sede'", "seed")),
        ("optim.stpes=1", ("'stpes'", "steps")),
        ("optim.lr.lmm=1", ("'lmm'", "llm, tower, projector")),
        ("optim.steps=many", ("'steps'", "a whole number", "'many'")),
        ("optim.steps=true", ("'steps'", "a whole number; it is true")),
        ("optim.lr.llm=fast", ("'llm'", "a number; it is 'fast'")),
        ("data.turns=3", ("'turns'", "a list")),
        ("seed.x=1", ("seed.x", "'seed'")),
        ("seed", ("key=value",)),
    ],
)
def test_a_wrong_override_is_one_sentence_that_names_it(override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("lab-base", [override])
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_unknown_and_incomplete_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lab-wings-stage1"):
        load_recipe("lab-bass")
    path = tmp_path / "mine.yaml"
    for text, word in (("kind: soup", "kind"), ("kind: base", "optim"), ("kind: [", "YAML"), ("kind: base\nepochs: 2", "'epochs'")):
        path.write_text(text)
        with pytest.raises(UserError, match=word):
            load_recipe(str(path))


def test_the_rival_gets_the_same_data_and_as_many_steps() -> None:
    for stage in ("stage1", "stage2"):
        wings, llava = load_recipe(f"lab-wings-{stage}").recipe, load_recipe(f"lab-llava-{stage}").recipe
        assert isinstance(wings, VlmRecipe) and isinstance(llava, VlmRecipe)
        assert (wings.data, wings.optim.steps, wings.optim.batch) == (llava.data, llava.optim.steps, llava.optim.batch)


def test_schedule_warms_up_to_the_peak_and_comes_down_to_the_end() -> None:
    optim = Optimisation(steps=100, batch=1, lr=LearningRates(), warmup=0.1, final=0.2)
    shares = [schedule(step, optim) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == shares[10] == 1.0
    assert shares[55] == pytest.approx(0.6)  # half way down
    assert shares[99] == pytest.approx(0.2, abs=1e-3) and shares[10:] == sorted(shares[10:], reverse=True)


def test_nano_names_the_recipes_of_the_shipped_models() -> None:
    assert load_recipe("nano-tower", ["seed=3"]) == load_recipe("lab2-tower", ["seed=3"])
    assert load_recipe("nano").name == "lab2"
    with pytest.raises(UserError, match="neither a file nor one of"):
        load_recipe("nanotower")


def test_the_papers_recipes_name_the_papers_data() -> None:
    """One epoch of it: steps are rows by batch."""
    rows = {"stage1": 558_128, "stage2": 665_298}
    for size in ("1.8b", "7b"):
        for stage, of in rows.items():
            recipe: Any = load_recipe(f"paper-{size}-wings-{stage}").recipe
            assert [part.source.startswith("hf:liuhaotian/LLaVA-") for part in recipe.data.mixture] == [True]
            assert abs(recipe.optim.steps * recipe.optim.batch - of) < recipe.optim.batch


def test_a_kind_that_is_no_name_is_refused(tmp_path):
    """A mapping cannot be looked up among the kinds: it was an internal error."""
    path = tmp_path / "mine.yaml"
    path.write_text("kind: {}")
    with pytest.raises(UserError, match="its key 'kind' must be one of"):
        load_recipe(str(path))
