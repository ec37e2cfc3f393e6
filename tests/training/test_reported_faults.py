"""Faults that were reported of training: each test names one, and holds what is right."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.cli.listing import listing
from iit_bench.errors import UserError
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import run

OUT_OF_RANGE = [
    ("lab-base", "optim.steps=0"),
    ("lab-base", "optim.steps=-5"),
    ("lab-base", "optim.batch=0"),
    ("lab-base", "optim.lr.llm=-1e-3"),
    ("lab-base", "optim.lr.llm=.inf"),
    ("lab-base", "optim.lr.llm=.nan"),
    ("lab-base", "optim.warmup=1.5"),
    ("lab-base", "optim.warmup=-0.1"),
    ("lab-base", "optim.final=2"),
    ("lab-base", "optim.weight_decay=-0.1"),
    ("lab-base", "optim.beta1=1"),
    ("lab-base", "optim.beta2=1.0"),
    ("lab-base", "optim.beta2=-0.5"),
    ("lab-base", "optim.clip=0"),
    ("lab-base", "every.log=0"),
    ("lab-base", "every.score=0"),
    ("lab-base", "every.checkpoint=0"),
    ("lab-base", "data.turns=[]"),
    ("lab-base", "data.turns=[1, 0]"),
    ("lab-base", "data.turns=[9]"),
    ("lab-base", "data.alike=1.01"),
    ("lab-base", "scenes=-0.2"),
    ("lab-base", "seed=-1"),
    ("lab-base", "limit=-3"),
    ("lab-base", "model.layers=0"),
    ("lab-base", "model.width=0"),
    ("lab-base", "model.heads=0"),
    ("lab-base", "model.mlp=0"),
    ("lab-base", "model.context=8"),
    ("lab-base", "model.vocabulary=261"),
    ("lab-tower", "model.image_size=0"),
    ("lab-tower", "model.embedding=0"),
    ("lab-tower", "model.hidden=[]"),
    ("lab-tower", "model.depths=[1, 0, 1]"),
    ("lab-wings-stage1", "model.rank=0"),
]


@pytest.mark.parametrize(("recipe", "override"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_before_training(recipe: str, override: str) -> None:
    """Steps of 0, betas of 1, negative rates and the like ran for a while, or ended in "internal error"; now they are a sentence."""
    key, value = override.split("=")
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, [override])
    message = str(caught.value)
    assert repr(key.rpartition(".")[2]) in message and "\n" not in message
    assert "it is" in message or "empty list" in message, value


@pytest.mark.parametrize(
    ("recipe", "overrides", "word"),
    [
        ("lab-base", ["model.heads=5"], "divisible"),
        ("lab-base", ["model.width=12", "model.heads=4"], "divisible"),  # heads of width 3 cannot be rotated in halves
        ("lab-base", ["optim.lr.tower=1e-3"], "no such part"),
        ("lab-base", ["optim.lr.llm=0"], "nothing would be trained"),
        ("lab-tower", ["model.depths=[1, 1]"], "depths"),
        ("lab-tower", ["model.hidden=[32, 48, 128]"], "multiple"),
        ("lab-tower", ["model.image_size=60"], "multiple of 16"),
        ("lab-wings-stage1", ["model.router=true"], "two learners"),
        ("lab-llava-stage1", ["optim.lr.visual=1e-3"], "no such part"),
        ("lab-wings-stage2", ["optim.lr.tower=1e-3"], "frozen"),
    ],
)
def test_values_that_do_not_go_together_are_refused_before_training(recipe: str, overrides: list[str], word: str) -> None:
    """Heads that do not divide the width, rates for parts that are not there: told when the recipe is read, not steps later."""
    with pytest.raises(UserError, match=word):
        load_recipe(recipe, overrides)


def test_every_stage_of_a_chain_is_checked_before_the_first_is_trained(tmp_path: Path) -> None:
    """A chain trained for hours before it read the recipe of its last stage."""
    chain = tmp_path / "chain.yaml"
    chain.write_text("kind: chain\nstages:\n  - {recipe: lab-base, out: a}\n  - {recipe: lab-base, out: b, set: {optim.steps: 0}}\n")
    with pytest.raises(UserError, match="'steps'"):
        run(str(chain), [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    chain.write_text('kind: chain\nstages:\n  - {recipe: lab-base, out: a, set: {inputs.model: "OUT/b"}}\n  - {recipe: lab-base, out: b}\n')
    with pytest.raises(UserError, match="no stage before it"):
        run(str(chain), [], tmp_path / "out")


def test_the_record_has_the_override_that_was_trained_with() -> None:
    """Of two values for one key the last was trained with, and the record, sorted by text, named another as the last."""
    loaded = load_recipe("lab-base", ["seed=7", "optim.steps=20", "seed=3", "optim.steps=100"])
    assert (loaded.recipe.seed, loaded.recipe.optim.steps) == (3, 100)  # type: ignore[union-attr]
    assert loaded.overrides == ("optim.steps=100", "seed=3")
    assert load_recipe("lab-base", loaded.overrides).recipe == loaded.recipe


def test_the_record_repeats_the_training_where_a_whole_and_its_part_are_set() -> None:
    """`optim.steps=…` stood before `optim={…}` in a record sorted by text, so that its command undid the first."""
    whole = "optim={steps: 9, batch: 2, lr: {llm: 1.0e-3}}"
    for overrides in (["optim.batch=5", whole, "optim.steps=20"], [whole, "optim.steps=20"]):
        loaded = load_recipe("lab-base", overrides)
        assert loaded.recipe.optim.steps == 20 and loaded.recipe.optim.batch == 2  # type: ignore[union-attr]
        assert loaded.overrides == (whole, "optim.steps=20")
        assert load_recipe("lab-base", loaded.overrides).recipe == loaded.recipe


@pytest.mark.slow
def test_the_card_repeats_the_training_and_scoring_is_announced(
    tiny: dict[str, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scoring after training was silent for a minute; the card's command, unquoted, could not be pasted into a shell; and of a recipe of
    one's own the folder had the hash only."""
    arguments = [*tiny["lab-base"], "optim.steps=7", "optim.steps=2", "data.turns=[1, 2]", "limit=4", "test=false"]
    out = run("lab-base", arguments, tmp_path / "out")
    said = capsys.readouterr().err
    assert "scoring the saved model on 4 questions of dev" in said and "T 0." in said
    card = json.loads((out / "training.json").read_text())
    assert card["steps"] == 2 and "optim.steps=2" in card["overrides"] and "optim.steps=7" not in card["overrides"]
    words = shlex.split(card["command"])
    again = load_recipe(words[2], [word for before, word in itertools.pairwise(words) if before == "--set"])
    assert again.recipe == load_recipe("lab-base", arguments).recipe
    run(str(out / "recipe.yaml"), [], tmp_path / "quiet", progress=False)
    own = json.loads((tmp_path / "quiet" / "training.json").read_text())
    assert shlex.split(own["command"])[2] == "recipe.yaml"  # a recipe of one's own is named by its file
    assert len({path.stat().st_mode for path in out.iterdir() if path.is_file()}) == 1  # the weights can be read by whoever reads the rest
    assert "scoring" not in capsys.readouterr().err
    repeated = json.loads((tmp_path / "quiet" / "training.json").read_text())
    assert [repeated[key] for key in ("weights_sha256", "scores", "seed")] == [card[key] for key in ("weights_sha256", "scores", "seed")]
    assert "recipe.yaml" in card["files"]


