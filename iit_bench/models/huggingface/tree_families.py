"""Which families of causal language models may run rows of a tree, and how: one table.

A family is listed where, in transformers 5.23 on tiny random models, every token of nested trees longer than the windows got the
log-probability of a plain pass (tests/models/huggingface/test_tree_families.py). The mask is always additive: eager attention would add
booleans as 0 and 1. Not listed, and why:

- qwen3_next, qwen3_5_text, kimi_linear, mamba2, jamba, bamba, granitemoehybrid, falcon_h1, lfm2, recurrent_gemma, zamba2, nemotron_h,
  minimax, rwkv: recurrent or convolution layers read siblings.
- mpt, bloom: attention is biased by a token's place in the row. gpt_neo: its local window counts places in the row.
- xlnet, openai-gpt, mamba: refuse such a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from iit_bench.token_trees import TreeRow

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"  # as in `config.layer_types`


@dataclass(frozen=True, kw_only=True)
class TreeFamily:
    """How a family runs rows of a tree.

    Attributes:
        masks: "one" = all layers share a mask, which has the window if the configuration sets one; "by layer" = the model takes a mask per
            entry of `config.layer_types`.
        first_position: "0", or "pad + 1" where positions count from the padding token's id.
        not_with: fields of the configuration that count places in the row; where one is set, the family is not run so.
    """

    masks: Literal["one", "by layer"] = "one"
    first_position: Literal["0", "pad + 1"] = "0"
    not_with: tuple[str, ...] = ()


_ONE_MASK = """
    apertus arcee bert biogpt bitnet codegen cohere ctrl deepseek_v2 deepseek_v3 diffllama doge ernie4_5 ernie4_5_moe flex_olmo gemma glm
    glm4 glm4_moe gpt2 gpt_bigcode gpt_neox gptj granite granitemoe helium hunyuan_v1_dense jetmoe llama minimax_m2 mistral mixtral moshi
    nemotron olmo olmo2 olmoe opt persimmon phi phi3 phimoe qwen3_moe seed_oss stablelm starcoder2 xglm
"""
_BY_LAYER = """
    afmoe cohere2 dots1 exaone4 exaone_moe gemma2 gemma3_text gemma3n_text gpt_oss ministral modernbert-decoder olmo3 qwen2 qwen2_moe
    qwen3 smollm3 vaultgemma
"""
# by `config.model_type`
FAMILIES: Mapping[str, TreeFamily] = {
    **{name: TreeFamily() for name in _ONE_MASK.split()},
    **{name: TreeFamily(masks="by layer") for name in _BY_LAYER.split()},
    "falcon": TreeFamily(not_with=("alibi",)),
    "llama4_text": TreeFamily(masks="by layer", not_with=("attn_temperature_tuning",)),
    "roberta": TreeFamily(first_position="pad + 1"),
}


def why_not(config: Any) -> str:
    """Why a text configuration's model is not run so; "" if it may be tried."""
    if refused := attention_refuses(config):
        return refused
    family = FAMILIES.get(config.model_type)
    if family is None:
        return f"family {config.model_type} is not listed as one whose rows of a tree equal plain passes"
    if named := [name for name in family.not_with if getattr(config, name, None)]:
        return f"{', '.join(named)} counts places in the row"
    if family.masks == "by layer" and (unknown := set(_layer_types(config)) - {FULL, SLIDING, CHUNKED}):
        return f"layers of type {', '.join(sorted(unknown))}"
    return ""


def attention_refuses(config: Any) -> str:
    """Why the attention that is in use takes no mask of its own; "" if it does. Flex attention on a CPU even ends the process with one."""
    attention = getattr(config, "_attn_implementation", None)
    return "" if attention in (None, "eager", "sdpa") else f"{attention} takes no mask of a tree"


def first_position(config: Any) -> int:
    """Position of a path's first token."""
    return int(config.pad_token_id) + 1 if FAMILIES[config.model_type].first_position == "pad + 1" else 0


def masks_of(row: TreeRow, config: Any, dtype: torch.dtype, device: str | torch.device) -> torch.Tensor | dict[str, torch.Tensor]:
    """The `attention_mask` of a row: additive [1, 1, N, N], or one per type of layer."""
    visible = visible_nodes(row, device)
    if FAMILIES[config.model_type].masks == "one":
        return additive(_narrowed(visible, row, SLIDING if _window(config) else FULL, config), dtype)
    return {kind: additive(_narrowed(visible, row, kind, config), dtype) for kind in _layer_types(config)}


def visible_nodes(row: TreeRow, device: str | torch.device) -> torch.Tensor:
    """[N, N] bool: node i (row) sees node j (column), which is an ancestor of i or i itself."""
    index = torch.arange(len(row), device=device)
    ends = torch.from_numpy(row.ends).to(device)
    return (index[None, :] <= index[:, None]) & (index[:, None] < ends[None, :])


def additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Mask [1, 1, N, N]: 0 where a node sees another, else the least number of the dtype."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, torch.finfo(dtype).min)[None, None]


def _narrowed(visible: torch.Tensor, row: TreeRow, kind: str, config: Any) -> torch.Tensor:
    """What a layer of this type sees: windows and chunks are of positions in a path, not of places in the row."""
    if kind == FULL:
        return visible
    depth = torch.from_numpy(row.depth).to(visible.device)
    if kind == SLIDING:
        return visible & (depth[:, None] - depth[None, :] < config.sliding_window)
    chunk = depth // config.attention_chunk_size
    return visible & (chunk[:, None] == chunk[None, :])


def _window(config: Any) -> int | None:
    """The window of a family whose layers all have the same mask."""
    if getattr(config, "use_sliding_window", True):
        return getattr(config, "sliding_window", None)
    return None


def _layer_types(config: Any) -> list[str]:
    return list(dict.fromkeys(getattr(config, "layer_types", None) or [FULL]))
