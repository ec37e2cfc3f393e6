"""Building, saving, training and misusing a Wings model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache, GraniteConfig

from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration

pytestmark = pytest.mark.slow

BACKBONES = ["llama", "smollm", "smollm3", "qwen2", "qwen2-window", "qwen3", "mistral"]
TOLERANCE = {"atol": 3e-5, "rtol": 1e-4}


def base_and_tower(kit: Any, text: str, vision: str = "resnet") -> tuple[Any, Any]:
    torch.manual_seed(1)
    llm = AutoModelForCausalLM.from_config(kit.text_config(text)).eval()
    for parameter in llm.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    return llm, AutoModel.from_config(kit.vision_config(vision)).eval()


def attach(llm: Any, tower: Any, **fields: Any) -> WingsForConditionalGeneration:
    config = WingsConfig(text_config=llm.config, vision_config=tower.config, lora_dim=4, image_token_id=47, image_size=16, **fields)
    return WingsForConditionalGeneration.from_base(llm, tower, config).eval()


# ---------------------------------------------------------------- building


@pytest.mark.parametrize("text", BACKBONES)
def test_a_fresh_model_computes_what_its_decoder_computes(kit: Any, text: str) -> None:
    llm, tower = base_and_tower(kit, text)
    model = attach(llm, tower)
    ids = torch.randint(0, 47, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = llm(ids, attention_mask=mask, position_ids=positions).logits
        torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask.bool()], expected[mask.bool()], **TOLERANCE)


@pytest.mark.parametrize("learners", [[], ["visual", "textual"]], ids=["none", "fresh"])
@pytest.mark.parametrize("text", ["llama", "qwen2"])
def test_without_learners_or_with_fresh_ones_it_is_the_decoder_over_spliced_embeddings(kit: Any, text: str, learners: list[str]) -> None:
    llm, tower = base_and_tower(kit, text)
    model = attach(llm, tower, learners=learners)
    row = kit.make_row(model, "ttIttI", 0)
    ids = torch.tensor([row.ids])
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        embeddings = llm.get_input_embeddings()(ids)
        features = model.model.mm_projector(tower(pixels).last_hidden_state.flatten(2).transpose(1, 2))
        embeddings[ids == 47] = features.flatten(0, 1)
        expected = llm(inputs_embeds=embeddings).logits
        torch.testing.assert_close(model(ids, pixel_values=pixels).logits, expected, **TOLERANCE)


def test_fresh_weights_are_drawn_as_the_released_code_draws_them(kit: Any) -> None:
    model = attach(*base_and_tower(kit, "llama"), router_width=400)
    for name, weight in model.state_dict().items():
        if "attn_pool" in name or "attn_t_pool" in name:
            assert (weight == 0).all() if name.endswith(".1.weight") else 0.01 < weight.std() < 0.03
        if "reweight_module" in name:  # nn.Linear's default: uniform within 1 / sqrt(width), not zero
            assert 0 < weight.abs().max() <= 1 / 20
    assert 0.1 < model.model.mm_projector[0].weight.abs().max() < 1 / 10**0.5  # likewise, 10 channels wide


def test_the_tower_is_measured_and_never_trained(kit: Any) -> None:
    model = attach(*base_and_tower(kit, "llama"))
    assert (model.config.image_token_length, model.config.vision_hidden_size) == (4, 10)
    before = {name: tensor.clone() for name, tensor in model.model.vision_tower.state_dict().items()}
    model.train()
    model.encode_images(torch.randn(3, 3, 16, 16))  # batch normalisation would move its statistics
    for name, tensor in model.model.vision_tower.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_attaching_learners_leaves_the_callers_model_unchanged(kit: Any) -> None:
    llm, tower = base_and_tower(kit, "llama")
    attach(llm, tower)
    assert llm.config._attn_implementation == "sdpa"
    assert llm(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_the_next_stage_keeps_what_was_learnt_and_adds_the_rest_fresh(kit: Any) -> None:
    first = kit.build(learners=["visual"], router=False)
    fields = first.config.to_dict() | {"learners": ["visual", "textual"], "router": True}
    fields.pop("model_type")
    second = WingsForConditionalGeneration.from_stage(first, WingsConfig(**fields)).eval()
    new = dict(second.state_dict())
    for name, tensor in first.state_dict().items():
        assert torch.equal(new.pop(name), tensor)
    assert {name.split(".")[3] for name in new} == {"attn_t_pool", "reweight_module"}
    row = kit.collate([kit.make_row(first, "tttt", 0)])  # a text row sees only the textual learner, which is still silent
    torch.testing.assert_close(kit.logits_by_row(second, row)[0], kit.logits_by_row(first, row)[0])


def read_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part].pop("dtype", None)  # transformers writes it once it has loaded the model
    return config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("text", BACKBONES)
def test_saving_and_loading_changes_nothing(kit: Any, text: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = kit.build(text, "resnet").to(dtype)
    first, second = tmp_path / "first", tmp_path / "second"
    model.save_pretrained(first)
    assert {file.suffix for file in first.iterdir()} == {".json", ".safetensors"}
    again = WingsForConditionalGeneration.from_pretrained(first, dtype=dtype).eval()
    again.save_pretrained(second)
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    assert read_config(second) == read_config(first)
    for (name, tensor), (other, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and tensor.dtype == loaded.dtype and torch.equal(tensor, loaded)
    if dtype is torch.float32:
        batch = kit.collate([kit.make_row(model, "tIttI", 0)])
        assert torch.equal(kit.logits_by_row(model, batch)[0], kit.logits_by_row(again, batch)[0])


PARTS = ("embed_tokens", "layers.0", "layers.1", "layers.2", "norm", "rotary_emb", "mm_projector", "vision_tower")
OFFLOADED = {"lm_head": "cpu"} | {f"model.{part}": "disk" if part == "layers.1" else "cpu" for part in PARTS}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"device_map": "cpu"},
        {"device_map": "auto"},
        {"low_cpu_mem_usage": True},
        {"device_map": OFFLOADED},
    ],
    ids=["plain", "cpu", "auto", "low memory", "one layer on disk"],
)
@pytest.mark.parametrize("mode", ["strict", "released"])
@pytest.mark.parametrize("text", ["llama", "smollm"])  # with a head of its own, and tied
def test_shards_load_wherever_they_are_sent(kit: Any, text: str, mode: str, how: dict[str, Any], tmp_path: Path) -> None:
    model = kit.build(text, mode=mode)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    offload = {"offload_folder": tmp_path / "offloaded"} if isinstance(how.get("device_map"), dict) else {}
    again = WingsForConditionalGeneration.from_pretrained(tmp_path, **how, **offload).eval()
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == (text == "smollm")
    assert again.config.mode == mode
    row = kit.make_row(model, "ttIt", 0)
    ids = torch.tensor([row.ids if mode == "strict" else [*row.ids[:3], row.ids[-1]]])  # an image is one slot in mode `released`
    with torch.no_grad():
        torch.testing.assert_close(again(ids, image_features=row.features).logits, model(ids, image_features=row.features).logits)
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "suppress_tokens": [47]}
    replies = [one.generate(ids, image_features=row.features, **settings).tolist() for one in (again, model)]
    assert replies[0] == replies[1]


def test_gradient_and_dtype_arguments_of_from_pretrained_are_kept(kit: Any, tmp_path: Path) -> None:
    kit.build("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    assert WingsForConditionalGeneration.from_pretrained(tmp_path).dtype is torch.bfloat16  # the checkpoint's own
    assert WingsForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).dtype is torch.float32


# ---------------------------------------------------------------- training


def labelled(kit: Any, model: Any) -> tuple[Any, torch.Tensor]:
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(["ttItt", "ttt", "Itt"])], "left")
    labels = batch.input_ids.masked_fill((batch.attention_mask == 0) | (batch.input_ids == 47), -100)
    return batch, labels


@pytest.mark.parametrize("text", ["llama", "qwen3"])
def test_loss_and_gradients_equal_the_plain_loop_reference(kit: Any, text: str) -> None:
    model = kit.build(text)
    batch, labels = labelled(kit, model)
    model(**batch.inputs, labels=labels).loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    logits, targets, images = [], [], 0
    for index, columns in enumerate(batch.columns):
        ids = batch.input_ids[index, columns].tolist()
        count = ids.count(47) // 4
        row = kit.row(ids, torch.empty(0, 4, 12) if not count else batch.image_features[images : images + count])
        images += count
        logits.append(kit.reference_logits(model, row, with_graph=True)[:-1])
        targets.append(labels[index, columns][1:])
    loss = functional.cross_entropy(torch.cat(logits), torch.cat(targets))
    loss.backward()
    for name, parameter in model.named_parameters():
        if "vision_tower" not in name:
            torch.testing.assert_close(found[name], parameter.grad, atol=2e-6, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_stage_one_moves_only_projector_and_visual_learner_and_no_gradient_is_nan(kit: Any) -> None:
    model = attach(*base_and_tower(kit, "llama"), learners=["visual"], router=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("attn_pool" in name or "mm_projector" in name)
    batch, labels = labelled(kit, model)
    batch.image_features = torch.randn(2, 4, 10)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):  # B of o_proj moves first, then the other Bs, then every A
        optimizer.zero_grad()
        model(**batch.inputs, labels=labels).loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_gradient_checkpointing_changes_no_gradient(kit: Any) -> None:
    model = kit.build("llama")
    batch, labels = labelled(kit, model)
    grads = []
    for enable in (False, True):
        model.zero_grad()
        model.train()
        if enable:
            model.gradient_checkpointing_enable()
        model(**batch.inputs, labels=labels).loss.backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_bfloat16_stays_close_and_its_gradients_are_finite(kit: Any) -> None:
    model = kit.build("qwen2")
    batch, labels = labelled(kit, model)
    exact = model(**batch.inputs, labels=labels, return_logits=True)
    half = WingsForConditionalGeneration._from_config(model.config, dtype=torch.bfloat16)
    half.load_state_dict(model.state_dict())
    out = half(**batch.inputs, labels=labels, return_logits=True)
    out.loss.backward()
    assert out.logits.dtype == torch.float32
    real = batch.attention_mask.bool()
    assert (out.logits - exact.logits)[real].abs().mean() < 0.03 * exact.logits[real].abs().mean() + 0.03
    assert abs(out.loss - exact.loss) < 0.05
    assert all(parameter.grad.isfinite().all() for parameter in half.parameters() if parameter.grad is not None)


# ---------------------------------------------------------------- misuse


def test_a_model_without_a_tower_reads_text_and_refuses_images(kit: Any) -> None:
    llm, _ = base_and_tower(kit, "llama")
    model = WingsForConditionalGeneration.from_base(llm, None, WingsConfig(text_config=llm.config, learners=["textual"], image_token_id=47))
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(model.eval()(ids).logits, llm(ids).logits, **TOLERANCE)
    with pytest.raises(ValueError, match="no vision tower"):
        model(torch.tensor([[3, 47, 5]]))
    with pytest.raises(ValueError, match="no vision tower"):
        model(ids, pixel_values=torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("layout", "features", "message"),
    [
        ("tIt", 0, "1 images begin in the input .* but 0 images were given"),
        ("tIt", 2, "1 images begin in the input .* but 2 images were given"),
        ("ttt", 1, "no image placeholder"),
    ],
)
def test_images_unlike_placeholders_are_refused(kit: Any, layout: str, features: int, message: str) -> None:
    model = kit.build()
    row = kit.make_row(model, layout, 0)
    with pytest.raises(ValueError, match=message):
        model(torch.tensor([row.ids]), image_features=torch.randn(features, 4, 12))


def test_damaged_placeholders_are_refused(kit: Any) -> None:
    model = kit.build()
    with pytest.raises(ValueError, match="row 0 has 3 image placeholders"):
        model(torch.tensor([[1, 47, 47, 47]]), image_features=torch.randn(1, 4, 12))
    with pytest.raises(ValueError, match="must be adjacent"):
        model(torch.tensor([[1, 47, 47, 3, 47, 47]]), image_features=torch.randn(1, 4, 12))
    with pytest.raises(ValueError, match="5 vectors per image but the model expects 4"):
        model(torch.tensor([[1, 47, 47, 47, 47]]), image_features=torch.randn(1, 5, 12))


def test_a_context_longer_than_the_router_is_wide_is_refused_where_the_router_is_needed(kit: Any) -> None:
    model = kit.build(router_width=12)
    long = kit.collate([kit.make_row(model, "t" * 9 + "I", 0)])
    with pytest.raises(ValueError, match="13 tokens but the router is 12 wide"):
        model(**long.inputs)
    model(**kit.collate([kit.make_row(model, "t" * 8 + "I", 0)], extra=5).inputs)  # padding is no context
    model(**kit.collate([kit.make_row(model, "t" * 20, 0)]).inputs)  # a text row does not use the router


def test_a_foreign_cache_is_refused(kit: Any) -> None:
    with pytest.raises(ValueError, match="must be a WingsCache"):
        kit.build()(torch.tensor([[1, 2]]), past_key_values=DynamicCache())


# Their layers do more than h + attention(norm(h)), h + mlp(norm(h)), or nobody has tried them.
FOREIGN = (
    "gemma2",
    "gemma3_text",
    "cohere",
    "cohere2",
    "gpt2",
    "gpt_neox",
    "granite",
    "olmo2",
    "phi",
    "phi3",
    "starcoder2",
    "mixtral",
    "glm4",
)


def test_a_decoder_that_cannot_carry_learners_is_refused(kit: Any) -> None:
    shape = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4}
    llm = AutoModelForCausalLM.from_config(GraniteConfig(**shape, bos_token_id=None, eos_token_id=None, pad_token_id=None))
    with pytest.raises(ValueError, match="type 'granite' cannot carry learners: use one of llama, mistral, qwen2, qwen3, smollm3"):
        WingsForConditionalGeneration.from_base(llm, None, WingsConfig(text_config=kit.text_config("llama"), learners=["textual"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "loose"}, "mode 'loose' is unknown"),
        ({"learners": ["visual", "tactile"]}, "learners .* must be distinct names out of visual, textual"),
        ({"equal_weights": True}, "without a router"),
        ({"equal_weights": True, "router": False, "mode": "released"}, "mode 'strict'"),
        ({"learner_layers": [0, 3]}, r"learner_layers \[3\] do not exist: the decoder has layers 0 to 2"),
        *(({"text_config": {"model_type": kind}}, f"type '{kind}' cannot carry learners: use one of llama") for kind in FOREIGN),
    ],
)
def test_impossible_configurations_are_refused(kit: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WingsConfig(**{"text_config": kit.text_config("llama"), **fields})
