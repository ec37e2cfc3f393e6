"""Official checkpoints that are damaged or not what they say: one sentence each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.wings.load import load
from iit_bench.models.wings.released.checkpoint import INDEX


def bad(qwen: Path, target: Path, change: Any) -> str:
    """The one sentence that a changed copy is refused with."""
    for file in qwen.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    change(target)
    with pytest.raises(UserError) as error:
        load("wings", ModelOptions(checkpoint=str(target), device="cpu"))
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def first_shard(folder: Path) -> Path:
    return folder / "model-00001-of-00003.safetensors"


def change_tensor(folder: Path, name: str, change: Any) -> None:
    file = next(file for file in folder.glob("*.safetensors") if name in load_file(file))
    tensors = load_file(file)
    new = change(tensors.pop(name))
    save_file(tensors if new is None else tensors | {name: new}, file)


def test_missing_unexpected_and_misshaped_names_are_counted(qwen: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        change_tensor(folder, "model.norm.weight", lambda tensor: None)
        change_tensor(folder, "lm_head.weight", lambda tensor: tensor[:, :-1].contiguous())
        tensors = load_file(first_shard(folder))
        save_file(tensors | {"model.extra.weight": torch.ones(2), "other": torch.ones(1)}, first_shard(folder))

    text = bad(qwen, tmp_path, change)
    assert "1 tensors are missing ('model.norm.weight' first), 2 are unexpected ('model.extra.weight' first)" in text
    assert "1 have another shape ('lm_head.weight' is [259, 31], its config.json needs [259, 32])" in text


def test_a_checkpoint_of_another_width(qwen: Path, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(fields | {"hidden_size": 64}))

    assert "have another shape ('model.embed_tokens.weight' is [259, 32], its config.json needs [259, 64])" in bad(qwen, tmp_path, change)


def test_damaged_and_missing_shards(qwen: Path, tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:-100])

    assert "model-00001-of-00003.safetensors' cannot be read" in bad(qwen, tmp_path, cut)
    assert "lacks 1 of 3 shards, 'model-00001-of-00003.safetensors' first" in bad(
        qwen, tmp_path, lambda folder: first_shard(folder).unlink()
    )

    def twice(folder: Path) -> None:
        (folder / INDEX).unlink()
        (folder / "model-copy.safetensors").write_bytes(first_shard(folder).read_bytes())

    assert "both hold" in bad(qwen, tmp_path, twice)


@pytest.mark.slow
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(official: Any, qwen: Path, tmp_path: Path, number: float) -> None:
    def change(folder: Path) -> None:
        change_tensor(folder, official.tower + "post_layernorm.bias", lambda tensor: tensor.fill_(number))

    assert f"holds NaN or infinite numbers in '{official.tower}post_layernorm.bias'" in bad(qwen, tmp_path, change)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"mode": "loose"}, "mode 'loose' is unknown"),
        ({"mm_vision_tower": "openai/clip-vit-large"}, "vision tower 'clip-vit-large'"),
        ({"num_attention_heads": None}, "lacks num_attention_heads"),
        ({"rope_theta": [1]}, "config.json"),
    ],
)
def test_config_that_does_not_describe_the_model(qwen: Path, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text()) | fields
        (folder / "config.json").write_text(json.dumps({key: value for key, value in known.items() if value is not None}))

    assert words in bad(qwen, tmp_path, change)


def test_a_folder_without_a_tokenizer(qwen: Path, tmp_path: Path) -> None:
    assert "tokenizer" in bad(qwen, tmp_path, lambda folder: [file.unlink() for file in folder.glob("token*")])
