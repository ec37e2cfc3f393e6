"""Official Wings checkpoints: every name and shape of the released 8B model, and a shrunken one in the same layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from iit_bench.models.wings.released.checkpoint import INDEX

SHAPES = Path(__file__).parents[3] / "data" / "wings_official_shapes.json"
TOWER = "model.vision_tower.vision_tower.vision_model."
# The config.json of the released 8B model: its backbone's, with what the authors' training script sets.
CONFIG_8B = {
    "architectures": ["WingsQwen2ForCausalLM"],
    "model_type": "wings_qwen2",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "lora_dim": 64,
    "model_max_length": 2048,
    "system_prompt_length": 14,
    "image_token_length": 729,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": 1152,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "torch_dtype": "bfloat16",
}


def official_shapes() -> dict[str, tuple[int, ...]]:
    stored = json.loads(SHAPES.read_text())
    shapes = dict(stored["tensors"])
    for prefix, layers in stored["layers"].items():
        for index in range(layers["count"]):
            shapes |= {f"{prefix}{index}.{name}": shape for name, shape in layers["tensors"].items()}
    return {name: tuple(shape) for name, shape in shapes.items()}


def shrunken(kind: str, vocabulary: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """config.json and tensors: two layers of width 32, rank 4, and a tower of 3 layers whose images are 9 vectors."""
    sizes = {4096: 32, 64: 4, 11008: 40, 151936: vocabulary, 1152: 32, 4304: 24, 729: 9}  # by the size in the 8B model
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for name, shape in official_shapes().items():
        layer = int(name.partition("layers.")[2].partition(".")[0] or 0)
        if layer >= (3 if "vision_tower" in name else 2) or (
            kind == "llama" and "self_attn" in name and name.endswith("proj.bias") and TOWER not in name
        ):
            continue
        small = [sizes.get(size, size) for size in shape]
        if "reweight_module" in name:
            small = [2, 64][: len(small)]
        if kind == "llama" and ".self_attn." in name and TOWER not in name and name.split(".")[-2] in ("k_proj", "v_proj"):
            small[0] //= 2  # grouped queries
        spread = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = (spread + 0.2 * torch.randn(small, generator=generator)).to(torch.bfloat16)
    fields = {
        **{
            key: value
            for key, value in CONFIG_8B.items()
            if key not in ("vocab_size", "intermediate_size", "num_key_value_heads", "lora_dim")
        },
        "model_type": f"wings_{kind}",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "rope_theta": 500.0,
        "image_token_length": 9,
        "mm_hidden_size": 32,
        "model_max_length": 60,
    }
    if kind == "llama":
        fields |= {"rope_scaling": None, "system_prompt_length": 17}
        del fields["sliding_window"], fields["use_sliding_window"]
    return fields, tensors


def write(folder: Path, fields: dict[str, Any], tensors: dict[str, torch.Tensor], index: bool = True) -> Path:
    """Three shards, as the authors' trainer writes them."""
    folder.mkdir(exist_ok=True)
    names = list(tensors)
    files = {}
    for number in range(3):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        part = names[number::3]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    if index:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.fixture(scope="session")
def chatml() -> Any:
    """A tokenizer with the Qwen script's marks and no image token, as the released model's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def qwen(chatml: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields, tensors = shrunken("qwen2", len(chatml))
    folder = write(tmp_path_factory.mktemp("evaluated"), fields | {"model_max_length": 400, "image_token_length": 9}, tensors)
    for name in [name for name in tensors if "reweight_module.linear.weight" in name]:
        tensors[name] = torch.randn(2, 512, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    write(folder, fields | {"model_max_length": 400}, tensors)
    chatml.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Official:
    """What tests make checkpoints with."""

    config: dict[str, Any]  # config.json of the released 8B model
    shapes: dict[str, tuple[int, ...]]  # its tensors
    tower = TOWER
    shrunken = staticmethod(shrunken)
    write = staticmethod(write)


@pytest.fixture(scope="session")
def official() -> Official:
    return Official(CONFIG_8B, official_shapes())
