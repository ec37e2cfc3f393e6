"""Positions, images and visibility of one forward pass (docs/spec/wings.md#b1-positions to #b4-nothing-visible)."""

from __future__ import annotations

import torch

from iit_bench.models.wings.columns import columns_of, flat_columns
from iit_bench.models.wings.state import NEVER, Block, Images, Layout, Mask, RowState, TextFirst

BLOCK = 128  # queries of a tree in one attention


def read_layout(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    image_token_id: int,
    image_token_length: int | None,
    n_images: int,
    past: RowState | None,
) -> Layout:
    """Positions and images of tokens that continue the rows of `past`.

    A token's position is the number of non-padding tokens before it (B.1). A row's placeholders are its images in order, T each.

    Args:
        input_ids: [B, N] int64.
        attention_mask: [B, N] bool, False at padding.
        image_token_id: the placeholder.
        image_token_length: T; None = the model has no vision tower.
        n_images: images that were given for this pass.
        past: state of the rows before this pass; None = they begin here.

    Raises:
        ValueError: images and placeholders do not match, or an image's placeholders are interrupted.
    """
    position_ids = attention_mask.long().cumsum(dim=1) - 1
    if past is not None:
        position_ids = position_ids + past.length[:, None]
    position_ids = position_ids.masked_fill(~attention_mask, -1)
    image_mask = (input_ids == image_token_id) & attention_mask
    images = _read_images(image_mask, position_ids, image_token_length=image_token_length, n_images=n_images, past=past)
    return Layout(attention_mask=attention_mask, position_ids=position_ids, images=images)


def read_single_token(past: RowState) -> Layout:
    """Layout of one text token per row after the rows of `past`, without waiting for the device."""
    return Layout(position_ids=past.length[:, None])


def read_tree(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    ends: torch.Tensor,
    *,
    image_token_id: int,
    image_token_length: int | None,
    n_images: int,
    past: RowState | None,
) -> Layout:
    """Layout of rows that are trees: a token sees its ancestors and what came before the tree, at the position that it has in its path.

    Args:
        input_ids: [B, N] int64, depth first.
        attention_mask: [B, N] bool, False at padding, which is behind the tree.
        ends: [B, N] int64, one past the column of each token's last descendant: column i sees column j if j <= i < ends[j].
        image_token_id: the placeholder.
        image_token_length: as in `read_layout`.
        n_images: as in `read_layout`; an image in several branches is given for each of them.
        past: state of the rows before this pass.

    Raises:
        ValueError: as in `read_layout`, or the rows before the tree end inside an image.
    """
    column = torch.arange(input_ids.shape[1], device=input_ids.device)
    sees = (column[None, None, :] <= column[None, :, None]) & (column[None, :, None] < ends[:, None, :]) & attention_mask[:, None, :]
    position_ids = sees.long().sum(dim=2) - 1
    if past is not None:
        position_ids = position_ids + past.length[:, None]
        if past.open_image is not None:
            raise ValueError("rows that end inside an image cannot branch: finish the image in a pass of its own")
    position_ids = position_ids.masked_fill(~attention_mask, -1)
    image_mask = (input_ids == image_token_id) & attention_mask
    images = _read_images(image_mask, position_ids, image_token_length=image_token_length, n_images=n_images, past=past)
    return Layout(attention_mask=attention_mask, position_ids=position_ids, images=images, sees=sees)


def _read_images(
    image_mask: torch.Tensor, position_ids: torch.Tensor, *, image_token_length: int | None, n_images: int, past: RowState | None
) -> Images | None:
    if not bool(image_mask.any()):
        if n_images:
            raise ValueError(f"{n_images} images were given but the input has no image placeholder")
        return None
    if image_token_length is None:
        raise ValueError("the input has image placeholders but this model has no vision tower (image_token_length is not set)")
    before = torch.zeros_like(image_mask[:, 0], dtype=torch.long) if past is None else past.image_tokens
    nth = image_mask.long().cumsum(dim=1) - 1 + before[:, None]  # among the placeholders of its row
    vector_index = nth % image_token_length
    begins = image_mask & (vector_index == 0)
    rows, columns = begins.nonzero(as_tuple=True)
    starts = position_ids[rows, columns]
    if rows.shape[0] != n_images:
        placeholders = int(image_mask.sum())
        raise ValueError(
            f"the placeholders of {rows.shape[0]} images begin in the input ({placeholders} tokens, {image_token_length} per image) "
            f"but {n_images} images were given"
        )
    # Row-major running count of images: within a row, a placeholder belongs to the latest image that began.
    latest = begins.flatten().cumsum(0).view_as(begins) - 1
    if past is not None and past.open_image is not None and past.open_start is not None:
        n_rows = image_mask.shape[0]
        continues = begins.long().cumsum(dim=1) == 0
        latest = torch.where(continues, torch.arange(n_rows, device=image_mask.device)[:, None], latest + n_rows)
        all_starts = torch.cat((past.open_start, starts))
    else:
        all_starts = starts
    image_index, vector_index = latest[image_mask], vector_index[image_mask]
    if not bool((all_starts[image_index] + vector_index == position_ids[image_mask]).all()):
        raise ValueError(f"an image's {image_token_length} placeholders must be adjacent, without text between them")
    return Images(mask=image_mask, image_index=image_index, vector_index=vector_index, rows=rows, columns=columns, starts=starts)


