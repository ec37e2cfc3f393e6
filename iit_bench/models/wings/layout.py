"""Positions, images and visibility of one forward pass (docs/spec/wings.md#b1-positions to #b4-nothing-visible)."""

from __future__ import annotations

import torch

from iit_bench.models.wings.state import NEVER, Images, Layout, RowState, TextFirst


def read_layout(
    input_ids: torch.Tensor, valid: torch.Tensor, image_token_id: int, image_length: int | None, n_images: int, past: RowState | None
) -> Layout:
    """Positions and images of `input_ids` [B, N], which continue the rows of `past`.

    A token's position is the number of non-padding tokens before it (B.1). A row's placeholders are its images in order, T each.

    Raises:
        ValueError: images and placeholders do not match, or an image's placeholders are interrupted.
    """
    position = valid.long().cumsum(dim=1) - 1
    if past is not None:
        position = position + past.length[:, None]
    position = position.masked_fill(~valid, -1)
    mask = (input_ids == image_token_id) & valid
    if not bool(mask.any()):
        if n_images:
            raise ValueError(f"{n_images} images were given but the input has no image placeholder (id {image_token_id})")
        return Layout(valid=valid, position=position)
    if image_length is None:
        raise ValueError("the input has image placeholders but this model has no vision tower (image_token_length is not set)")
    return Layout(valid=valid, position=position, images=_read_images(mask, position, image_length, n_images, past))


def read_token(past: RowState) -> Layout:
    """One token of text a row after the rows of `past`; the device is not waited for."""
    return Layout(position=past.length[:, None])


def read_branches(
    input_ids: torch.Tensor, valid: torch.Tensor, branches: torch.Tensor, image_token_id: int, past: RowState | None
) -> Layout:
    """Several continuations of one prefix side by side in one row: each stands where it would stand alone after the prefix.

    branches: [B, N] int64, the continuation of every token.

    Raises:
        ValueError: a continuation has an image.
    """
    if bool(((input_ids == image_token_id) & valid).any()):
        raise ValueError("branches cannot have images: continue with the images in a pass of their own")
    same = (branches[:, :, None] == branches[:, None, :]) & valid[:, None, :]
    position = same.tril().long().sum(dim=2) - 1
    if past is not None:
        position = position + past.length[:, None]
    return Layout(valid=valid, position=position.masked_fill(~valid, -1), same_branch=same)


def _read_images(mask: torch.Tensor, position: torch.Tensor, image_length: int, n_images: int, past: RowState | None) -> Images:
    before = torch.zeros_like(mask[:, 0], dtype=torch.long) if past is None else past.image_tokens
    nth = mask.long().cumsum(dim=1) - 1 + before[:, None]  # among the placeholders of its row
    offset = nth % image_length
    begins = mask & (offset == 0)
    rows, columns = begins.nonzero(as_tuple=True)
    starts = position[rows, columns]
    if rows.shape[0] != n_images:
        placeholders = int(mask.sum())
        raise ValueError(
            f"the placeholders of {rows.shape[0]} images begin in the input ({placeholders} tokens, {image_length} per image) "
            f"but {n_images} images were given"
        )
    # Row-major running count of begun images: within a row, the latest one is the image a placeholder belongs to.
    latest = begins.flatten().cumsum(0).view_as(begins) - 1
    if past is not None and past.open_image is not None and past.open_start is not None:
        n_rows = mask.shape[0]
        continues = begins.long().cumsum(dim=1) == 0
        latest = torch.where(continues, torch.arange(n_rows, device=mask.device)[:, None], latest + n_rows)
        all_starts = torch.cat((past.open_start, starts))
    else:
        all_starts = starts
    source, offset = latest[mask], offset[mask]
    if not bool((all_starts[source] + offset == position[mask]).all()):
        raise ValueError(f"an image's {image_length} placeholders must stand together, without text between them")
    return Images(mask=mask, source=source, offset=offset, rows=rows, starts=starts)


