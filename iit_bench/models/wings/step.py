"""Masks, learner keys and rotary tables, which all layers share (docs/spec/wings.md#b1-positions to #b5-router-weights)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.columns import columns_of, flat_columns, take_columns
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.layout import image_grid, sort_queries, text_columns, tree_mask, visibility_mask
from iit_bench.models.wings.lorra import rotary_table
from iit_bench.models.wings.state import NEVER, Images, Layout, LearnerStep, Mask, Read, Rotary, RowState, Step

MORE = 16  # the share of queries that see no key may be one in so many, for them to be computed and set to 0
TEXT_FIRST = 256  # tokens of a row from which sorting the textual learner's queries costs less than a mask over all of them


@dataclass(frozen=True, kw_only=True)
class _NewKeys:
    """Keys of one learner that arrive with this pass.

    Attributes:
        embeddings: raw, [B, K, D].
        visible_from: [B, K].
        rotary: table at their positions.
        columns: [B, K] int64, of each key the token of this pass with which it becomes visible; None = its own.
    """

    embeddings: torch.Tensor
    visible_from: torch.Tensor
    rotary: Rotary
    columns: torch.Tensor | None = None

    def seen(self, sees: torch.Tensor | None) -> torch.Tensor | None:
        """Which of these keys a query may see, [B, N, K] bool, where `sees` [B, N, N] limits what tokens see of each other."""
        if sees is None or self.columns is None:
            return sees
        return sees.gather(2, self.columns[:, None, :].expand(-1, sees.shape[1], -1))


def splice(embeddings: torch.Tensor, images: Images, features: torch.Tensor | None, past: RowState | None) -> torch.Tensor:
    """Input embeddings [B, N, D] with projected image features [n, T, D] in place of the placeholders."""
    parts = [part for part in (None if past is None else past.open_image, features) if part is not None]
    vectors = torch.cat(parts) if len(parts) > 1 else parts[0]
    chosen = vectors[images.image_index, images.vector_index].to(embeddings.dtype)
    return embeddings.index_put(images.mask.nonzero(as_tuple=True), chosen)


def build_step(
    config: WingsConfig,
    rotary_emb: nn.Module,
    *,
    windows: set[int | None],
    embeddings: torch.Tensor,
    layout: Layout,
    features: torch.Tensor | None,
    cache: WingsCache | None,
    past: RowState | None = None,
    keep: torch.Tensor | None = None,
    last_window: int | None = None,
    whole: bool = False,
) -> Step:
    """Everything the layers share in one pass; the row state and key visibility of `cache` then include this pass.

    Args:
        config: of the model.
        rotary_emb: the decoder's own rotary table.
        windows: the sliding windows of the decoder's layers.
        embeddings: input embeddings [B, N, D], images in place.
        layout: positions and images of this pass's tokens.
        features: projected features [n, T, D] of the images that begin in this pass.
        cache: of the passes before; extended by this one.
        past: state of rows that begin with this pass behind a learned prefix; None = that of `cache`, or nothing.
        keep: [B, N] bool, the tokens whose last hidden states are read, of a pass without a cache and without trees; None = all.
        last_window: the sliding window of the last layer.
        whole: masks of learners are over all queries in their order, as `packing` needs them.

    Raises:
        ValueError: the context is longer than the router is wide and a query sees both learners.
    """
    begins = cache is None or cache.row_state is None
    past = past if cache is None or begins else cache.row_state
    mask = layout.attention_mask
    own_visible_from = layout.position_ids if mask is None else layout.position_ids.masked_fill(~mask, NEVER)
    visible_from = own_visible_from if past is None else torch.cat((past.visible_from, own_visible_from), dim=1)
    padded = (past is not None and past.padded) or (mask is not None and not bool(mask.all()))
    in_order = past is None and layout.sees is None and (not padded or _padding_last(layout))
    rotary, arriving = _new_keys(config, embeddings, layout, own_visible_from=own_visible_from, features=features)
    names = [name for name in config.active_learners if name in arriving or (cache is not None and name in cache.banks)]
    use_router = config.has_router and len(names) == 2
    if use_router:
        _check_router_width(visible_from, config.router_width)
    learners = {
        name: _learner_step(name, arriving.get(name), layout, dtype=embeddings.dtype, in_order=in_order, cache=cache, whole=whole)
        for name in names
    }
    if cache is not None:
        cache.row_state = _advance(
            past,
            layout,
            visible_from=visible_from,
            features=features,
            padded=padded,
            image_token_length=config.image_token_length,
        )
    maskless = in_order or (own_visible_from.shape[1] == 1 and not padded)
    step = Step(
        position_embeddings=rotary_emb(embeddings, position_ids=layout.position_ids.clamp(min=0)),
        attention_masks=_masks(windows, layout, visible_from, dtype=embeddings.dtype, maskless=maskless),
        position_ids=layout.position_ids.clamp(min=0),
        use_router=use_router,
        query_rotary=rotary,
        learners=learners,
        sees_both=_sees_both(learners, layout.position_ids.shape[1]) if use_router else None,
        cache=cache,
        begins=begins,
    )
    if keep is not None:
        keys = {name: arriving[name].visible_from for name in learners}
        step.last = _only_read(step, keep, layout, visible_from, keys, dtype=embeddings.dtype, window=last_window)
    return step


def _only_read(
    step: Step,
    keep: torch.Tensor,
    layout: Layout,
    visible_from: torch.Tensor,
    learner_keys: dict[str, torch.Tensor],
    *,
    dtype: torch.dtype,
    window: int | None,
) -> Step:
    """The step of the last layer, whose queries are the tokens that are read; keys are those of all tokens."""
    of_rows = columns_of(keep)
    columns = flat_columns(of_rows, keep.shape[1])
    position_ids = layout.position_ids.gather(1, of_rows)
    mask, _ = visibility_mask(visible_from, position_ids, dtype, window=window)
    learners = {}
    for name, of_all in step.learners.items():
        own, sees_key = visibility_mask(learner_keys[name], position_ids, dtype)
        learners[name] = replace(of_all, attention_mask=own, sees_key=sees_key, is_causal=False, first_query=0, text_first=None)
    rotary = step.query_rotary
    return replace(
        step,
        read=Read(keep=keep, columns=columns, real=keep.gather(1, of_rows), mask=mask),
        learners=learners,
        query_rotary=None if rotary is None else (take_columns(rotary[0], columns), take_columns(rotary[1], columns)),
        sees_both=_sees_both(learners, of_rows.shape[1]) if step.use_router else None,
        _elsewhere={},
    )


def _padding_last(layout: Layout) -> bool:
    """Whether columns are in the order of positions with padding after them, so that a causal pass needs no mask."""
    mask = layout.attention_mask
    return mask is None or not bool((mask[:, 1:] & ~mask[:, :-1]).any())


def _masks(
    windows: set[int | None], layout: Layout, visible_from: torch.Tensor, *, dtype: torch.dtype, maskless: bool
) -> dict[int | None, Mask | None]:
    """By sliding window, the mask of the decoder's own attention."""
    masks: dict[int | None, Mask | None] = {}
    for window in windows:
        needed = not maskless or (window is not None and visible_from.shape[1] > window)
        arguments = (visible_from, layout.position_ids, dtype)
        masks[window] = tree_mask(*arguments, window=window, sees=layout.sees)[0] if needed else None
    return masks


