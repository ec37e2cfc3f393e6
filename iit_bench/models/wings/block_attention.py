"""Attention of many rows that are one row of tokens, in blocks of rows of one width, as one node of the graph.

Where each block's queries, keys and values are taken out, and outputs put back, as nodes of their own, that takes as long as the attention
of short rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.autograd.function import once_differentiable

from iit_bench.models.wings.state import Rows

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Rows], scaling: float) -> torch.Tensor:
    """Attention in float32 on a processor.

    Args:
        query: [T, H, e], the blocks' queries in their order, row by row. Behind them there may be others, whose output is 0.
        key: [T', H_kv, e], likewise.
        value: [T', H_kv, e].
        blocks: the rows.
        scaling: factor of the scores.

    Returns:
        [T, H, e].
    """
    found: torch.Tensor = _Attention.apply(query, key, value, blocks, scaling)  # type: ignore[no-untyped-call]
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, blocks, scaling):  # type: ignore[no-untyped-def]
        output, sums = torch.zeros_like(query, memory_format=torch.contiguous_format), []
        for block, (queries, outputs), (keys, values) in _by_block(blocks, (query, output), (key, value)):
            keys, values = (_repeated(of, query.shape[1]) for of in (keys, values))
            of_block, sum_of_block = _forward(queries, keys, values, is_causal=block.causal, attn_mask=block.mask, scale=scaling)
            outputs.copy_(of_block)
            sums.append(sum_of_block)
        ctx.save_for_backward(query, key, value, output, *sums)
        ctx.blocks, ctx.scaling = blocks, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, of_output):  # type: ignore[no-untyped-def]
        query, key, value, output, *sums = ctx.saved_tensors
        of_query, of_key, of_value = (torch.zeros_like(states, memory_format=torch.contiguous_format) for states in (query, key, value))
        parts = _by_block(ctx.blocks, (query, output, of_output, of_query), (key, value, of_key, of_value))
        for number, (block, (queries, outputs, of_outputs, to_query), (keys, values, to_key, to_value)) in enumerate(parts):
            keys, values = (_repeated(of, query.shape[1]) for of in (keys, values))
            more = {"dropout_p": 0.0, "is_causal": block.causal, "attn_mask": block.mask, "scale": ctx.scaling}
            found = _backward(of_outputs, queries, keys, values, outputs, sums[number], **more)
            to_query.copy_(found[0])
            to_key.copy_(_summed(found[1], key.shape[1]))
            to_value.copy_(_summed(found[2], key.shape[1]))
        return of_query, of_key, of_value, None, None


def _by_block(
    blocks: Sequence[Rows], of_queries: Sequence[torch.Tensor], of_keys: Sequence[torch.Tensor]
) -> Iterator[tuple[Rows, list[torch.Tensor], list[torch.Tensor]]]:
    """Of each block with keys, its part of tensors [T, H, e] of queries and of keys as views [B, H, Q or K, e]."""
    first_query = first_key = 0
    for block in blocks:
        own = [states.narrow(0, first_query, block.rows * block.queries).unflatten(0, (block.rows, -1)) for states in of_queries]
        others = [states.narrow(0, first_key, block.rows * block.keys).unflatten(0, (block.rows, block.keys)) for states in of_keys]
        first_query += block.rows * block.queries
        first_key += block.rows * block.keys
        if block.keys:
            yield block, [states.transpose(1, 2) for states in own], [states.transpose(1, 2) for states in others]


def _repeated(states: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, H_kv, K, e] → [B, H, K, e]."""
    return states if states.shape[1] == heads else states.repeat_interleave(heads // states.shape[1], dim=1)


def _summed(gradient: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, H, K, e] → [B, H_kv, K, e]."""
    return gradient if gradient.shape[1] == heads else gradient.unflatten(1, (heads, -1)).sum(dim=2)