@pytest.mark.slow
def test_a_dialogue_longer_than_the_context_is_refused(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    """A base LLM with a context of 64 was trained on dialogues of 100 tokens and more, beyond what its record says it takes."""
    with pytest.raises(UserError, match=r"context is 64; lower data\.turns"):
        run("lab-base", [*tiny["lab-base"], "model.context=64", "data.turns=[8]", "optim.steps=3"], tmp_path / "out")


def test_the_list_of_recipes_shows_whole_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    """Descriptions ended where the first line of the file's comment did, and other names of recipes were not among them."""
    recipes = dict(listing("recipes"))
    assert recipes["lab-base"].endswith("are known before any picture is seen.")
    assert (recipes["nano"], recipes["nano-tower"]) == ("Another name of lab2.", "Another name of lab2-tower.")
    assert all(load_recipe(name) for name in recipes)
    assert all(text.endswith(".") for text in recipes.values())
    assert main(["list", "recipes"]) == 0
    assert "before any picture is seen." in capsys.readouterr().out


def test_a_bad_value_on_the_command_line_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`train --set optim.beta1=2` ended in a traceback of the optimiser."""
    assert main(["train", "lab-base", "--set", "optim.beta1=2", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "'beta1': must be 0 or more and below 1; it is 2.0" in said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
