"""What `train --dry-run` reports is what training does, and what would end a training ends it there."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.training import assets, passes, start
from iit_bench.training.dry_run import plan
from iit_bench.training.dry_run_text import text
from iit_bench.training.parallel import Processes
from iit_bench.training.recipe import load_recipe
from iit_bench.training.rivals import method_of
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task

OFFICIAL = Path(__file__).parent.parent / "data" / "wings_official_shapes.json"
HUB_PARAMETERS = {  # of the LLMs alone, by the sizes of their config.json
    "paper-1.8b-wings-stage1": 1_836_828_672,
    "qwen3-0.6b-wings-stage1": 596_049_920,
    "smol-llava-stage1": 134_515_008,
}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def official() -> dict[str, int]:
    """Parameters of the authors' checkpoint by part, of all layers."""
    known = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    counts = dict.fromkeys(("llm", "projector", "visual", "textual", "router", "tower"), 0)
    marks = {"vision_tower": "tower", "mm_projector": "projector", "attn_pool": "visual", "attn_t_pool": "textual", "reweight": "router"}
    tensors = [(name, shape, 1) for name, shape in known["tensors"].items()]
    for prefix, layer in known["layers"].items():
        tensors += [(prefix + name, shape, layer["count"]) for name, shape in layer["tensors"].items()]
    for name, shape, times in tensors:
        counts[next((part for mark, part in marks.items() if mark in name), "llm")] += times * math.prod(shape)
    return counts


@pytest.mark.slow
@pytest.mark.oracle
def test_the_papers_recipe_has_the_parameters_of_the_authors_checkpoint(tmp_path: Path) -> None:
    _, stage2 = plan("paper-7b", [], tmp_path / "out", processes=8)
    counts, theirs = {part.name: part.parameters for part in stage2.parts}, official()
    for part in ("llm", "projector", "visual", "textual"):
        assert counts[part] == theirs[part], part
    assert counts["router"] - 32 * 2 == (theirs["router"] - 32 * 2) / 2  # 2048 columns, where the authors' has 4096
    a_layer = 4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
    assert counts["tower"] == theirs["tower"] + a_layer  # the authors delete SigLIP's last layer; here its output is not read


