"""A pass over a plain Llama of which only some tokens are read: layers as few nodes (`models/wings/fused_layer.py`), rows without padding.

Rows are one row of tokens for all that works on each token by itself, which is all but attention; that is computed block by block, a block
being rows of nearly one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from iit_bench.models.wings import fused_layer
from iit_bench.models.wings.attention import attend_widened
from iit_bench.models.wings.columns import columns_of, flat_columns, take_columns
from iit_bench.models.wings.layout import visibility_mask
from iit_bench.models.wings.state import IGNORED


def fits(decoder: Any) -> bool:
    """Whether a decoder can be computed by `last_states`: transformers' or Wings', each layer a plain Llama's without learners."""
    if type(decoder).__name__ == "WingsDecoder":
        if any(layer.active_learners or layer.window is not None for layer in decoder.layers):
            return False
    elif type(decoder).__name__ != "LlamaModel":
        return False
    return all(fused_layer.fits(layer, decoder.embed_tokens.weight) for layer in decoder.layers)


def fits_last(decoder: Any) -> bool:
    """Whether the last layer of a decoder, of Wings too, is computed as few nodes."""
    return fused_layer.fits(decoder.layers[-1], decoder.embed_tokens.weight)


def loss(module: Any, blocks: Sequence[Any], vectors: torch.Tensor | None = None) -> torch.Tensor:
    """Summed cross-entropy of the labelled tokens, a scalar.

    Args:
        module: a causal language model whose decoder `fits`.
        blocks: its rows, each a `chat.Batch` padded on the right; nothing reads a block's last column.
        vectors: projected features [n, t, D] of all images in reading order; None without images.
    """
    ids = torch.cat([block.ids[:, :-1].flatten() for block in blocks])
    if vectors is None:
        embeddings = module.model.embed_tokens(ids)
    else:
        pictured = ids == module.config.image_token_id
        embeddings = module.model.embed_tokens(ids.masked_fill(pictured, 0)).index_put((pictured.nonzero()[:, 0],), vectors.flatten(0, 1))
    labels = [block.labels[:, 1:] for block in blocks]
    keep = [of_block != IGNORED for of_block in labels]
    targets = torch.cat([of_block[kept] for of_block, kept in zip(labels, keep, strict=True)])
    return functional.cross_entropy(module.lm_head(last_states(module.model, embeddings, keep)).float(), targets, reduction="sum")


def last_states(decoder: Any, embeddings: torch.Tensor, keep: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised last states of the tokens that are kept, [M, D].

    Args:
        decoder: one that `fits`.
        embeddings: [T, D] of the tokens of all blocks, each row by row, padded on the right, so that no token that counts sees padding.
        keep: per block [B, N] bool, M tokens together.
    """
    shapes = [(of_block.shape[0], of_block.shape[1]) for of_block in keep]
    position_ids = torch.cat([torch.arange(width, device=embeddings.device).repeat(rows) for rows, width in shapes])
    states = embeddings[None]
    rotary = decoder.rotary_emb(states, position_ids=position_ids[None])
    *layers, last = decoder.layers
    for layer in layers:
        states = fused_layer.feed_forward(layer, _attended(layer, states, rotary, shapes))
    read, real, masks, first = [], [], [], 0
    for of_block in keep:
        columns = columns_of(of_block)
        read.append(flat_columns(columns, of_block.shape[1]) + first)
        real.append(of_block.gather(1, columns).flatten())
        in_order = torch.arange(of_block.shape[1], device=columns.device)[None]
        masks.append(visibility_mask(in_order, columns, states.dtype)[0])
        first += of_block.numel()
    states = _attended(last, states, rotary, shapes, read, masks)
    return decoder.norm(fused_layer.feed_forward(last, states[0, torch.cat(real)]))  # type: ignore[no-any-return]


def _attended(
    layer: Any,
    states: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    shapes: Sequence[tuple[int, int]],
    read: Sequence[torch.Tensor] | None = None,
    masks: Sequence[torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """As `fused_layer.attended`, of blocks: [1, T, D] → [1, T or T', D].

    Args:
        layer: one that fits.
        states: [1, T, D].
        rotary: [1, T, d] each.
        shapes: rows and columns of each block.
        read: per block [B, Q], the only tokens with a query, as indices into all T; None = all have one.
        masks: of these queries, per block additive [B, 1, Q, N].
    """
    flat = None if read is None else torch.cat([columns.flatten() for columns in read])[None]
    of_queries = shapes if read is None else [(columns.shape[0], columns.shape[1]) for columns in read]
    projected = fused_layer.queries_keys_values(layer, states, rotary, read=flat, router_columns=None, extra_width=0)
    query, key, value = (part.transpose(1, 2)[0] for part in projected)  # [T, H, d]
    parts = []
    for of_query, of_key, of_value, own, shape, mask in zip(
        query.split([rows * width for rows, width in of_queries]),
        key.split([rows * width for rows, width in shapes]),
        value.split([rows * width for rows, width in shapes]),
        of_queries,
        shapes,
        masks or [None] * len(shapes),
        strict=True,
    ):
        queries, keys, values = (
            part.unflatten(0, of).transpose(1, 2) for part, of in ((of_query, own), (of_key, shape), (of_value, shape))
        )
        parts.append(attend_widened(layer.self_attn, queries, keys, values, mask)[0].flatten(0, 1))
    output = parts[0] if len(parts) == 1 else torch.cat(parts)
    residual = states if flat is None else take_columns(states, flat)
    return fused_layer.plus_product(residual, output.flatten(1)[None], layer.self_attn.o_proj.weight)
