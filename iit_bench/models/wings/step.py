"""Masks, learner keys and rotary tables, which all layers share (docs/spec/wings.md#b1-positions to #b5-router-weights)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.layout import flat_columns, image_grid, sort_queries, text_columns, visibility
from iit_bench.models.wings.lorra import rotary_table, take_columns
from iit_bench.models.wings.state import NEVER, Images, Layout, LearnerStep, Rotary, RowState, Step


@dataclass(frozen=True, kw_only=True)
class _NewKeys:
    """Keys of one learner that arrive with this pass: raw embeddings [B, K, D], positions and visibility [B, K], rotary table."""

    new: torch.Tensor
    visible_from: torch.Tensor
    rotary: Rotary


def splice(embeddings: torch.Tensor, images: Images, features: torch.Tensor | None, past: RowState | None) -> torch.Tensor:
    """Input embeddings [B, N, D] with projected image features [n, T, D] in the place of placeholders."""
    parts = [part for part in (None if past is None else past.open_image, features) if part is not None]
    vectors = torch.cat(parts) if len(parts) > 1 else parts[0]
    chosen = vectors[images.source, images.offset].to(embeddings.dtype)
    return embeddings.index_put(images.mask.nonzero(as_tuple=True), chosen)


def build_step(
    config: WingsConfig,
    rotary_emb: nn.Module,
    windows: set[int | None],
    embeddings: torch.Tensor,
    layout: Layout,
    features: torch.Tensor | None,
    cache: WingsCache | None,
) -> Step:
    """Everything the layers share; moves `cache`'s row state and key visibility on by this chunk.

    Args:
        rotary_emb: the decoder's own rotary table.
        windows: the sliding windows of the decoder's layers.
        embeddings: input embeddings [B, N, D], images in place.
        features: projected features [n, T, D] of the images that begin in this chunk.

    Raises:
        ValueError: the context is longer than the router is wide and a query sees both learners.
    """
    past = None if cache is None else cache.rows
    own = layout.position if layout.valid is None else layout.position.masked_fill(~layout.valid, NEVER)
    key_from = own if past is None else torch.cat((past.visible_from, own), dim=1)
    padded = (past is not None and past.padded) or (layout.valid is not None and not bool(layout.valid.all()))
    in_order = past is None and layout.same_branch is None and (not padded or _padding_last(layout))
    rotary, arriving = _new_keys(config, embeddings, layout, own, features)
    names = [name for name in config.active_learners if name in arriving or (cache is not None and name in cache.banks)]
    weigh = config.has_router and len(names) == 2
    if weigh:
        _check_router_width(key_from, config.router_width)
    learners = {name: _learner_step(name, arriving.get(name), layout, embeddings.dtype, in_order, cache) for name in names}
    if cache is not None:
        cache.rows = _advance(past, layout, key_from, features, padded, config.image_token_length)
    return Step(
        position_embeddings=rotary_emb(embeddings, position_ids=layout.position.clamp(min=0)),
        masks=_masks(windows, layout, key_from, embeddings.dtype, maskless=in_order or (own.shape[1] == 1 and not padded)),
        position=layout.position.clamp(min=0),
        weigh=weigh,
        rotary=rotary,
        learners=learners,
        both=_both_seen(learners, layout.position.shape[1]) if weigh else None,
        cache=cache,
    )


def _padding_last(layout: Layout) -> bool:
    """Columns stand in the order of positions with padding after them, so a causal pass needs no mask."""
    return layout.valid is None or not bool((layout.valid[:, 1:] & ~layout.valid[:, :-1]).any())


def _masks(
    windows: set[int | None], layout: Layout, key_from: torch.Tensor, dtype: torch.dtype, maskless: bool
) -> dict[int | None, torch.Tensor | None]:
    """By window, the mask of the decoder's own attention."""
    return {
        window: None
        if maskless and (window is None or key_from.shape[1] <= window)
        else visibility(key_from, layout.position, dtype, window, layout.same_branch)[0]
        for window in windows
    }


def _new_keys(
    config: WingsConfig, embeddings: torch.Tensor, layout: Layout, own: torch.Tensor, features: torch.Tensor | None
) -> tuple[Rotary | None, dict[str, _NewKeys]]:
    """The queries' rotary table and the keys that arrive, by learner: raw embeddings of text, projected features of images (B.2, B.3)."""
    if not config.active_learners:
        return None, {}
    text = config.text_config
    head_dim = text.hidden_size // text.num_attention_heads
    base, dtype = float(text.rope_parameters["rope_theta"]), embeddings.dtype
    rotary = rotary_table(layout.position.clamp(min=0), head_dim, base, dtype)
    arriving = {}
    images = layout.images
    if images is None:
        arriving["textual"] = _NewKeys(new=embeddings, visible_from=own, rotary=rotary)
    else:
        column, visible_from = text_columns(layout, images.mask)
        if column.shape[1]:
            new = take_columns(embeddings, flat_columns(column, embeddings.shape[1]))
            position = layout.position.gather(1, column).clamp(min=0)
            arriving["textual"] = _NewKeys(new=new, visible_from=visible_from, rotary=rotary_table(position, head_dim, base, dtype))
    if images is not None and features is not None:
        index, filled = image_grid(images, embeddings.shape[0])
        length = features.shape[1]
        start = images.starts[index]  # [B, M]
        position = (start[:, :, None] + torch.arange(length, device=start.device)).flatten(1)
        visible_from = start.masked_fill(~filled, NEVER).repeat_interleave(length, dim=1)
        arriving["visual"] = _NewKeys(
            new=features[index].flatten(1, 2).to(dtype), visible_from=visible_from, rotary=rotary_table(position, head_dim, base, dtype)
        )
    return rotary, {name: arriving[name] for name in config.active_learners if name in arriving}


