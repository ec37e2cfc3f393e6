"""Prefix tuning against peft's own forward pass and generation on the same decoder, with and without images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.training import start
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task, run
from iit_bench.types import Message

pytestmark = [pytest.mark.slow, pytest.mark.oracle]
LENGTH = 5


def overrides(inputs: dict[str, Path], stage: str = "llava-stage1") -> list[str]:
    steps = ["optim.steps=3", "optim.batch=3", "limit=2", "test=false", "optim.lr={adapter: 0.05, projector: 0.01}"]
    return [f"inputs.model={inputs[stage]}", f"method={{name: prefix, length: {LENGTH}}}", *steps]


@pytest.fixture(scope="module")
def folder(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained prefix, whose numbers in the model's own file are those of the adapter's."""
    torch.set_num_threads(1)
    out = run("lab-llava-stage2", overrides(inputs), tmp_path_factory.mktemp("prefix") / "out", progress=False)
    from safetensors.torch import load_file, save_file

    adapter = out / "adapter" / "adapter_model.safetensors"
    rounded = {name: tensor.bfloat16().float() for name, tensor in load_file(adapter).items()}
    save_file(rounded, adapter)
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return start.load(folder)[0].eval()


@pytest.fixture(scope="module")
def theirs(folder: Path, model: Any) -> Any:
    """The decoder as transformers has it, with the adapter that peft reads."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    llm = LlamaForCausalLM._from_config(model.config.text_config, attn_implementation="eager", dtype=torch.float32)
    assert not llm.load_state_dict(dict(model.state_dict()), strict=False).missing_keys
    return PeftModel.from_pretrained(llm, folder / "adapter").eval()


@pytest.fixture(scope="module")
def batch(inputs: dict[str, Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [1, N] and tower features [n, T, D_v] of a dialogue with two images."""
    recipe: Any = load_recipe("lab-llava-stage2", [*overrides(inputs), "data.turns=[2]"]).recipe
    task = make_task(recipe)
    row = task.rows(7)[0]
    return torch.tensor([row.ids]), task._features(row.images)