def _new_keys(
    config: WingsConfig,
    embeddings: torch.Tensor,
    layout: Layout,
    *,
    own_visible_from: torch.Tensor,
    features: torch.Tensor | None,
) -> tuple[Rotary | None, dict[str, _NewKeys]]:
    """The queries' rotary table and the keys that arrive, by learner: raw embeddings of text, projected features of images (B.2, B.3)."""
    if not config.active_learners:
        return None, {}
    text, dtype, images = config.text_config, embeddings.dtype, layout.images
    head_dim = text.hidden_size // text.num_attention_heads

    def rotary_at(position_ids: torch.Tensor) -> Rotary:
        return rotary_table(position_ids, head_dim, float(text.rope_parameters["rope_theta"]), dtype)

    rotary = rotary_at(layout.position_ids.clamp(min=0))
    arriving = {}
    if images is None:
        arriving["textual"] = _NewKeys(embeddings=embeddings, visible_from=own_visible_from, rotary=rotary)
    else:
        columns, visible_from = text_columns(layout, images.mask)
        if columns.shape[1]:
            arriving["textual"] = _NewKeys(
                embeddings=take_columns(embeddings, flat_columns(columns, embeddings.shape[1])),
                visible_from=visible_from,
                rotary=rotary_at(layout.position_ids.gather(1, columns).clamp(min=0)),
                columns=columns,
            )
    if images is not None and features is not None:
        index, filled = image_grid(images, embeddings.shape[0])
        length = features.shape[1]
        start = images.starts[index]  # [B, slots]
        position_ids = (start[:, :, None] + torch.arange(length, device=start.device)).flatten(1)
        arriving["visual"] = _NewKeys(
            embeddings=features[index].flatten(1, 2).to(dtype),
            visible_from=start.masked_fill(~filled, NEVER).repeat_interleave(length, dim=1),
            rotary=rotary_at(position_ids),
            columns=images.columns[index].repeat_interleave(length, dim=1),
        )
    return rotary, {name: arriving[name] for name in config.active_learners if name in arriving}