@pytest.mark.slow
@pytest.mark.parametrize("recipe", HUB_PARAMETERS)
def test_a_recipe_of_a_hub_model_is_counted_without_the_hub(recipe: str, tmp_path: Path) -> None:
    (stage,) = plan(recipe, [], tmp_path / "out", throughput=1000)
    (llm,) = [part for part in stage.parts if part.name == "llm"]
    assert llm.parameters == HUB_PARAMETERS[recipe]
    assert stage.hours == pytest.approx(stage.total / 3_600_000)
    assert not stage.rows.measured and stage.memory is not None
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["lab-wings-stage1", "lab-wings-stage2", "lab-llava-stage2", "lab-base"])
def test_parts_rows_and_bytes_are_those_of_the_training(stage: str, tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    (counted,) = plan(stage, [*tiny[stage], "optim.steps=2"], tmp_path / "out")
    recipe: Any = load_recipe(stage, [*tiny[stage], "optim.steps=2"]).recipe
    task = make_task(recipe)
    assert {part.name: part.parameters for part in counted.parts} == {name: sum(p.numel() for p in of) for name, of in task.groups.items()}
    rows = [row for step in range(2) for row in task.rows(step)]
    assert counted.total == sum(task.size(row) for row in rows)
    assert counted.rows.labelled == task.weight(rows) / counted.total
    task.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size == pytest.approx(counted.writes["model.safetensors"], rel=0.15)


@pytest.fixture
def grouped(inputs: dict[str, Path], tmp_path: Path) -> Path:
    """A base LLM whose heads share keys and values, with a wide MLP, as SmolLM2's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    AutoTokenizer.from_pretrained(inputs["llm"]).save_pretrained(tmp_path / "grouped")
    config = LlamaConfig.from_pretrained(inputs["llm"])
    config.update({"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 8, "intermediate_size": 192})
    config.update({"num_hidden_layers": 6})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "grouped")
    return tmp_path / "grouped"


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize("llm", ["shipped", "grouped"])
@pytest.mark.parametrize("stage", ["wings-stage1", "wings-stage2", "llava-stage1", "llava-stage2"])
def test_activations_are_what_autograd_keeps(stage: str, llm: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    method, _, number = stage.partition("-")
    overrides = ["optim.batch=16"]
    place = "shipped:base-llm" if llm == "shipped" else str(request.getfixturevalue("grouped"))
    start_at = ["inputs.context=1024", f"inputs.llm={place}", "inputs.tower=shipped:tower"]
    if number == "stage2" and llm == "shipped":
        start_at = [f"inputs.model=shipped:{method}"]
    elif number == "stage2":
        make_task(load_recipe(f"lab-{method}-stage1", start_at).recipe).save(tmp_path / "stage1")
        start_at = [f"inputs.model={tmp_path}/stage1"]
    overrides, stage = [*overrides, *start_at], f"lab-{stage}"
    (counted,) = plan(stage, overrides, tmp_path / "out")
    recipe: Any = load_recipe(stage, overrides).recipe
    stepper = Stepper(make_task(recipe), recipe.optim, recipe.run, Processes(recipe.run))
    own = {t.untyped_storage().data_ptr() for t in (*stepper.task.module.parameters(), *stepper.task.module.buffers())}
    most = max(range(8), key=lambda step: max(stepper.task.size(row) for row in stepper.task.rows(step)))
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    rows = stepper.task.rows(most)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = stepper._pass(rows, range(len(rows)))
    assert loss.requires_grad
    padded = passes.tokens([stepper.task.size(row) for row in rows], stepper.task.packs())
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / padded
    assert counted.memory is not None
    estimated = (counted.memory.activations + counted.memory.logits) / counted.rows.largest
    assert estimated == pytest.approx(measured, rel=0.07)


def test_checkpointing_and_sharding_lower_the_peak(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    stage, overrides = "lab-wings-stage2", tiny["lab-wings-stage2"]
    (plain,) = plan(stage, overrides, tmp_path / "out")
    (sharded,) = plan(stage, [*overrides, "run.parallel=fsdp"], tmp_path / "out", processes=4)
    assert plain.with_checkpointing is not None and plain.memory is not None and sharded.memory is not None
    assert plain.with_checkpointing < plain.memory.peak == plain.without_checkpointing
    assert sharded.memory.moments == plain.memory.moments // 4


def test_a_chain_is_counted_from_the_stages_before(tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    chain.write_text(
        "kind: chain\nstages:\n"
        '  - {recipe: lab-wings-stage1, out: one}\n  - {recipe: lab-wings-stage2, out: two, set: {inputs.model: "OUT/one"}}\n'
    )
    one, two = plan(str(chain), [], tmp_path / "out")
    assert {part.name for part in two.parts} - {part.name for part in one.parts} == {"textual", "router"}


def test_a_merge_of_what_no_stage_makes_ends_the_dry_run_of_its_chain(tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    merged = '{inputs.model: "MODEL", inputs.llm: "shipped:base-llm"}'
    stages = f"  - {{recipe: lab2-tower, out: one}}\n  - {{recipe: rival-merge, out: two, set: {merged}}}\n"
    chain.write_text(f"kind: chain\nstages:\n{stages}".replace("MODEL", "shipped:llava"))
    _, merge = plan(str(chain), [], tmp_path / "out", throughput=1000)
    assert (merge.kind, merge.steps, merge.rows, merge.out) == ("merge", 0, None, str(tmp_path / "out" / "two"))
    assert "averaged" in text([merge]) and "base + 0.5 (tuned - base)" in text([merge])
    chain.write_text(f"kind: chain\nstages:\n{stages}".replace("MODEL", str(tmp_path / "gone")))
    with pytest.raises(UserError, match=r"inputs\.model: .*gone is no model folder"):
        plan(str(chain), [], tmp_path / "out")


@pytest.mark.slow
def test_a_merge_alone_and_a_stage_that_starts_from_it_are_planned(tmp_path: Path) -> None:
    chain = tmp_path / "chain.yaml"
    merge = '{recipe: rival-merge, out: merged, set: {inputs.model: "shipped:llava", inputs.llm: "shipped:base-llm"}}'
    chain.write_text(
        f'kind: chain\nstages:\n  - {merge}\n  - {{recipe: lab2-llava-stage2, out: after, set: {{inputs.model: "OUT/merged"}}}}\n'
    )
    merged, after = plan(str(chain), [], tmp_path / "out")
    assert {part.name: part.parameters for part in merged.parts} == {part.name: part.parameters for part in after.parts}
    with (assets.models() / "llava" / "model.safetensors").open("rb") as file:
        assert merged.writes["model.safetensors"] == pytest.approx(len(file.read()), rel=0.05)
    start = ["inputs.model=shipped:llava", "inputs.llm=shipped:base-llm"]
    assert plan("rival-merge", start, tmp_path / "out")[0].parts == merged.parts


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["inputs.llm=''"], "llm is missing"),
        (["inputs.llm=shipped:wings"], "cannot be loaded"),
        (["inputs.model=shipped:tower"], "inputs.model"),
    ],
)
def test_a_merge_that_cannot_be_ends_its_dry_run(overrides: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        plan("rival-merge", ["inputs.model=shipped:llava", "inputs.llm=shipped:base-llm", *overrides], tmp_path / "out")


def test_a_tower_that_a_script_makes_is_named_with_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"lite0 is no model folder.*python -m iit_bench\.training\.lite0 --out lite0, or set inputs\.tower"
    ):
        plan("smol-lite0", [], tmp_path / "out")


def test_hours_may_be_those_of_measured_steps(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    (stage,) = plan("lab-wings-stage2", tiny["lab-wings-stage2"], tmp_path / "out", processes=2, throughput="measured")
    assert stage.throughput is not None and stage.throughput > 0
    assert stage.hours == pytest.approx(stage.total / stage.throughput / 3600)
    assert any("2 times what one process of this machine reaches" in note for note in stage.notes)
    assert not (tmp_path / "out").exists()


def test_the_time_is_in_units_that_can_be_read(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    (stage,) = plan("lab-wings-stage2", [*tiny["lab-wings-stage2"], "optim.steps=2"], tmp_path / "out", throughput=1000)
    for hours, words in ((0.0006, "2.2 seconds"), (0.01, "36 seconds"), (0.25, "15 minutes"), (2.46, "2.5 hours"), (2460, "2,460.0 hours")):
        assert f"in all, {words} at 1,000 tokens per second" in text([dataclasses.replace(stage, hours=hours)])


@pytest.mark.slow
def test_what_cannot_run_here_yet_is_not_measured(tmp_path: Path) -> None:
    (stage,) = plan("smol-llava-stage1", [], tmp_path / "out", throughput="measured")
    assert stage.hours is None and any("the throughput was not measured: recipe key inputs.llm" in note for note in stage.notes)


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "fast"])
def test_a_throughput_is_a_number_or_measured(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "lab-wings-stage1", "--dry-run", "--throughput", text, "--out", str(tmp_path / "out")]) == 2
    assert "must be tokens per second, a number above 0, or measured" in capsys.readouterr().err


def test_the_command_prints_text_or_json_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["train", "lab-wings-stage1", "--set", "optim.batch=4", "--dry-run", "--throughput", "1000", "--out", str(out)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "projector" in text and "frozen" in text and "seconds at 1,000 tokens per second" in text
    assert main([*words, "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)
    assert stage["parts"][0].keys() == {"name", "parameters", "rate"} and stage["memory"]["peak"] > stage["memory"]["weights"]
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.oracle
def test_of_a_model_of_text_and_images_the_vision_part_is_taken(inputs: dict[str, Path], tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = SiglipConfig(text_config={**sizes, "vocab_size": 50}, vision_config={**sizes, "image_size": 28, "patch_size": 14})
    whole = SiglipModel(config).eval()
    whole.save_pretrained(tmp_path / "siglip")
    (tmp_path / "siglip" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}))
    overrides = [f"inputs.llm={inputs['llm']}", f"inputs.tower={tmp_path / 'siglip'}", "inputs.tower_layer=-2", "model.rank=4"]
    recipe: Any = load_recipe("lab-wings-stage1", overrides).recipe
    model, _ = start.build(recipe, method_of(recipe))
    pixels = torch.randn(2, 3, 28, 28)
    expected = whole.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(model.encode_images(pixels), expected)
    assert (model.config.image_token_length, model.config.image_mean) == (4, [0.1, 0.2, 0.3])