def embedded(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Input embeddings [1, N, D] with projected images in place."""
    ids, features = batch
    embeddings = model.model.embed_tokens(ids)
    embeddings[ids == model.config.image_token_id] = model.model.mm_projector(features).flatten(0, 1)
    return embeddings


@torch.no_grad()
def test_logits_are_those_of_peft_with_and_without_images(model: Any, theirs: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, features = batch
    mask = torch.ones_like(ids)
    expected = theirs(inputs_embeds=embedded(model, batch), attention_mask=mask).logits
    torch.testing.assert_close(model(ids, image_features=features).logits, expected, rtol=0, atol=1e-5)
    text = ids[:, -8:]
    expected = theirs(input_ids=text, attention_mask=mask[:, -8:]).logits
    torch.testing.assert_close(model(text).logits, expected, rtol=0, atol=1e-5)
    assert (theirs.get_base_model()(text).logits - expected).abs().max() > 0.01


@torch.no_grad()
def test_a_cache_padding_and_branches_do_not_change_logits(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, features = batch
    n = ids.shape[1]
    whole = model(ids, image_features=features).logits
    first = model(ids[:, : n - 4], image_features=features, use_cache=True)
    cache = first.past_key_values
    assert cache.get_seq_length() == n - 4
    branches = torch.cat((ids[:, n - 4 :], ids[:, n - 4 :]), dim=1)  # side by side, as replies to one prompt are scored
    ends = torch.tensor([[4] * 4 + [8] * 4])
    tree = model(branches, ends=ends, past_key_values=cache).logits
    rest = model(ids[:, n - 4 :], past_key_values=cache).logits
    for found in (torch.cat((first.logits, rest), dim=1), torch.cat((first.logits, tree[:, 4:]), dim=1)):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)
    padded = torch.cat((torch.zeros(1, 3, dtype=torch.int64), ids), dim=1)
    mask = torch.tensor([[0] * 3 + [1] * n])
    torch.testing.assert_close(model(padded, mask, image_features=features).logits[:, 3:], whole, rtol=0, atol=1e-5)


def test_generation_is_that_of_peft(model: Any, theirs: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    text = batch[0][:, -7:]
    expected = theirs.generate(input_ids=text, attention_mask=torch.ones_like(text), **settings)
    assert torch.equal(model.generate(text, **settings), expected)


def test_attention_to_tokens_is_that_of_peft_and_the_prefix_is_no_text(
    model: Any, theirs: Any, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    from iit_bench.models.attention_curves import kinds_of
    from iit_bench.models.wings.attention_probe import observe

    ids, features = batch
    seen = observe(model, ids, features)
    kinds = kinds_of(ids[0] == model.config.image_token_id)
    assert seen.tokens == {kind: int(of.sum()) for kind, of in kinds.items()}
    with torch.no_grad():
        made = theirs(inputs_embeds=embedded(model, batch), attention_mask=torch.ones_like(ids), output_attentions=True).attentions
    for layer, attention in enumerate(made):
        row = attention[0, :, -1].mean(dim=0)[LENGTH:]
        for kind, of in kinds.items():
            if kind in seen.attention:
                assert seen.attention[kind][layer] == pytest.approx(float(row[of].mean()), rel=1e-4)


def test_a_folder_evaluates_by_name_on_every_path(folder: Path, inputs: dict[str, Path]) -> None:
    card = json.loads((folder / "training.json").read_text())
    assert (card["method"]["name"], card["method"]["length"], card["method"]["base"]["name"]) == ("prefix", LENGTH, "llava-stage1")
    ours: Any = load_model("wings", ModelOptions(checkpoint=str(folder)))
    assert ours.info.details["rows"] == {"way": "tree"} and ours.info.details["prefix_length"] == LENGTH
    context = WingsConfig.from_pretrained(folder).text_config.max_position_embeddings
    assert ours.info.max_context == context - LENGTH
    chats = [(Message("user", (f"What is the capital of {name}?",)),) for name in ("France", "Peru")]
    asked = [GenerateRequest(messages=one, max_new_tokens=4) for one in chats]
    assert [ours.generate([one])[0].text for one in asked] == [result.text for result in ours.generate(asked)]


def test_only_projector_and_prefix_are_trained(inputs: dict[str, Path], folder: Path) -> None:
    own, after = (start.load(path)[0].state_dict() for path in (inputs["llava-stage1"], folder))
    changed = {name for name, tensor in after.items() if name not in own or not torch.equal(tensor, own[name])}
    assert {"prefix" in name for name in changed} == {True, False}
    assert all("prefix" in name or "mm_projector" in name for name in changed)


@torch.no_grad()
def test_a_prefix_begins_as_a_text_before_the_row(inputs: dict[str, Path]) -> None:
    recipe: Any = load_recipe("lab-llava-stage2", overrides(inputs)).recipe
    task = make_task(recipe)
    torch.manual_seed(3)
    task.method.begin(task.module)
    torch.manual_seed(3)
    ids = torch.randint(task.module.config.text_config.vocab_size, (1, LENGTH + 4))
    torch.manual_seed(3)
    ids[:, :LENGTH] = torch.randint(task.module.config.text_config.vocab_size, (1, LENGTH))
    base = start.load(inputs["llava-stage1"])[0].eval()
    torch.testing.assert_close(task.module(ids[:, LENGTH:]).logits, base(ids).logits[:, LENGTH:], rtol=0, atol=1e-5)


def test_a_stage_with_learners_is_refused_in_one_sentence(inputs: dict[str, Path]) -> None:
    recipe: Any = load_recipe("lab-llava-stage2", overrides(inputs, "wings-stage1")).recipe
    with pytest.raises(UserError, match="without learners"):
        make_task(recipe)


def test_a_prefix_beside_learners_is_refused() -> None:
    with pytest.raises(ValueError, match="without learners"):
        WingsConfig(text_config={"model_type": "llama"}, learners=["visual"], prefix_length=2)
