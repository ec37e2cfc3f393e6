"""Official checkpoints: every name and shape of the 8B model, a shrunken one loaded for real, round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.wings.load import load
from iit_bench.models.wings.released.checkpoint import INDEX, check_names, empty_model, export_official, load_official, read_headers
from iit_bench.models.wings.released.names import official_config, official_name, released_config


@pytest.mark.parametrize("source", ["config.json", "shapes and tables"])
def test_every_name_and_shape_of_the_released_model(official: Any, source: str) -> None:
    shapes = official.shapes
    fields = official.config if source == "config.json" else {"model_type": "wings_qwen2"}
    assert len(shapes) == 1388
    model = empty_model(released_config(fields, shapes))
    assert {official_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    config = model.config
    assert (config.mode, config.system_prompt_length, config.tokenizer_max_length, config.released_window) == ("released", 14, 2048, 32768)
    assert (config.image_token_length, config.image_size, config.conversation) == (729, 384, "qwen")
    assert (config.text_config.rope_parameters["rope_theta"], config.vision_config.num_attention_heads) == (1000000.0, 16)


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def folder(request: pytest.FixtureRequest, official: Any, chatml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = official.write(tmp_path_factory.mktemp(request.param), *official.shrunken(request.param, len(chatml)))
    chatml.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_weights_arrive_unchanged_in_the_dtype_asked_for(folder: Path, dtype: torch.dtype | None) -> None:
    model = load_official(folder, "cpu", dtype)
    assert model.config.mode == "released" and not model.training
    stored = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    found = {official_name(name): tensor for name, tensor in model.state_dict().items()}
    assert found.keys() == stored.keys()
    for name, tensor in stored.items():
        assert found[name].dtype == (dtype or torch.bfloat16)
        assert torch.equal(found[name].to(torch.bfloat16), tensor)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_tower_is_the_checkpoints_own(folder: Path) -> None:
    """Against transformers' SigLIP with a layer more, whose last layer is not looked at (the authors' way)."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    model = load_official(folder, "cpu", torch.float32)
    shape = {"hidden_size": 32, "intermediate_size": 24, "num_attention_heads": 16, "image_size": 42, "patch_size": 14}
    tower = SiglipVisionModel(SiglipVisionConfig(**shape, num_hidden_layers=4, vision_use_head=False)).eval()
    prefix = "model.vision_tower.vision_tower."
    own = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    missing, unexpected = tower.load_state_dict(own, strict=False)
    assert not unexpected and all(".layers.3." in name for name in missing)
    pixels = torch.rand(2, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_images(pixels), tower(pixels, output_hidden_states=True).hidden_states[-2])


def test_a_folder_without_an_index_is_read_as_well(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != INDEX:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load_official(tmp_path, "cpu").dtype == torch.bfloat16


def test_export_gives_back_every_byte(folder: Path, tmp_path: Path) -> None:
    model = load_official(folder, "cpu")
    export_official(model, tmp_path, shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    first, second = (
        {name: tensor for file in at.glob("*.safetensors") for name, tensor in load_file(file).items()} for at in (folder, tmp_path)
    )
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert second[name].dtype == tensor.dtype and torch.equal(second[name].view(torch.int16), tensor.view(torch.int16))
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.numel() * 2 for tensor in first.values())
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / file, framework="pt") as shard:
            assert name in shard.keys()  # noqa: SIM118 - a shard is no dict
    again = load_official(tmp_path, "cpu")
    assert official_config(again.config) == official_config(model.config)
    known = json.loads((folder / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    assert {key: written.get(key) for key in known if key != "model_max_length"} == {
        key: value for key, value in known.items() if key != "model_max_length"
    } | {"architectures": written["architectures"]}


def test_save_pretrained_keeps_the_mode(folder: Path, chatml: Any, tmp_path: Path) -> None:
    model = load_official(folder, "cpu", torch.float32)
    model.save_pretrained(tmp_path)
    chatml.save_pretrained(tmp_path)
    wings = load("wings", ModelOptions(checkpoint=str(tmp_path), device="cpu"))
    assert wings.info.details["mode"] == "released"
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(wings.model(ids).logits, model(ids).logits)


def test_models_the_released_code_does_not_know_are_not_exported(kit: Any, tmp_path: Path) -> None:
    for model in (kit.build("qwen3"), kit.build("qwen2", vision="resnet"), kit.build("qwen2", learners=["visual"])):
        with pytest.raises(UserError, match="use save_pretrained"):
            export_official(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_accounting_needs_only_headers(qwen: Path) -> None:
    headers = read_headers(qwen)
    model = empty_model(released_config(json.loads((qwen / "config.json").read_text()), {name: h.shape for name, h in headers.items()}))
    check_names(model, headers, qwen, official=True)
    assert {header.dtype for header in headers.values()} == {"BF16"}
