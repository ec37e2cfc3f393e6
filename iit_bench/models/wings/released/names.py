"""The authors' names and configurations (docs/spec/wings.md#a1-parameters), and this project's.

An official folder holds safetensors shards and the config.json of its backbone with a few fields of the authors' training script. What
config.json lacks is read from the tensors' shapes, then from `BACKBONES` and `TOWERS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, Qwen2Config, SiglipVisionConfig

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import read_object
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.released.scripts import IMAGE_SLOT, SCRIPTS

Shape = tuple[int, ...]

# The backbones' own config.json, by decoder type. Qwen2: Qwen1.5-7B-Chat; Llama: Llama-3.1-8B-Instruct.
BACKBONES: dict[str, dict[str, Any]] = {
    "qwen2": {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    },
    "llama": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
    },
}
# Towers by the last part of `mm_vision_tower`: the one of the authors' scripts. Its layers are counted in the checkpoint.
TOWERS: dict[str, dict[str, Any]] = {
    "siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
}
DEFAULT_TOWER = "siglip-so400m-patch14-384"
DEFAULT_MAX_LENGTH = 2048  # the scripts' model_max_length
_TYPES = {"wings_qwen2": "qwen2", "qwen2": "qwen2", "wings_llama": "llama", "wings_llama3_1": "llama", "llama": "llama"}
# transformers 5 keeps SigLIP's vision model without the inner module that the official names have.
_OFFICIAL_TOWER, OWN_TOWER = "model.vision_tower.vision_tower.vision_model.", "model.vision_tower.vision_tower."


def own_name(official: str) -> str:
    """This project's name of a tensor with an official name."""
    return OWN_TOWER + official.removeprefix(_OFFICIAL_TOWER) if official.startswith(_OFFICIAL_TOWER) else official


def official_name(own: str) -> str:
    """The official name of a tensor with this project's name."""
    return _OFFICIAL_TOWER + own.removeprefix(OWN_TOWER) if own.startswith(OWN_TOWER) else own


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json, unchanged.

    Raises:
        UserError: it is not a JSON object.
    """
    return read_object(folder / "config.json")


def is_official(fields: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a config.json (flat, like a backbone's) and tensors of these names belong to an official Wings checkpoint."""
    return "text_config" not in fields and any(".attn_pool." in name for name in names)


