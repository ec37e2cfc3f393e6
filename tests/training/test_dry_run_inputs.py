"""Inputs that cannot be trained on end a dry run in the sentence that ends the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError
from iit_bench.training import assets, start
from iit_bench.training.dry_run import plan
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def broken(folder: Path, target: Path, change: dict[str, Any], file: str = "config.json") -> Path:
    """A copy of a model's folder with other values in a JSON file of it."""
    shutil.copytree(folder, target)
    config = json.loads((target / file).read_text(encoding="utf-8"))
    (target / file).write_text(json.dumps(config | change), encoding="utf-8")
    return target


def refused_by_both(stage: str, overrides: list[str], out: Path) -> str:
    """The sentence in which a dry run ends, which is the training's own."""
    with pytest.raises(UserError) as planned:
        plan(stage, overrides, out)
    with pytest.raises(UserError) as trained:
        make_task(load_recipe(stage, overrides).recipe)  # type: ignore[arg-type]
    assert str(planned.value) == str(trained.value) and "\n" not in str(planned.value) and not out.exists()
    return str(planned.value)


@pytest.fixture(params=["accelerate", "no accelerate"])
def packages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is installed, and as if accelerate were not."""
    if request.param == "no accelerate":
        monkeypatch.setattr(start, "find_spec", lambda name: None, raising=False)
        for module in ("transformers.modeling_utils", "transformers.integrations.accelerate"):
            monkeypatch.setattr(f"{module}.is_accelerate_available", lambda *least: False, raising=False)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 96}, ("'model.embed_tokens.weight' is [2000, 144] in model.safetensors and [2000, 96] by config.json",)),
        ({"num_hidden_layers": 9}, ("lacks 9 weights", "'model.layers.8.", "get it again")),
        ({"num_hidden_layers": 7}, ("has weights of a layer 8", "config.json names 7 layers")),
        (None, ("recipe key inputs.llm", "has no safetensors", "convert them")),
    ],
)
def test_an_llm_whose_weights_are_not_as_described_ends_a_dry_run_as_the_training(
    change: dict[str, int] | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    folder = broken(assets.models() / "base-llm", tmp_path / "llm", change or {})
    if change is None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refused_by_both("lab-wings-stage1", [f"inputs.llm={folder}", "inputs.tower=shipped:tower"], tmp_path / "out")
    assert all(word in said for word in words), said


def renamed(folder: Path, names: dict[str, str]) -> Path:
    """A model's folder some of whose weights have other names; "" takes one out."""
    file = folder / "model.safetensors"
    weights = {names.get(name, name): tensor for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in weights.items() if name}, file, metadata={"format": "pt"})
    return folder


DOWN, OTHER = "model.layers.3.mlp.down_proj.weight", "model.layers.3.mlp.down_proj.base_layer.weight"


