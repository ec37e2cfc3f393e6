"""A pass over a Llama, or Wings over one, of which only some tokens are read: layers as few nodes (`models/wings/fused_layer.py`), rows
without padding.

Rows are one row of tokens for all that works on each token by itself, which is all but attention; that is computed block by block, a block
being rows of nearly one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from iit_bench.models.wings import fused_layer, products
from iit_bench.models.wings.block_attention import attend
from iit_bench.models.wings.columns import columns_of, flat_columns, take_columns
from iit_bench.models.wings.layout import read_layout, visibility_mask
from iit_bench.models.wings.packing import joined
from iit_bench.models.wings.projected_keys import project_keys
from iit_bench.models.wings.state import IGNORED, Rows, Step
from iit_bench.models.wings.step import build_step


def fits(decoder: Any) -> bool:
    """Whether a loss of a decoder can be computed here: transformers' or Wings', each layer a plain Llama's, beside learners too."""
    if type(decoder).__name__ == "WingsDecoder":
        if any(layer.window is not None for layer in decoder.layers):
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
        blocks: its rows, each a `batches.Batch` padded on the right; nothing reads a block's last column.
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
    spare = -len(embeddings) % products.MULTIPLE  # tokens at the end that nothing reads
    embeddings = functional.pad(embeddings, (0, 0, 0, spare))
    if any(getattr(layer, "active_learners", ()) for layer in module.model.layers):
        last = module.model(embeddings[None], _step(module, blocks, keep, embeddings, vectors))
    else:
        last = last_states(module.model, embeddings, keep)
    return functional.cross_entropy(module.lm_head(last).float(), targets, reduction="sum")


def _step(module: Any, blocks: Sequence[Any], keep: Sequence[torch.Tensor], embeddings: torch.Tensor, vectors: torch.Tensor | None) -> Step:
    """What layers with learners share; arguments as of `loss` and `last_states`."""
    config, decoder, steps, first, pictured = module.config, module.model, [], 0, 0
    for block, of_block in zip(blocks, keep, strict=True):
        ids, images = block.ids[:, :-1], len(block.images)
        features = None if vectors is None or not images else vectors[pictured : pictured + images]
        layout = read_layout(
            ids,
            block.mask[:, :-1].bool(),
            image_token_id=config.image_token_id,
            image_token_length=config.image_token_length,
            n_images=images,
            past=None,
        )
        step = build_step(
            config,
            decoder.rotary_emb,
            windows={None},
            embeddings=embeddings[first : first + ids.numel()].view(*ids.shape, -1),
            layout=layout,
            features=features,
            cache=None,
            keep=of_block,
            whole=True,
        )
        steps.append(step)
        first, pictured = first + ids.numel(), pictured + images
    packed = joined(steps, len(embeddings) - first)
    project_keys(packed, decoder.layers)
    return packed


def last_states(decoder: Any, embeddings: torch.Tensor, keep: Sequence[torch.Tensor]) -> torch.Tensor:
    """The normalised last states of the tokens that are kept, [M, D].

    Args:
        decoder: one that `fits`.
        embeddings: [T, D] of the tokens of all blocks, each row by row, padded on the right, so that no token that counts sees padding.
            Behind them there may be others.
        keep: per block [B, N] bool, M tokens together.
    """
    shapes = [(of_block.shape[0], of_block.shape[1]) for of_block in keep]
    position_ids = torch.cat([torch.arange(width, device=embeddings.device).repeat(rows) for rows, width in shapes])
    position_ids = functional.pad(position_ids, (0, len(embeddings) - len(position_ids)))
    states = embeddings[None]
    rotary = decoder.rotary_emb(states, position_ids=position_ids[None])
    blocks = [Rows(rows=rows, queries=width, keys=width, causal=True) for rows, width in shapes]
    *layers, last = decoder.layers
    for layer in layers:
        states = fused_layer.feed_forward(layer, _attended(layer, states, rotary, blocks))
    read, real, of_read, first = [], [], [], 0
    for of_block in keep:
        columns = columns_of(of_block)
        read.append((flat_columns(columns, of_block.shape[1]) + first).flatten())
        real.append(of_block.gather(1, columns).flatten())
        in_order = torch.arange(of_block.shape[1], device=columns.device)[None]
        mask = visibility_mask(in_order, columns, states.dtype)[0]
        of_read.append(Rows(rows=len(columns), queries=columns.shape[1], keys=of_block.shape[1], mask=mask))
        first += of_block.numel()
    states = _attended(last, states, rotary, of_read, torch.cat(read)[None])
    return decoder.norm(fused_layer.feed_forward(last, states[0, torch.cat(real)]))  # type: ignore[no-any-return]


def _attended(
    layer: Any,
    states: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    blocks: Sequence[Rows],
    read: torch.Tensor | None = None,
) -> torch.Tensor:
    """h + attention(norm(h)) of a layer that fits, [1, T, D] → [1, T or T', D].

    Args:
        layer: one that fits.
        states: [1, T, D].
        rotary: [1, T, d] each.
        blocks: rows of the tokens.
        read: [1, T'], the only tokens with a query, as indices into all T; None = all have one.
    """
    projected = fused_layer.queries_keys_values(layer, states, rotary, read=read, router_columns=None, extra_width=0)
    query, key, value = (part.transpose(1, 2)[0] for part in projected)  # [T, H, d]
    output = attend(query, key, value, blocks, layer.self_attn.scaling)
    residual = states if read is None else take_columns(states, read)
    return fused_layer.plus_product(residual, output.flatten(1)[None], layer.self_attn.o_proj.weight)