def _learner_step(
    name: str,
    arriving: _NewKeys | None,
    layout: Layout,
    *,
    dtype: torch.dtype,
    in_order: bool,
    cache: WingsCache | None,
    whole: bool,
) -> LearnerStep:
    """What a learner sees, with no mask where the visibility of this pass needs none."""
    bank = None if cache is None else cache.bank(name)
    first_keys = bank is None or bank.visible_from is None
    if arriving is not None and bank is not None:
        # Without an attention mask the pass is one text token per row, and the device is not waited for.
        unpadded = layout.attention_mask is None or not bool((arriving.visible_from == NEVER).any())
        bank.append_visibility(arriving.visible_from, unpadded)
    everything = LearnerStep(
        key_embeddings=None if arriving is None else arriving.embeddings,
        key_rotary=None if arriving is None else arriving.rotary,
        bank=bank,
    )
    n_queries, images = layout.position_ids.shape[1], layout.images
    if name == "textual" and in_order and images is None:
        return replace(everything, is_causal=n_queries > 1)
    if n_queries == 1 and bank is not None and bank.unpadded:
        return everything  # the only query is the latest token
    visible_from = bank.visible_from if bank is not None else arriving.visible_from if arriving is not None else None
    assert visible_from is not None, "a learner takes part only with keys"
    if images is not None and arriving is not None and first_keys and layout.sees is None:
        if name == "textual" and n_queries >= TEXT_FIRST and not whole:
            text_first, sees_key = sort_queries(layout, images, visible_from, dtype)
            return replace(everything, text_first=text_first, sees_key=sees_key)
        begins = 0 if name == "textual" else int(images.mask.any(dim=0).nonzero()[0])
        # A few queries more cost less than to leave them out, which copies the others, forward and backward.
        first = 0 if whole or (torch.is_grad_enabled() and begins * MORE <= n_queries) else begins
        position_ids = layout.position_ids[:, begins:]
        if bool(((visible_from.max(dim=1, keepdim=True).values <= position_ids) | (position_ids < 0)).all()):
            column = torch.arange(n_queries, device=position_ids.device)
            sees = None if first == begins else (column >= begins)[None, :, None].expand(position_ids.shape[0], -1, -1)
            return replace(everything, first_query=first, sees_key=sees)
        mask, sees_key = visibility_mask(visible_from, layout.position_ids[:, first:], dtype)
        return replace(everything, first_query=first, attention_mask=mask, sees_key=None if bool(sees_key.all()) else sees_key)
    sees = None if arriving is None else arriving.seen(layout.sees)
    tree, sees_key = tree_mask(visible_from, layout.position_ids, dtype, sees=sees)
    return replace(everything, attention_mask=tree, sees_key=sees_key)


def _sees_both(learners: dict[str, LearnerStep], n_queries: int) -> torch.Tensor | None:
    """Which queries see keys of every learner, [B, N, 1] bool; None = all do."""
    both = None
    for step in learners.values():
        sees_key = step.sees_key
        if step.first_query:
            like = step.key_embeddings if sees_key is None else sees_key
            assert like is not None, "queries are left out only where keys arrive"
            if sees_key is None:
                sees_key = torch.ones(like.shape[0], n_queries - step.first_query, 1, dtype=torch.bool, device=like.device)
            sees_key = nn.functional.pad(sees_key, (0, 0, step.first_query, 0))
        if sees_key is not None:
            both = sees_key if both is None else both & sees_key
    return both


def _check_router_width(visible_from: torch.Tensor, width: int) -> None:
    if visible_from.shape[1] <= width:
        return
    longest = int(visible_from.masked_fill(visible_from == NEVER, 0).max()) + 1
    if longest > width:
        raise ValueError(f"the context has {longest} tokens but the router is {width} wide: shorten the context")


def _advance(
    past: RowState | None,
    layout: Layout,
    *,
    visible_from: torch.Tensor,
    features: torch.Tensor | None,
    padded: bool,
    image_token_length: int | None,
) -> RowState:
    """Row state after this pass; keeps an image's features while some row ends inside it, because its other vectors come later."""
    mask, images = layout.attention_mask, layout.images
    length = torch.ones_like(layout.position_ids[:, 0]) if mask is None else mask.long().sum(dim=1)
    if past is not None:
        length = length + past.length
    if images is None:
        if past is not None:
            return replace(past, visible_from=visible_from, length=length, padded=padded)
        return RowState(visible_from=visible_from, length=length, image_tokens=torch.zeros_like(length), padded=padded)
    image_tokens = images.mask.long().sum(dim=1) + (0 if past is None else past.image_tokens)
    state = RowState(visible_from=visible_from, length=length, image_tokens=image_tokens, padded=padded)
    if image_token_length is None or not bool((image_tokens % image_token_length != 0).any()):
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