@pytest.mark.parametrize(
    ("key", "model", "names", "words"),
    [
        ("llm", "base-llm", {DOWN: ""}, (f"lacks 1 weight, {DOWN!r} first; it is not whole",)),
        ("llm", "base-llm", {DOWN: OTHER}, (f"lacks 1 weight, {DOWN!r} first, and has 1 without a place, {OTHER!r} first; get ",)),
        ("tower", "tower", {"TAKEN": "other.weight"}, ("lacks 1 weight, ", "and has 1 without a place, 'other.weight' first; get ")),
    ],
)
def test_weights_of_other_names_end_a_dry_run_as_the_training(
    key: str, model: str, names: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    """A dry run compared the shapes of what it knew as soon as a name was unknown, and was silent about what was lacking then."""
    folder = broken(assets.models() / model, tmp_path / model, {})
    taken = next(name for name in sorted(load_file(folder / "model.safetensors")) if name.endswith("weight"))
    renamed(folder, {taken if old == "TAKEN" else old: new for old, new in names.items()})
    inputs = {"llm": "shipped:base-llm", "tower": "shipped:tower"} | {key: str(folder)}
    said = refused_by_both("lab-wings-stage1", [f"inputs.{name}={value}" for name, value in inputs.items()], tmp_path / "out")
    assert all(word in said for word in words), said


def test_a_stage_that_lacks_a_weight_of_its_tower_ends_a_dry_run_as_the_training(tmp_path: Path) -> None:
    folder = broken(assets.models() / "wings", tmp_path / "wings", {})
    taken = next(
        name for name in sorted(load_file(folder / "model.safetensors")) if "vision_tower" in name and name.endswith("convolution.weight")
    )
    renamed(folder, {taken: ""})
    said = refused_by_both("lab-wings-stage2", [f"inputs.model={folder}"], tmp_path / "out")
    assert "lacks 1 weight, 'model.vision_tower." in said and "it is not whole, get it again" in said, said


def test_weights_without_a_place_are_one_sentence_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A training printed a table of transformers, and a dry run nothing."""
    folder = broken(assets.models() / "base-llm", tmp_path / "llm", {})
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"value_head.weight": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    overrides = [f"inputs.llm={folder}", "inputs.tower=shipped:tower"]
    said = f"warning: checkpoint {str(folder)!r} has 1 weight that its config.json has no place for, 'value_head.weight' first; "
    for run in (
        lambda: plan("lab-wings-stage1", overrides, tmp_path / "out"),
        lambda: make_task(load_recipe("lab-wings-stage1", overrides).recipe),
    ):  # type: ignore[arg-type]
        run()
        error = capsys.readouterr().err
        assert error.count(said) == 1 and "LOAD REPORT" not in error, error


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_sizes": [32, 64, 96]}, ("[128, 64, 1, 1] in model.safetensors and [96, 64, 1, 1] by config.json",)),
        (None, ("recipe key inputs.tower", "has no safetensors")),
    ],
)
def test_a_tower_whose_weights_are_not_as_described_ends_a_dry_run_as_the_training(
    change: dict[str, Any] | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    folder = broken(assets.models() / "tower", tmp_path / "tower", change or {})
    if change is None:
        (folder / "model.safetensors").unlink()
    said = refused_by_both("lab-wings-stage1", ["inputs.llm=shipped:base-llm", f"inputs.tower={folder}"], tmp_path / "out")
    assert all(word in said for word in words), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "overrides", "words"),
    [
        ("lab-wings-stage2", ["inputs.model=shipped:wings", "model.rank=8"], ("model.rank: it is 8", "inputs.model have rank 16")),
        ("rival-wings-visual", ["inputs.model=shipped:wings", "method.rank=8"], ("method.rank: it is 8", "have rank 16")),
        ("lab2-llava-stage2", ["inputs.model=shipped:wings"], ("a visual learner and a textual learner and a router", "without them")),
        ("rival-projector", ["inputs.model=shipped:wings"], ("it has a visual learner", "(method projector) would leave out")),
        ("rival-wings-visual", ["inputs.model=shipped:wings"], ("it has a textual learner and a router, which",)),
        ("rival-prefix", ["inputs.model=shipped:llava", "method.length=5000"], ("prefix of 5000", "context of 1024 tokens")),
        (
            "lab-wings-stage1",
            ["inputs.llm=shipped:base-llm", "inputs.tower=shipped:tower", "inputs.tower_layer=-99"],
            ("inputs.tower_layer", "no hidden states of number -99"),
        ),
    ],
)
def test_numbers_that_the_models_do_not_have_end_a_dry_run_as_the_training(
    stage: str, overrides: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    said = refused_by_both(stage, overrides, tmp_path / "out")
    assert all(word in said for word in words), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "words"), [("model.safetensors", "has no safetensors"), ("chat_template.jinja", "has no chat template; get its chat_template")]
)
def test_a_stage_that_lacks_a_file_ends_a_dry_run_as_the_training(file: str, words: str, tmp_path: Path) -> None:
    for name, stage in (("wings", "lab-wings-stage2"), ("base-llm", "lab-base-practice")):
        folder = broken(assets.models() / name, tmp_path / name, {})
        (folder / file).unlink()
        assert words in refused_by_both(stage, [f"inputs.model={folder}"], tmp_path / "out")


def test_a_multimodal_model_in_place_of_an_llm_ends_a_dry_run_as_the_training(tmp_path: Path) -> None:
    said = refused_by_both("lab-wings-stage1", ["inputs.llm=shipped:wings", "inputs.tower=shipped:tower"], tmp_path / "out")
    assert "recipe key inputs.llm: shipped:wings" in said and "name a folder of a text LLM" in said


def test_a_device_that_this_machine_lacks_is_a_note(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has it")
    (stage,) = plan("lab-wings-stage2", [*tiny["lab-wings-stage2"], "run.device=cuda"], tmp_path / "out")
    assert any("on this machine the training would end: run.device 'cuda' is not available" in note for note in stage.notes)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["inputs.llm=no/such/folder"], ("inputs.llm", "no/such/folder", "config.json is not there")),
        (["inputs.llm=Nobody/nothing-1b"], ("inputs.llm", "Nobody/nothing-1b", "Hub", "set inputs.llm to a folder")),
        (["inputs.llm=lost.gguf"], ("inputs.llm", "there is no file lost.gguf")),
        (["inputs.context=4096"], ("inputs.context", "4096", "1024")),
        (["inputs.context=16"], ("an image takes 16 tokens", "context has 16", "raise inputs.context")),
        (["inputs.context=32"], ("32", "lower data.turns")),
        (["inputs.tower=shipped:base-llm"], ("inputs.tower", "image_size")),
        (["inputs.template=alpaca"], ("template must be chatml",)),
        (["inputs.model=shipped:wings", "inputs.context=64"], ("inputs.llm and inputs.tower",)),
        (["shapes.llm={hidden_size: 8}"], ("shapes.llm", "model_type")),
    ],
)
def test_inputs_that_do_not_go_together_end_a_dry_run(overrides: list[str], words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        plan("lab-wings-stage1", overrides, tmp_path / "out")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vision_hidden_size": 77}, ("projector takes 16 of 77", "gives 16 vectors of 128")),
        ({"image_size": 128}, ("projector takes 16 of 128", "gives 64 vectors of 128")),
        ({"image_token_id": 99}, ("no mark <image> with the id 99",)),
        ({"router_width": 512}, ("not what its config.json describes", "[2, 1024]", "[2, 512]")),
    ],
)
def test_an_earlier_stage_whose_parts_do_not_go_together_ends_it(change: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    folder = broken(assets.models() / "wings", tmp_path / "wings", change)
    said = refused_by_both("lab-wings-stage2", [f"inputs.model={folder}"], tmp_path / "out")
    assert all(word in said for word in words), said


def test_a_router_narrower_than_the_rows_ends_a_dry_run(tmp_path: Path) -> None:
    folder = broken(assets.models() / "wings", tmp_path / "wings", {"model_max_length": 2048}, "tokenizer_config.json")
    with pytest.raises(UserError, match="router is 1024 tokens wide and rows may have 2048"):
        plan("lab-wings-stage2", [f"inputs.model={folder}"], tmp_path / "out")
