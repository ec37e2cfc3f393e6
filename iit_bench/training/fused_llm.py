"""A pass over a plain Llama of which only some tokens are read, its layers computed as few nodes (`models/wings/fused_layer.py`)."""

from __future__ import annotations

from typing import Any

import torch

from iit_bench.models.wings import fused_layer
from iit_bench.models.wings.columns import columns_of, flat_columns
from iit_bench.models.wings.layout import visibility_mask


def fits(decoder: Any) -> bool:
    """Whether a transformers decoder can be computed by `last_states`: each of its layers is a plain Llama's."""
    return type(decoder).__name__ == "LlamaModel" and all(fused_layer.fits(layer, decoder.embed_tokens.weight) for layer in decoder.layers)


def fits_last(decoder: Any) -> bool:
    """Whether the last layer of a decoder, of Wings too, is computed as few nodes."""
    return fused_layer.fits(decoder.layers[-1], decoder.embed_tokens.weight)


def last_states(decoder: Any, ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """The normalised last states of the tokens that are kept, row by row, [M, D].

    Args:
        decoder: one that `fits`.
        ids: [B, N] int64, padded on the right, so that no token that counts sees padding.
        keep: [B, N] bool, M tokens.
    """
    position_ids = torch.arange(ids.shape[1], device=ids.device)[None]
    states = decoder.embed_tokens(ids)
    rotary = decoder.rotary_emb(states, position_ids=position_ids)
    *layers, last = decoder.layers
    for layer in layers:
        states = fused_layer.feed_forward(layer, fused_layer.attended(layer, states, rotary, None, None))
    columns = columns_of(keep)
    mask, _ = visibility_mask(position_ids, columns, states.dtype)
    states = fused_layer.attended(last, states, rotary, flat_columns(columns, ids.shape[1]), mask)
    return decoder.norm(fused_layer.feed_forward(last, states[keep.gather(1, columns)]))  # type: ignore[no-any-return]
