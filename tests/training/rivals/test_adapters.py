"""LoRA and DoRA: what is saved is what was trained, merged into plain weights and as an adapter that peft reads."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.training import loop
from iit_bench.training.dry_run import plan
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task, run

pytestmark = pytest.mark.slow

STEPS = ("optim.steps=3", "optim.batch=3", "limit=2", "test=false", "optim.lr={adapter: 0.02, projector: 0.01}")


def overrides(method: str, inputs: dict[str, Path]) -> list[str]:
    return [f"inputs.model={inputs['llava-stage1']}", f"method={{name: {method}, rank: 2}}", *STEPS]


@pytest.fixture(params=["lora", "dora"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_peft_reads_the_adapter_onto_the_stage_before(method: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    recipe: Any = load_recipe("lab-llava-stage2", overrides(method, inputs)).recipe
    task = make_task(recipe)
    before = logits_of(task.module.eval(), task)
    loop.fit(task, recipe.optim, recipe.every, tmp_path, {}, resume=False)
    trained = logits_of(task.module.eval(), task)
    assert (trained - before).abs().max() > 0.01
    task.save(tmp_path / "out")
    base = WingsForConditionalGeneration.from_pretrained(inputs["llava-stage1"], dtype=torch.float32)
    torch.testing.assert_close(
        logits_of(PeftModel.from_pretrained(base, tmp_path / "out" / "adapter").eval(), task), trained, rtol=0, atol=1e-5
    )
    merged = task.method.finished(task.module)
    torch.testing.assert_close(logits_of(merged.eval(), task), trained, rtol=0, atol=1e-5)
    saved = WingsForConditionalGeneration.from_pretrained(tmp_path / "out").state_dict()
    assert set(saved) == set(WingsForConditionalGeneration.from_pretrained(inputs["llava-stage1"]).state_dict())
    assert all(
        torch.equal(tensor, merged.state_dict()[name].to(torch.bfloat16)) for name, tensor in saved.items() if tensor.is_floating_point()
    )
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "llava-stage1"


def logits_of(model: Any, task: Any) -> torch.Tensor:
    """Logits of one batch with images."""
    from iit_bench.training import batches

    batch = batches.collate(task.rows(7), task.tokenizer.pad_token_id)
    with torch.no_grad():
        return model(input_ids=batch.ids, attention_mask=batch.mask, image_features=task._features(batch.images)).logits[batch.mask.bool()]


def test_a_folder_evaluates_by_name_and_records_its_base(method: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.load import load_model

    out = run("lab-llava-stage2", overrides(method, inputs), tmp_path / "out", progress=False)
    card = json.loads((out / "training.json").read_text())
    assert (card["method"]["name"], card["method"]["rank"]) == (method, 2)
    assert card["method"]["base"]["name"] == "llava-stage1" and len(card["method"]["base"]["weights_sha256"]) == 64
    assert card["scores"]["dev"]["V"]["n"] == 2
    assert load_model("wings", ModelOptions(checkpoint=str(out))).info.accepts_images
    for name, checkpoint in (("wings", str(out / "adapter")), (f"hf:{out}/adapter", None)):  # each named another command that ends, too
        with pytest.raises(UserError, match=f"merged in already; name that: --model wings --checkpoint {out}$"):
            load_model(name, ModelOptions(checkpoint=checkpoint))


def test_a_base_in_several_files_is_adapted_and_recorded(method: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    whole, parts = inputs["llava-stage1"], tmp_path / "parts"
    shutil.copytree(whole, parts, ignore=shutil.ignore_patterns("*.safetensors"))
    WingsForConditionalGeneration.from_pretrained(whole).save_pretrained(parts, max_shard_size="40KB")
    files = sorted(parts.glob("*.safetensors"))
    assert len(files) > 1 and not (parts / "model.safetensors").exists()
    recipes: list[Any] = [load_recipe("lab-llava-stage2", overrides(method, {"llava-stage1": path})).recipe for path in (whole, parts)]
    tasks = list(map(make_task, recipes))
    assert torch.equal(*(logits_of(task.module.eval(), task) for task in tasks))
    before = tasks[1].method.fields()["base"]
    assert before["name"] == "parts" and len(before["weights_sha256"]) == 64
    weights = load_file(files[-1])
    save_file({name: tensor + 1 for name, tensor in weights.items()}, files[-1], metadata={"format": "pt"})
    assert tasks[1].method.fields()["base"]["weights_sha256"] != before["weights_sha256"]


@pytest.mark.parametrize("options", ["{name: lora, rank: 2}", "{name: dora, rank: 2}", "{name: prefix, length: 3}"])
def test_a_chains_dry_run_counts_an_adapter_of_an_untrained_stage(options: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    start = f"inputs.llm: {inputs['llm']}, inputs.tower: {inputs['tower']}"
    adapt = f"method: {options}, optim.lr: {{adapter: 0.02, projector: 0.01}}, optim.batch: 3, inputs.model: OUT/first"
    chain = tmp_path / "chain.yaml"
    chain.write_text(
        f"kind: chain\nstages:\n- {{recipe: lab-llava-stage1, out: first, set: {{{start}, model.rank: 4}}}}\n"
        f"- {{recipe: lab-llava-stage2, out: second, set: {{{adapt}}}}}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # a dry run printed peft's
        _, counted = plan(str(chain), [], tmp_path / "out")
    recipe: Any = load_recipe("lab-llava-stage2", [f"inputs.model={inputs['llava-stage1']}", f"method={options}", *STEPS]).recipe
    trained = {name: sum(p.numel() for p in group) for name, group in make_task(recipe).groups.items()}
    assert {part.name: part.parameters for part in counted.parts} == trained
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["wings-stage1", "llm"])
def test_a_stage_that_cannot_be_adapted_is_one_sentence(name: str, inputs: dict[str, Path]) -> None:
    start = f"inputs.model={inputs[name]}" if name != "llm" else "inputs.model=''"
    with pytest.raises(UserError, match="without learners" if name != "llm" else "inputs.model"):
        make_task(load_recipe("lab-llava-stage2", [*overrides("lora", inputs), start]).recipe)