def released_config(fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> WingsConfig:
    """The configuration of an official checkpoint.

    Args:
        fields: its config.json; `mode` in it ("strict" or "released") overrides the default, released.
        shapes: official name → shape of its tensors.

    Raises:
        UserError: a value is in none of config.json, the shapes and the tables, or contradicts another.
    """
    try:
        return _released_config(fields, shapes)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the checkpoint's config.json does not describe a Wings model: {one_line(error)}") from error


def _released_config(fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> WingsConfig:
    kind = _TYPES.get(str(fields.get("model_type"))) or ("qwen2" if "model.layers.0.self_attn.q_proj.bias" in shapes else "llama")
    text, window = _backbone(kind, fields, shapes)
    vision = _tower(fields, shapes)
    script = "qwen" if kind == "qwen2" else "llama"
    carriers = sorted({int(name.split(".")[2]) for name in shapes if ".attn_pool." in name})
    rank = shapes.get(f"model.layers.{carriers[0]}.attn_pool.q_proj.0.weight", (0,))[0] if carriers else 0
    routers = [shape for name, shape in shapes.items() if name.endswith(".reweight_module.linear.weight")]
    return WingsConfig(
        text_config=text,
        vision_config=vision,
        mode=fields.get("mode", "released"),
        learners=("visual", "textual") if carriers else (),
        learner_layers=None if len(carriers) == text.num_hidden_layers else carriers,
        lora_dim=fields.get("lora_dim", rank),
        router=bool(routers),
        router_width=routers[0][-1] if routers else 4096,
        image_token_id=IMAGE_SLOT,
        image_token_length=fields.get("image_token_length", (_size(vision.image_size) // _size(vision.patch_size)) ** 2),
        vision_hidden_size=vision.hidden_size,
        vision_feature_layer=-1,
        image_size=_size(vision.image_size),
        conversation=fields.get("conversation", script),
        system_prompt_length=fields.get("system_prompt_length", SCRIPTS[script].system_prompt_length),
        tokenizer_max_length=fields.get("tokenizer_max_length", fields.get("model_max_length", DEFAULT_MAX_LENGTH)),
        tokenizer_padding_side=fields.get("tokenizer_padding_side", "right"),
        released_window=window,
    )


def _backbone(kind: str, fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[Any, int | None]:
    """Configuration of the decoder, and its sliding window in mode `released`."""
    table = BACKBONES[kind]
    known = {name: fields[name] for name in table if name in fields}
    measured = dict(zip(("vocab_size", "hidden_size"), shapes.get("model.embed_tokens.weight", ()), strict=False))
    if "model.layers.0.mlp.gate_proj.weight" in shapes:
        measured["intermediate_size"] = shapes["model.layers.0.mlp.gate_proj.weight"][0]
        measured["num_hidden_layers"] = _count_layers("model.layers.", shapes)
    merged = table | measured | known
    if merged["hidden_size"] != table["hidden_size"] and "num_attention_heads" not in fields:
        raise UserError(f"config.json lacks num_attention_heads, which do not follow from a hidden_size of {merged['hidden_size']}; add it")
    if merged["vocab_size"] != table["vocab_size"]:  # then the table's special tokens are not this vocabulary's
        merged |= {name: fields.get(name) for name in ("bos_token_id", "eos_token_id")}
    if "num_key_value_heads" not in fields and "model.layers.0.self_attn.k_proj.weight" in shapes:
        size = merged["hidden_size"] // merged["num_attention_heads"]
        merged["num_key_value_heads"] = shapes["model.layers.0.self_attn.k_proj.weight"][0] // size
    rope = {**(fields.get("rope_parameters") or {})}
    theta = float(rope.pop("rope_theta", None) or merged.pop("rope_theta"))
    scaling = merged.pop("rope_scaling", None) or rope or {}
    merged.pop("rope_theta", None)
    window = merged.pop("sliding_window", None)
    # The released Qwen2 code has no rope scaling, and hides keys beyond the window whatever use_sliding_window is.
    rope_parameters = {"rope_type": "default", "rope_theta": theta, **(scaling if kind == "llama" else {})}
    tied = bool(fields.get("tie_word_embeddings", False)) and "lm_head.weight" not in shapes
    factory: Any = Qwen2Config if kind == "qwen2" else LlamaConfig
    config = factory(**merged, rope_parameters=rope_parameters, tie_word_embeddings=tied, pad_token_id=fields.get("pad_token_id"))
    return config, window if kind == "qwen2" else None


def _tower(fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> SiglipVisionConfig:
    name = str(fields.get("mm_vision_tower", DEFAULT_TOWER)).rstrip("/").rsplit("/", 1)[-1]
    given = dict(fields.get("vision_config") or {})
    if name not in TOWERS and not given:
        raise UserError(f"config.json names the vision tower {name!r}, and only {', '.join(TOWERS)} is known; add its vision_config")
    merged = TOWERS.get(name, TOWERS[DEFAULT_TOWER]) | given
    patches = shapes.get(f"{_OFFICIAL_TOWER}embeddings.patch_embedding.weight")
    positions = shapes.get(f"{_OFFICIAL_TOWER}embeddings.position_embedding.weight")
    if patches is not None and positions is not None and not given:
        merged |= {"hidden_size": patches[0], "patch_size": patches[-1]}
        merged["intermediate_size"] = shapes.get(f"{_OFFICIAL_TOWER}encoder.layers.0.mlp.fc1.bias", (merged["intermediate_size"],))[0]
        if (merged["image_size"] // patches[-1]) ** 2 != positions[0]:
            merged["image_size"] = math.isqrt(positions[0]) * patches[-1]
    for unused in ("model_type", "vision_use_head", "architectures"):
        merged.pop(unused, None)
    # The authors' tower drops its last layers, so they are counted in the checkpoint.
    merged["num_hidden_layers"] = _count_layers(f"{_OFFICIAL_TOWER}encoder.layers.", shapes) or merged.get("num_hidden_layers", 26)
    return SiglipVisionConfig(**merged, vision_use_head=False)


def _size(size: Any) -> int:
    """A side in pixels, of a number or of a square pair, as transformers has both."""
    return int(size if isinstance(size, int) else size[0])


def _count_layers(prefix: str, shapes: Mapping[str, Shape]) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def official_config(config: WingsConfig) -> dict[str, Any]:
    """Fields of an official folder's config.json. `vision_config`, `mode` and `conversation` are this project's additions, which it reads.

    Raises:
        UserError: the released code does not have the decoder or the tower, or a learner is missing.
    """
    text, vision = config.text_config, config.vision_config
    if text.model_type not in BACKBONES or vision.model_type != "siglip_vision_model" or len(config.learners) != 2:
        raise UserError(
            f"the released code has Llama or Qwen2 with SigLIP and both learners, not {text.model_type} with {vision.model_type} and "
            f"{len(config.learners)}; use save_pretrained for other models"
        )
    rope = dict(text.rope_parameters)
    theta = rope.pop("rope_theta")
    kind = {"qwen2": "Qwen2", "llama": "Llama"}[text.model_type]
    names = [name for name in BACKBONES[text.model_type] if name not in ("rope_theta", "rope_scaling", "sliding_window")]
    tower = [*TOWERS[DEFAULT_TOWER], "num_hidden_layers"]
    return {
        "architectures": [f"Wings{kind}ForCausalLM"],
        "model_type": f"wings_{text.model_type}",
        **{name: getattr(text, name) for name in (*names, "pad_token_id")},
        "rope_theta": theta,
        **({"sliding_window": config.released_window, "use_sliding_window": False} if text.model_type == "qwen2" else {}),
        **({"rope_scaling": None if rope == {"rope_type": "default"} else rope} if text.model_type == "llama" else {}),
        "tie_word_embeddings": config.tie_word_embeddings,
        "lora_dim": config.lora_dim,
        "attn_layers_idx": list(config.layers_with_learners),
        "wings_router_type": "linear" if config.router else "pretrain",
        "system_prompt_length": config.system_prompt_length,
        "tokenizer_max_length": config.tokenizer_max_length,
        "tokenizer_padding_side": config.tokenizer_padding_side,
        "image_aspect_ratio": "pad",
        "image_token_length": config.image_token_length,
        "mm_vision_tower": f"google/{DEFAULT_TOWER}",
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": config.vision_hidden_size,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "vision_config": {name: getattr(vision, name) for name in tower},
        "mode": config.mode,
        "conversation": config.conversation,
    }