def check_whole_images(layout: Layout, image_token_length: int | None) -> None:
    """Refuse rows that end inside an image: without a cache no later pass can bring the rest.

    Raises:
        ValueError: a row ends inside an image.
    """
    if layout.images is not None and image_token_length is not None:
        counts = layout.images.mask.sum(dim=1)
        incomplete = counts % image_token_length != 0
        if bool(incomplete.any()):
            row = int(incomplete.nonzero()[0, 0])
            raise ValueError(
                f"row {row} has {int(counts[row])} image placeholders, which is not a multiple of {image_token_length} per image"
            )


def image_grid(images: Images, n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This pass's images arranged by row.

    Returns:
        Index of the image in each slot [B, slots] int64, and whether the slot has one [B, slots] bool; slots = most images of a row.
    """
    device = images.rows.device
    counts = torch.bincount(images.rows, minlength=n_rows)
    slot = torch.arange(int(counts.max()), device=device)
    first = counts.cumsum(0) - counts
    filled = slot[None, :] < counts[:, None]
    return (first[:, None] + slot[None, :]).masked_fill(~filled, 0), filled


def text_columns(layout: Layout, image_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Text tokens arranged by row.

    Returns:
        Column of each [B, K] int64, and its `visible_from` [B, K], NEVER where a shorter row is filled up.
    """
    is_text = _is_text(layout, image_mask)
    columns = columns_of(is_text)
    return columns, layout.position_ids.masked_fill(~is_text, NEVER).gather(1, columns)


def _is_text(layout: Layout, image_mask: torch.Tensor) -> torch.Tensor:
    return ~image_mask if layout.attention_mask is None else layout.attention_mask & ~image_mask


def sort_queries(layout: Layout, images: Images, visible_from: torch.Tensor, dtype: torch.dtype) -> tuple[TextFirst, torch.Tensor | None]:
    """Queries of the textual learner, text tokens first.

    Args:
        layout: of a pass with images.
        images: its images.
        visible_from: [B, K] of the text keys, which all arrive with this pass, as `text_columns` arranges them.
        dtype: of the mask.

    Returns:
        The order, and which queries see a key ([B, N, 1] bool, None = all).
    """
    n, is_text = layout.position_ids.shape[1], _is_text(layout, images.mask)
    of_text, of_images = columns_of(is_text), columns_of(images.mask)
    n_text = of_text.shape[1]
    mask, image_sees = visibility_mask(visible_from, layout.position_ids.gather(1, of_images), dtype)
    text_place, image_place = is_text.long().cumsum(dim=1) - 1, n_text + images.mask.long().cumsum(dim=1) - 1
    inverse = torch.where(images.mask, image_place, text_place.clamp(min=0))
    order = torch.cat((of_text, of_images), dim=1)
    sees_key = torch.cat((torch.ones_like(of_text, dtype=torch.bool), image_sees[:, :, 0]), dim=1).gather(1, inverse)
    split = TextFirst(order=flat_columns(order, n), n_text=n_text, image_mask=mask, inverse=flat_columns(inverse, order.shape[1]))
    return split, None if bool(sees_key.all()) else sees_key.unsqueeze(2)


def visibility_mask(
    visible_from: torch.Tensor, position_ids: torch.Tensor, dtype: torch.dtype, *, window: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Additive mask, and which queries see a key. A query that sees none gets key 0 as a dummy (B.4).

    Args:
        visible_from: [B, K] int64.
        position_ids: [B, N] int64 of the queries, -1 at padding.
        dtype: of the mask.
        window: hide keys this many or more positions back (only for the decoder's own attention, whose `visible_from` is a position).

    Returns:
        Mask [B, 1, N, K] of 0 and -inf in `dtype`, and sees_key [B, N, 1] bool.
    """
    visible, sees_key = _visible(visible_from, position_ids, window, None)
    return _additive(visible, dtype), sees_key


def tree_mask(
    visible_from: torch.Tensor,
    position_ids: torch.Tensor,
    dtype: torch.dtype,
    *,
    sees: torch.Tensor | None,
    window: int | None = None,
) -> tuple[Mask, torch.Tensor]:
    """As `visibility_mask`, where `sees` ([B, N, n] bool, None = nothing) further limits the last n keys; many queries are in blocks."""
    visible, sees_key = _visible(visible_from, position_ids, window, sees)
    return (_additive(visible, dtype) if visible.shape[1] <= BLOCK else _blocks(visible, dtype)), sees_key


def _visible(
    visible_from: torch.Tensor, position_ids: torch.Tensor, window: int | None, sees: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which keys a query is given [B, N, K] bool, and whether it sees one [B, N, 1] bool."""
    visible = visible_from[:, None, :] <= position_ids[:, :, None]
    if window is not None:
        visible &= position_ids[:, :, None] - visible_from[:, None, :] < window
    if sees is not None:
        visible[:, :, -sees.shape[2] :] &= sees
    sees_key = visible.any(dim=2, keepdim=True)
    visible[:, :, :1] |= ~sees_key
    return visible, sees_key


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[B, N, K] bool → [B, 1, N, K] of 0 and -inf."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, float("-inf")).unsqueeze(1)


def _blocks(visible: torch.Tensor, dtype: torch.dtype) -> tuple[Block, ...]:
    """[B, N, K] bool → blocks of `BLOCK` queries with the keys that one of them sees in some row."""
    needed = torch.stack([part.any(dim=0) for part in visible.any(dim=0).split(BLOCK)])  # [blocks, K]
    keys = needed.nonzero()[:, 1].split(needed.sum(dim=1).tolist())
    parts = visible.split(BLOCK, dim=1)
    starts = range(0, visible.shape[1], BLOCK)
    return tuple(
        Block(start=start, end=start + part.shape[1], keys=own, mask=_additive(part[:, :, own], dtype))
        for start, part, own in zip(starts, parts, keys, strict=True)
    )
