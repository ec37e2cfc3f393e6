"""What is said of a checkpoint by its weights' names is what transformers says when it loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from iit_bench.models.loading_report import loading_report

Weights = dict[str, torch.Tensor]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SMALL, "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 32}
PICTURE = {**SMALL, "image_size": 16, "patch_size": 8}
MODELS: dict[str, Callable[[], Any]] = {
    "untied": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)),
    "tied": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, tie_word_embeddings=True)),
    "experts": lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(**TEXT, num_local_experts=2)),
    "tower": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**PICTURE)),
    "tower of whole rows": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**PICTURE, use_swiglu_ffn=True)),
    "old names": lambda: transformers.BertModel(transformers.BertConfig(**TEXT)),
}
CHANGES: dict[str, Callable[[Weights, str], Any]] = {
    "none": lambda weights, name: None,
    "one less": lambda weights, name: weights.pop(name),
    "one more": lambda weights, name: weights.update({"extra.weight": torch.zeros(2)}),
    "another name": lambda weights, name: weights.update({f"{name}.renamed": weights.pop(name)}),
    "another shape": lambda weights, name: weights.update({name: torch.zeros(3, 5)}),
    "names of before": lambda weights, name: weights.update(
        {key.replace("LayerNorm.weight", "LayerNorm.gamma"): weights.pop(key) for key in list(weights)}
    ),
    "without the base model's name": lambda weights, name: weights.update(
        {key.removeprefix("model."): weights.pop(key) for key in list(weights)}
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("model", MODELS)
def test_names_are_compared_as_transformers_does(model: str, change: str, tmp_path: Path) -> None:
    made = MODELS[model]()
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    CHANGES[change](
        weights, next(name for name in sorted(weights) if "layer" in name and weights[name].dim() == 2 and "expert" not in name)
    )
    save_file(weights, file, metadata={"format": "pt"})
    _, theirs = type(made).from_pretrained(tmp_path, output_loading_info=True, ignore_mismatched_sizes=True)
    with torch.device("meta"):
        outline = type(made)(made.config)
    ours = loading_report(outline, {name: list(tensor.shape) for name, tensor in weights.items()})
    assert ours == {key: {_plain(one) for one in theirs[key]} for key in ours}


def _plain(key: Any) -> Any:
    return key if isinstance(key, str) else (key[0], tuple(key[1]), tuple(key[2]))
