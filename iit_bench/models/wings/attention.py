"""The decoder's attention with the router's logits, fused or with its matrix (docs/spec/wings.md#c1-router, #c2-fused-kernels)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from iit_bench.models.wings.cache import widen

NAME = "wings_sdpa"
_ALIGNMENT = 8  # fused kernels want equal head sizes that are a multiple of it


def router_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    router_columns: torch.Tensor | None = None,
    weigh: bool = True,
    store: DynamicCache | None = None,
    explicit: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scaled dot-product attention that also returns Σ_heads A · Wᵀ, without building A.

    W's column of key k, the same for every head, is appended to the value of key k, so one fused attention computes both. Keys and values
    with their columns are what the cache keeps. Dropout would hide attention from the router, so it is refused there.

    Args:
        query: [B, H, N, d]; key, value: [B, H_kv, n, d], those of this pass's tokens.
        attention_mask: additive [B, 1, N, K], or None = causal (N > 1) or all visible (N = 1).
        router_columns: [B, n, 2], or None in a layer without a router.
        weigh: whether some query of this pass needs the router; otherwise columns are only kept for later ones.
        store: cache that is extended by this pass's keys and values and gives all K; None = they are all.
        explicit: build A, operation for operation as the released code does; then `attention_mask` must be given.

    Returns:
        (output [B, N, H, d], Σ_heads A · Wᵀ [B, N, 2] float32 or None).
    """
    if explicit:
        output, probabilities = explicit_attention(query, key, value, attention_mask)
        attended = None if router_columns is None else probabilities.sum(dim=1) @ router_columns
        return output.transpose(1, 2), attended
    size = query.shape[-1]
    extra = 0 if router_columns is None else -(size + 2) % _ALIGNMENT + 2
    weigh = weigh and router_columns is not None
    if weigh and dropout:
        raise ValueError("attention dropout is not supported in layers with a router: set attention_dropout to 0")
    if store is not None:
        key, value = store.update(key, value, module.layer_idx, columns=router_columns, extra=extra)
    elif weigh:
        key, value = widen(key, extra), widen(value, extra, router_columns)
    scaling = size**-0.5 if scaling is None else scaling
    if store is not None and query.shape[2] == 1:
        output = attend_one(query, key[..., :size], value if weigh else value[..., :size], attention_mask, scaling).transpose(1, 2)
        return output[..., :size], output[..., size : size + 2].float().sum(dim=2) if weigh else None
    if not weigh:
        key, value, extra = key[..., :size], value[..., :size], 0
    output, _ = sdpa_attention_forward(
        module,
        functional.pad(query, (0, extra)) if extra else query,
        key,
        value,
        attention_mask,
        dropout=dropout,
        scaling=scaling,
        **kwargs,
    )
    # Summing the heads in float32 halves bfloat16's error (docs/spec/wings.md#a9-fused-sdpa).
    return output[..., :size], output[..., size : size + 2].float().sum(dim=2) if weigh else None


def attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> torch.Tensor:
    """Attention of one query a row, by its definition: its weights are a row, not a matrix, and need no fused kernel.

    In bfloat16 on a CPU this is four times as fast as the fused kernel; heads that share keys are one product.

    Args:
        query: [B, H, 1, d]; key: [B, H_kv, K, d]; value: [B, H_kv, K, e]; mask: additive [B, 1, 1, K] or None.

    Returns:
        [B, H, 1, e].
    """
    batch, heads, kept = query.shape[0], query.shape[1], key.shape[1]
    grouped = query.view(batch, kept, heads // kept, query.shape[3])
    scores = (key @ (grouped * scaling).transpose(2, 3)).transpose(2, 3)  # [B, H_kv, H / H_kv, K]; this way round keys are read as they lie
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(batch, heads, 1, value.shape[3])


def explicit_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition, in the released code's order of operations (docs/spec/wings.md#a3-lorra).

    In this order rounding errors are the released code's own. A query that sees no key, under a mask of the dtype's lowest number, weighs
    all keys the same and still has the gradients of its scores, which fused kernels lose.

    Args:
        query: [B, H, N, d]; key, value: [B, H or H_kv, K, d]; mask: additive [B or 1, 1, N, K] or None.

    Returns:
        (output [B, H, N, d], probabilities [B, H, N, K]).
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask
    probabilities = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return probabilities @ value, probabilities


def register() -> None:
    """Make the function known to transformers by name; safe to call again."""
    AttentionInterface.register(NAME, router_attention)