def _learner_step(
    name: str, arriving: _NewKeys | None, layout: Layout, dtype: torch.dtype, in_order: bool, cache: WingsCache | None
) -> LearnerStep:
    new, rotary = (None, None) if arriving is None else (arriving.new, arriving.rotary)
    bank = None if cache is None else cache.bank(name)
    first_keys = bank is None or bank.visible_from is None
    if arriving is not None and bank is not None:
        # Without `valid` there is nothing but one token of text a row, and the device is not waited for.
        bank.announce(arriving.visible_from, layout.valid is None or not bool((arriving.visible_from == NEVER).any()))
    n_queries, images = layout.position.shape[1], layout.images
    whole = LearnerStep(new=new, rotary=rotary, bank=bank)  # every query sees every key
    if name == "textual" and in_order and images is None:
        return replace(whole, is_causal=n_queries > 1)
    if n_queries == 1 and bank is not None and bank.full:
        return whole  # the only query is the latest token
    visible_from = bank.visible_from if bank is not None else arriving.visible_from if arriving is not None else None
    assert visible_from is not None, "a learner takes part only with keys"
    if images is not None and arriving is not None and first_keys and layout.same_branch is None:
        if name == "textual":
            text_first, seen = sort_queries(layout, images, visible_from, dtype)
            return replace(whole, seen=seen, text_first=text_first)
        first = int(images.mask.any(dim=0).nonzero()[0])
        position = layout.position[:, first:]
        if bool(((visible_from.max(dim=1, keepdim=True).values <= position) | (position < 0)).all()):
            return replace(whole, first=first)  # no query from there on sees less than every key
        mask, seen = visibility(visible_from, position, dtype)
        return replace(whole, mask=mask, seen=seen, first=first)
    mask, seen = visibility(visible_from, layout.position, dtype, same_branch=None if arriving is None else layout.same_branch)
    return replace(whole, mask=mask, seen=seen)


def _both_seen(learners: dict[str, LearnerStep], n_queries: int) -> torch.Tensor | None:
    both = None
    for step in learners.values():
        seen = step.seen
        if step.first:
            like = step.new if seen is None else seen
            assert like is not None, "queries are left out only where keys arrive"
            seen = torch.ones(like.shape[0], n_queries - step.first, 1, dtype=torch.bool, device=like.device) if seen is None else seen
            seen = torch.nn.functional.pad(seen, (0, 0, step.first, 0))
        if seen is not None:
            both = seen if both is None else both & seen
    return both


def _check_router_width(key_from: torch.Tensor, width: int) -> None:
    if key_from.shape[1] <= width:
        return
    longest = int(key_from.masked_fill(key_from == NEVER, 0).max()) + 1
    if longest > width:
        raise ValueError(f"the context has {longest} tokens but the router is {width} wide: shorten the context")


def _advance(
    past: RowState | None, layout: Layout, key_from: torch.Tensor, features: torch.Tensor | None, padded: bool, image_length: int | None
) -> RowState:
    """Row state after this chunk; keeps an image's features while some row stands inside it, because its other vectors come later."""
    length = torch.ones_like(layout.position[:, 0]) if layout.valid is None else layout.valid.long().sum(dim=1)
    images = layout.images
    if past is not None:
        length = length + past.length
    if images is None:
        if past is not None:
            return replace(past, visible_from=key_from, length=length, padded=padded)
        return RowState(visible_from=key_from, length=length, image_tokens=torch.zeros_like(length), padded=padded)
    image_tokens = images.mask.long().sum(dim=1) + (0 if past is None else past.image_tokens)
    state = RowState(visible_from=key_from, length=length, image_tokens=image_tokens, padded=padded)
    if image_length is None or not bool((image_tokens % image_length != 0).any()):
        return state
    state.open_image = None if past is None else past.open_image
    state.open_start = None if past is None else past.open_start
    if features is not None:
        counts = torch.bincount(images.rows, minlength=length.shape[0])
        last = (counts.cumsum(0) - 1).clamp(min=0)
        newest, start = features[last], images.starts[last]
        if state.open_image is not None and state.open_start is not None:
            newest = torch.where((counts > 0)[:, None, None], newest, state.open_image)
            start = torch.where(counts > 0, start, state.open_start)
        state.open_image, state.open_start = newest, start
    return state
