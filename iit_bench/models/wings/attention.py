"""The decoder's attention with the router's logits, fused or with its matrix (docs/spec/wings.md#c1-router, #c2-fused-kernels)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from iit_bench.models.wings.block_attention import attend
from iit_bench.models.wings.cache import widen
from iit_bench.models.wings.columns import put_columns, take_columns
from iit_bench.models.wings.prefix import after_prefix
from iit_bench.models.wings.state import Mask, Read, Rows

NAME = "wings_sdpa"
_ALIGNMENT = 8  # fused kernels require equal head sizes that are a multiple of it


def router_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    router_columns: torch.Tensor | None = None,
    use_router: bool = True,
    key_store: DynamicCache | None = None,
    eager: bool = False,
    prefix: tuple[torch.Tensor, torch.Tensor] | None = None,
    read: Read | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scaled dot-product attention that also returns the router's logits Σ_heads A · Wᵀ, without building A.

    W's column of key k, the same for every head, is appended to the value of key k, so that one fused attention computes both. The cache
    keeps keys and values with these columns.

    Args:
        module: the decoder's attention, which knows its layer's index.
        query: [B, H, N, d].
        key: [B, H_kv, n, d], of this pass's tokens.
        value: [B, H_kv, n, d], of this pass's tokens.
        attention_mask: additive [B, 1, N, K] or blocks, or None = causal (N > 1) or all visible (N = 1).
        dropout: refused in a layer with a router, because it would hide attention from the router.
        scaling: factor of the scores; None = d^-0.5.
        router_columns: [B, n, 2], or None in a layer without a router.
        use_router: some query of this pass needs the router; otherwise the columns are only kept for later ones.
        key_store: cache that is extended by this pass's keys and values and returns all K; None = they are all.
        eager: build A, operation for operation as the released code does; then `attention_mask` is required.
        prefix: learned keys and values [H_kv, P, d] that come before those of this pass; None = none, or a pass before had them.
        read: of the last layer of a pass without a cache: other queries are left out, and their outputs are 0.

    Returns:
        The output [B, N, H, d], and the router's logits before its bias [B, N, 2] float32 (of `read` [B, Q, 2]), or None.

    Raises:
        ValueError: dropout in a layer with a router.
    """
    if eager:
        assert not isinstance(attention_mask, tuple), "mode `released` has no trees where attention is eager"
        output, probabilities = eager_attention(query, key, value, attention_mask)
        router_logits = None if router_columns is None else probabilities.sum(dim=1) @ router_columns
        return output.transpose(1, 2), router_logits
    if prefix is not None:
        key, value = after_prefix(prefix, key, value)
    size = query.shape[-1]
    more_width = 0 if router_columns is None else extra_width(size)
    use_router = use_router and router_columns is not None
    if use_router and dropout:
        raise ValueError("attention dropout is not supported in layers with a router: set attention_dropout to 0")
    if key_store is not None:
        key, value = key_store.update(key, value, module.layer_idx, router_columns=router_columns, extra_width=more_width)
    elif use_router:
        key, value = widen(key, more_width), widen(value, more_width, router_columns)
    scaling = size**-0.5 if scaling is None else scaling
    if key_store is not None and query.shape[2] == 1:
        assert not isinstance(attention_mask, tuple), "a single query has one block"
        value = value if use_router else value[..., :size]
        output = single_query_attention(query, key[..., :size], value, mask=attention_mask, scaling=scaling).transpose(1, 2)
        return output[..., :size], _router_logits(output, size) if use_router else None
    if not use_router:
        key, value, more_width = key[..., :size], value[..., :size], 0

    def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        more = {"dropout": dropout, "scaling": scaling, **kwargs}
        output: torch.Tensor = sdpa_attention_forward(module, query, key, value, attention_mask=mask, **more)[0]
        return output

    if read is not None:
        query, attention_mask = take_columns(query.transpose(1, 2), read.columns).transpose(1, 2), read.mask
    query = functional.pad(query, (0, more_width)) if more_width else query
    output = by_blocks(fused, query, key, value, attention_mask)
    router_logits = _router_logits(output, size) if use_router else None
    output = output[..., :size]
    return output if read is None else put_columns(output[read.real], read.keep), router_logits


def extra_width(size: int) -> int:
    """By how much heads of `size` grow that carry the router's two columns."""
    return -(size + 2) % _ALIGNMENT + 2


def attend_widened(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask | None, rows: Sequence[Rows] | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `router_attention`, of queries [B, H, Q, d + …], keys and values that have the router's columns already, or none of them has.

    `rows`: as in `state.Step`; then `mask` is not read.
    """
    assert not isinstance(mask, tuple), "a loss has no trees"
    if rows is None:
        output = sdpa_attention_forward(module, query, key, value, attention_mask=mask, dropout=0.0, scaling=module.scaling)[0]
    else:
        of_queries, keys, values = (states.transpose(1, 2)[0] for states in (query, key, value))
        output = attend(of_queries, keys, values, rows, module.scaling)[None]
    size = module.head_dim
    return output[..., :size], _router_logits(output, size) if output.shape[-1] > size else None


def by_blocks(
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Mask | None,
) -> torch.Tensor:
    """`attend` of query, key, value and an additive mask, for each block of queries.

    Args:
        attend: returns [B, N, H, e].
        query: [B, H, N, d].
        key: [B, H_kv, K, d].
        value: [B, H_kv, K, e].
        mask: of `layout.visibility_mask` or `layout.tree_mask`.
    """
    if not isinstance(mask, tuple):
        return attend(query, key, value, mask)
    parts = [
        attend(query[:, :, block.start : block.end], key.index_select(2, block.keys), value.index_select(2, block.keys), block.mask)
        for block in mask
    ]
    return torch.cat(parts, dim=1)


def _router_logits(output: torch.Tensor, size: int) -> torch.Tensor:
    """The two extra outputs of [B, N, H, d + …], summed over the heads: [B, N, 2] float32."""
    # Summing in float32 halves bfloat16's error (docs/spec/wings.md#a9-fused-sdpa).
    return output[..., size : size + 2].float().sum(dim=2)


def single_query_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Attention of one query per row, by its definition: its weights are a vector, not a matrix, and need no fused kernel.

    In bfloat16 on a CPU this is four times as fast as the fused kernel; heads that share keys are one product.

    Args:
        query: [B, H, 1, d].
        key: [B, H_kv, K, d].
        value: [B, H_kv, K, e].
        mask: additive [B, 1, 1, K] or None.
        scaling: factor of the scores.

    Returns:
        [B, H, 1, e].
    """
    batch, heads, kv_heads = query.shape[0], query.shape[1], key.shape[1]
    grouped = query.view(batch, kv_heads, heads // kv_heads, query.shape[3])
    # [B, H_kv, H / H_kv, K]; in this order the product reads keys as they are in memory.
    scores = (key @ (grouped * scaling).transpose(2, 3)).transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(batch, heads, 1, value.shape[3])


def eager_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition, in the released code's order of operations (docs/spec/wings.md#a3-lorra).

    In this order rounding errors equal the released code's. A query that sees no key, under a mask of the dtype's lowest number, weighs
    all keys the same and still has the gradients of its scores, which fused kernels lose.

    Args:
        query: [B, H, N, d].
        key: [B, H or H_kv, K, d].
        value: [B, H or H_kv, K, d].
        mask: additive [B or 1, 1, N, K] or None.

    Returns:
        The output [B, H, N, d] and the probabilities [B, H, N, K].
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
    """Register the function with transformers by name; safe to call again."""
    AttentionInterface.register(NAME, router_attention)