def check_whole_images(layout: Layout, image_length: int | None) -> None:
    """Without a cache no later pass can bring the rest of an image.

    Raises:
        ValueError: a row ends inside an image.
    """
    if layout.images is not None and image_length is not None:
        counts = layout.images.mask.sum(dim=1)
        if bool((counts % image_length != 0).any()):
            row = int((counts % image_length != 0).nonzero()[0, 0])
            raise ValueError(f"row {row} has {int(counts[row])} image placeholders, which is not a multiple of {image_length} per image")


def image_grid(images: Images, n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This pass's images lined up by row: (index [B, M] of the image in each slot, filled [B, M] bool)."""
    device = images.rows.device
    counts = torch.bincount(images.rows, minlength=n_rows)
    slot = torch.arange(int(counts.max()), device=device)
    first = counts.cumsum(0) - counts
    filled = slot[None, :] < counts[:, None]
    return (first[:, None] + slot[None, :]).masked_fill(~filled, 0), filled


def text_columns(layout: Layout, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Text tokens lined up by row: (column [B, K] of each, its visible_from [B, K]), shorter rows filled with NEVER."""
    text = ~mask if layout.valid is None else layout.valid & ~mask
    column = _line_up(text)
    return column, layout.position.masked_fill(~text, NEVER).gather(1, column)


def _line_up(chosen: torch.Tensor) -> torch.Tensor:
    """Columns of the chosen tokens [B, N] of each row, in order, as [B, most]; shorter rows are filled with other columns."""
    return torch.argsort(~chosen, dim=1, stable=True)[:, : int(chosen.sum(dim=1).max())]


def flat_columns(column: torch.Tensor, width: int) -> torch.Tensor:
    """[B, K] columns of rows of `width` → indices into all B · width."""
    return column + width * torch.arange(column.shape[0], device=column.device)[:, None]


def sort_queries(layout: Layout, images: Images, visible_from: torch.Tensor, dtype: torch.dtype) -> tuple[TextFirst, torch.Tensor | None]:
    """Queries of the textual learner sorted for `TextFirst`, and which of them see anything ([B, N, 1] bool, None = all).

    visible_from: [B, K] of the text keys, which all arrive with this pass, as `text_columns` lines them up.
    """
    n, text = layout.position.shape[1], ~images.mask if layout.valid is None else layout.valid & ~images.mask
    text_column, image_column = _line_up(text), _line_up(images.mask)
    k = text_column.shape[1]
    mask, seen = visibility(visible_from, layout.position.gather(1, image_column), dtype)
    on_text, on_image = text.long().cumsum(dim=1) - 1, k + images.mask.long().cumsum(dim=1) - 1
    place = torch.where(images.mask, on_image, on_text.clamp(min=0))
    order = torch.cat((text_column, image_column), dim=1)
    everywhere = torch.cat((torch.ones_like(text_column, dtype=torch.bool), seen[:, :, 0]), dim=1).gather(1, place)
    split = TextFirst(order=flat_columns(order, n), text=k, image_mask=mask, place=flat_columns(place, order.shape[1]))
    return split, None if bool(everywhere.all()) else everywhere.unsqueeze(2)


def visibility(
    visible_from: torch.Tensor,
    position: torch.Tensor,
    dtype: torch.dtype,
    window: int | None = None,
    same_branch: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Additive mask and which queries see anything.

    visible_from: [B, K]; position: [B, N] of the queries, -1 at padding. A query that sees no key gets key 0 as a dummy (B.4). With a
    window, keys `window` or more positions back are hidden (the decoder's own attention only, where visible_from is the key's position).
    `same_branch` [B, N, n] further limits the last n keys.

    Returns:
        (mask [B, 1, N, K] of 0 and -inf in `dtype`, seen [B, N, 1] bool).
    """
    visible = visible_from[:, None, :] <= position[:, :, None]
    if window is not None:
        visible &= position[:, :, None] - visible_from[:, None, :] < window
    if same_branch is not None:
        visible[:, :, -same_branch.shape[2] :] &= same_branch
    seen = visible.any(dim=2, keepdim=True)
    visible[:, :, :1] |= ~seen
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
    return mask.unsqueeze(1), seen
