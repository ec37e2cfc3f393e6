"""The decoder's attention with the router's logits riding on it (WINGS.md part C, first two facts), fused or with its matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "wings_sdpa"
_ALIGNMENT = 8  # fused kernels want equal head sizes that are a multiple of it


def router_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    router_columns: torch.Tensor | None = None,
    explicit: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scaled dot-product attention that also returns Σ_heads A · Wᵀ, without building A.

    W's column of key k, the same for every head, is appended to the value of k, so one fused attention computes both. Dropout would
    hide attention from the router, so it is refused there.

    Args:
        query: [B, H, N, d]; key, value: [B, H_kv, K, d].
        attention_mask: additive [B, 1, N, K], or None = causal (N > 1) or all visible (N = 1).
        router_columns: [B, K, 2], or None where nothing needs weighing.
        explicit: build A, operation for operation as the released code does; then `attention_mask` must be given.

    Returns:
        (output [B, N, H, d], Σ_heads A · Wᵀ [B, N, 2] float32 or None).
    """
    if explicit:
        output, probabilities = explicit_attention(query, key, value, attention_mask)
        attended = None if router_columns is None else probabilities.sum(dim=1) @ router_columns
        return output.transpose(1, 2), attended
    if router_columns is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    if dropout:
        raise ValueError("attention dropout is not supported in layers with a router: set attention_dropout to 0")
    size = query.shape[-1]
    padding = -(size + 2) % _ALIGNMENT + 2
    # [B, K, 2] -> [B, H_kv, K, 2 + zeros]
    columns = functional.pad(router_columns.to(value.dtype), (0, padding - 2)).unsqueeze(1).expand(-1, value.shape[1], -1, -1)
    output, _ = sdpa_attention_forward(
        module,
        functional.pad(query, (0, padding)),
        functional.pad(key, (0, padding)),
        torch.cat((value, columns), dim=-1),
        attention_mask,
        scaling=size**-0.5 if scaling is None else scaling,
        **kwargs,
    )
    # Summing the heads in float32 halves bfloat16's error (WINGS.md A.9).
    return output[..., :size], output[..., size : size + 2].float().sum(dim=2)


def explicit_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition, in the released code's order of operations (WINGS.md A.3).

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
