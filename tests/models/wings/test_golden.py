"""Golden vectors of the released code, where mode `strict` agrees with it: text rows, the learner, the router, tower and preprocessing.

Folders are taken from tests/data/wings_golden and from WINGS_GOLDEN_DIR, if it is set.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file
from transformers import LlamaConfig, Qwen2Config, SiglipVisionConfig

from iit_bench.models.wings.attention import router_attention
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.lorra import LearnerStep, LoRRA, rotary_table
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.router import Router
from iit_bench.models.wings.vision import VisionTower, preprocess

TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}
ROOTS = [Path(__file__).parents[2] / "data" / "wings_golden", *(Path(p) for p in [os.environ.get("WINGS_GOLDEN_DIR", "")] if p)]


def folders(kind: str) -> list[Path]:
    return sorted({path.name: path for root in ROOTS for path in root.glob(f"*{kind}*") if path.is_dir()}.values())


def every(kind: str) -> Any:
    return pytest.mark.parametrize("folder", folders(kind), ids=lambda folder: folder.name)


def read(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{part}.safetensors")


def golden_model(folder: Path, layers: int | None = None) -> WingsForConditionalGeneration:
    """The folder's model, or its first `layers` layers."""
    shape = json.loads((folder / "config.json").read_text())["config"]
    shape["num_hidden_layers"] = layers or shape["num_hidden_layers"]
    kind = {"wings_llama": LlamaConfig, "wings_qwen2": Qwen2Config}[shape["arch"]]
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    text = kind(
        **{name: shape[name] for name in (*fields, "max_position_embeddings", "rms_norm_eps")},
        rope_parameters={"rope_type": "default", "rope_theta": shape["rope_theta"], **(shape["rope_scaling"] or {})},
        tie_word_embeddings=False,
    )
    config = WingsConfig(
        text_config=text,
        vision_config=SiglipVisionConfig(hidden_size=shape["mm_hidden_size"], num_hidden_layers=1, num_attention_heads=2),
        lora_dim=shape["lora_dim"],
        router=shape["router"] == "linear",
        router_width=shape["router_width"],
        image_token_id=shape["vocab_size"],
        image_token_length=shape["image_token_length"],
        vision_hidden_size=shape["mm_hidden_size"],
    )
    model = WingsForConditionalGeneration(config).eval()
    missing, unexpected = model.load_state_dict(read(folder, "weights"), strict=False)
    assert all(int(name.split(".")[2]) >= config.text_config.num_hidden_layers for name in unexpected)
    assert all("vision_tower" in name for name in missing)
    return model


@every("text_only")
def test_text_rows_equal_the_released_model(folder: Path) -> None:
    model, inputs = golden_model(folder), read(folder, "inputs")
    with torch.no_grad():
        logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    torch.testing.assert_close(logits, read(folder, "logits")["logits"], **TOLERANCE)
    expected = read(folder, "generated")["generated_ids"]
    reply = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=expected.shape[1], do_sample=False)
    assert reply[:, inputs["input_ids"].shape[1] :].tolist() == expected.tolist()


@every("stage1_no_router")
def test_stage_one_equals_the_released_model_after_the_image_in_the_first_layer(folder: Path) -> None:
    """Later layers differ: the released model also shows the image to the tokens before it."""
    model, inputs = golden_model(folder, layers=1), read(folder, "inputs")
    start = int((inputs["input_ids"][0] == -200).nonzero()[0, 0])
    length = model.config.image_token_length
    ids = inputs["input_ids"][0].tolist()
    expanded = torch.tensor([[*ids[:start], *[model.config.image_token_id] * length, *ids[start + 1 :]]])
    outputs: list[torch.Tensor] = []
    model.model.layers[0].register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        states = model(expanded, image_features=inputs["patch_features"], output_hidden_states=True).hidden_states
    expected = read(folder, "hidden")
    torch.testing.assert_close(states[0], expected["hidden_0"], **TOLERANCE)
    torch.testing.assert_close(outputs[0][:, start:], expected["hidden_1"][:, start:], **TOLERANCE)


@every("module_lorra")
def test_learner_equals_the_released_one(folder: Path) -> None:
    shape = json.loads((folder / "config.json").read_text())["config"]
    inputs, outputs = read(folder, "inputs"), read(folder, "outputs")
    learner = LoRRA(shape["hidden_size"], shape["num_attention_heads"], shape["lora_dim"])
    learner.load_state_dict(read(folder, "weights"))
    tables = [
        rotary_table(inputs[name], learner.head_dim, shape["rope_theta"], torch.float32) for name in ("position_ids_q", "position_ids_k")
    ]
    keys = inputs["key_value"].shape[1]
    for name, mask in (("out_nomask", None), ("out_mask", inputs["mask_additive"][..., :keys])):
        step = LearnerStep(inputs["key_value"], tables[1], mask, False, None, None)
        with torch.no_grad():
            torch.testing.assert_close(learner(inputs["query"], tables[0], step, 0), outputs[name], **TOLERANCE)


@every("module_router")
def test_router_equals_the_released_one_without_an_attention_matrix(folder: Path) -> None:
    """The given probabilities are put through the fused kernel: softmax of their logarithm, as queries against unit keys."""
    probabilities = read(folder, "inputs")["self_attn_probs"]  # [B, H, N, K]
    weights = read(folder, "weights")
    router = Router(weights["linear.weight"].shape[1])
    router.load_state_dict(weights)
    batch, heads, _, keys = probabilities.shape
    units = torch.eye(keys).expand(batch, heads, -1, -1)
    everywhere = torch.zeros(batch, 1, probabilities.shape[2], keys)
    with torch.no_grad():
        columns = router.columns(torch.arange(keys).expand(batch, -1))
        query = probabilities.clamp(min=1e-37).log()
        output, attended = router_attention(torch.nn.Module(), query, units, units, everywhere, scaling=1.0, router_columns=columns)
        assert attended is not None
        torch.testing.assert_close(router(attended), read(folder, "outputs")["router_weights"], **TOLERANCE)
    torch.testing.assert_close(output.transpose(1, 2), probabilities, **TOLERANCE)


@every("module_siglip")
def test_preprocessing_and_tower_equal_the_released_ones(folder: Path) -> None:
    shape = json.loads((folder / "config.json").read_text())["config"]
    shape["num_hidden_layers"] -= 1  # the released tower deletes its last layer
    config = WingsConfig(
        vision_config=SiglipVisionConfig(**shape, vision_use_head=False), vision_feature_layer=-1, image_size=shape["image_size"]
    )
    inputs, outputs = read(folder, "inputs"), read(folder, "outputs")
    images = [PILImage.fromarray(inputs[f"rgb_{name}"].numpy()) for name in ("wide", "tall", "square")]
    pixels = torch.stack([preprocess(image, config) for image in images])
    torch.testing.assert_close(pixels, outputs["pixel_values"], **TOLERANCE)
    tower = VisionTower(config)
    weights = {name.removeprefix("vision_model."): tensor for name, tensor in read(folder, "weights").items()}
    tower.vision_tower.load_state_dict(weights)
    torch.testing.assert_close(tower(pixels), outputs["patch_features"], **TOLERANCE)
