"""Mode `released`: rows, positions, text keys and masks of the authors' code (docs/spec/wings.md#a2-input-assembly and #a4-layer).

Quirks included. Learners, router, layers and tower are those of mode `strict`; only positions and visibility differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.lorra import rotary_table
from iit_bench.models.wings.state import IGNORED, LearnerStep, Rotary, Step


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch with its images in place.

    Attributes:
        embeddings: X [B, N, D], zero vectors at padding.
        attention_mask: [B, N] bool, False at padding; None = the caller gave no mask, so that even padding is seen.
        labels: [B, N] int64 or None.
        image_starts: per row, vectors before its first image; 0 without an image (beg_b).
    """

    embeddings: torch.Tensor
    attention_mask: torch.Tensor | None
    labels: torch.Tensor | None
    image_starts: list[int]


@dataclass(frozen=True, kw_only=True)
class TextKeys:
    """J_b and p_b (A.2).

    Attributes:
        columns: [B, K] int64, the columns of X that are a row's text keys.
        copies: per row, how many of them are copies of the last one.
    """

    columns: torch.Tensor
    copies: list[int]


def expand(
    config: WingsConfig,
    embed_tokens: nn.Module,
    input_ids: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None,
    labels: torch.Tensor | None,
    features: torch.Tensor | None,
) -> Rows:
    """Rows of the decoder from rows of tokens (A.2, points 1 to 3).

    Masked tokens are deleted, wherever they are; each slot (`image_token_id`) is replaced by the next image, slots without an image left
    are dropped, a row without a slot passes over one image; rows are cut to `tokenizer_max_length` and padded.

    Args:
        config: of the model.
        embed_tokens: the decoder's input embeddings.
        input_ids: [B, tokens] int64, an image as one slot.
        attention_mask: [B, tokens] or None.
        labels: [B, tokens] int64 or None.
        features: projected [B, T, D], one image per row, or None.

    Raises:
        ValueError: slots without images, not one image per row, no image left for a row with slots, or a row cut inside its image.
    """
    kept = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].bool()
    slots = input_ids == config.image_token_id
    if features is None and bool((slots & kept).any()):
        raise ValueError("the input has image slots but no images were given")
    if features is not None and features.shape[0] != input_ids.shape[0]:
        raise ValueError(f"mode 'released' takes one image per row: {features.shape[0]} images were given for {input_ids.shape[0]} rows")
    embedded = embed_tokens(input_ids.masked_fill(slots, 0))
    limit = config.tokenizer_max_length
    vectors, targets, image_starts, cursor = [], [], [], 0
    for row in range(input_ids.shape[0]):
        places = slots[row][kept[row]].nonzero()[:, 0].tolist()
        images = [] if features is None else list(features[cursor : cursor + len(places)])
        cursor += max(len(places), 1)
        if places and not images:
            raise ValueError(f"row {row} has image slots but the rows before it took every image")
        row_labels = None if labels is None else labels[row][kept[row]]
        vectors.append(_fill(embedded[row][kept[row]], places, images)[:limit])
        image_starts.append(places[0] if places else 0)
        if row_labels is not None:
            blanks = [row_labels.new_full((image.shape[0],), IGNORED) for image in images]
            targets.append(_fill(row_labels, places, blanks)[:limit])
        if images and image_starts[row] + images[0].shape[0] > vectors[row].shape[0]:
            raise ValueError(f"row {row} is cut to {limit} vectors (tokenizer_max_length) inside its image: shorten the text before it")
    real = [torch.ones(row.shape[0], dtype=torch.bool, device=row.device) for row in vectors]
    side = config.tokenizer_padding_side
    return Rows(
        embeddings=_pad(vectors, 0.0, side),
        attention_mask=None if attention_mask is None else _pad(real, False, side),
        labels=None if labels is None else _pad(targets, IGNORED, side),
        image_starts=image_starts,
    )


def _fill(row: torch.Tensor, places: list[int], inserts: list[torch.Tensor]) -> torch.Tensor:
    """`row` [n, …] with the entries at `places` replaced by `inserts`; places beyond the last insert are dropped."""
    pieces, start = [], 0
    for index, place in enumerate(places):
        pieces.append(row[start:place])
        pieces += inserts[index : index + 1]
        start = place + 1
    return torch.cat([piece.to(row.dtype) for piece in (*pieces, row[start:])])


def _pad(rows: list[torch.Tensor], value: float, side: str) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)


def find_text_keys(image_starts: list[int], *, n: int, image_length: int, system_prompt_length: int, device: torch.device) -> TextKeys:
    """J_b and p_b. A row without an image, or with one at index 0, has every column; others lack the system prompt and their image.

    The padding tail of the batch is among the keys.

    Args:
        image_starts: beg_b.
        n: N.
        image_length: T, 0 without images.
        system_prompt_length: S.
        device: of the result.

    Raises:
        ValueError: a row has no text key, and another has some.
    """
    columns = []
    for start in image_starts:
        before, after = range(min(system_prompt_length, start), start), range(min(start + image_length, n), n)
        columns.append([*range(n)] if start == 0 else [*before, *after])
    width = max(map(len, columns))
    copies = [width - len(row) for row in columns]
    if any(copy and not row for copy, row in zip(copies, columns, strict=True)):
        raise ValueError("a row has no text but the system prompt and its image, beside rows that have some: run it by itself")
    filled = [row + row[-1:] * copy for row, copy in zip(columns, copies, strict=True)]
    return TextKeys(columns=torch.tensor(filled, dtype=torch.long, device=device).reshape(len(columns), width), copies=copies)


def backbone_visible(n: int, attention_mask: torch.Tensor | None, window: int | None, device: torch.device) -> torch.Tensor:
    """Which keys a query sees in the decoder's attention, [B or 1, N, N] bool (A.2, point 5).

    attention_mask: [B, N] bool or None.
    """
    distance = torch.arange(n, device=device)[:, None] - torch.arange(n, device=device)
    visible = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
    return visible[None] if attention_mask is None else visible[None] & attention_mask[:, None, :]


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[B, N, K] bool → [B, 1, N, K] of 0 and the dtype's lowest number, not -inf: a query that sees nothing weighs all keys the same."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min).unsqueeze(1)


def build_released_step(
    config: WingsConfig, rotary_emb: nn.Module, *, windows: set[int | None], rows: Rows, features: torch.Tensor | None
) -> Step:
    """Everything the layers share in one pass over whole rows (A.2, A.4).

    Args:
        config: of the model.
        rotary_emb: the decoder's own rotary table.
        windows: the sliding windows of the decoder's layers.
        rows: from `expand`.
        features: projected [B, T, D] or None.

    Raises:
        ValueError: the rows are longer than the router is wide and both learners take part.
    """
    x = rows.embeddings
    n, dtype, device = x.shape[1], x.dtype, x.device
    position_ids = torch.arange(n, device=device)[None]
    names = [name for name in config.active_learners if name == "textual" or features is not None]
    image_length = 0 if features is None else features.shape[1]
    system = config.system_prompt_length
    keys = find_text_keys(rows.image_starts, n=n, image_length=image_length, system_prompt_length=system, device=device)
    image_cut = n < image_length  # only rows shorter than an image, which have none, cut their image keys
    masks = _masks(config, rows, keys, image_cut)
    learners: dict[str, LearnerStep] = {}
    if "visual" in names:
        assert features is not None
        length = min(n, image_length)
        starts = torch.tensor(rows.image_starts, device=device)[:, None]  # positions begin at the row's first image
        learners["visual"] = LearnerStep(
            key_embeddings=features[:, :length].to(dtype),
            key_rotary=_rotary(config, starts + torch.arange(length, device=device), dtype),
            eager=masks.eager,
        )
    if "textual" in names:
        learners["textual"] = LearnerStep(
            key_embeddings=x.gather(1, keys.columns[:, :, None].expand(-1, -1, x.shape[2])),
            key_rotary=_rotary(config, keys.columns, dtype),
            attention_mask=masks.text,
            is_causal=masks.text is None,
            eager=masks.eager,
        )
    both = len(names) == 2
    if both and n > config.router_width:
        raise ValueError(f"the context has {n} tokens but the router is {config.router_width} wide: shorten the context")
    return Step(
        position_embeddings=rotary_emb(x, position_ids=position_ids),
        attention_masks=dict.fromkeys(windows, masks.backbone),
        position_ids=position_ids.expand(x.shape[0], -1),
        use_router=both,
        query_rotary=_rotary(config, position_ids, dtype) if names else None,
        learners=learners,
        eager=masks.eager,
        learner_scale=_learner_scale(keys, image_cut, device) if both else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Masks:
    """Additive masks, None = causal by column.

    Attributes:
        backbone: [B or 1, 1, N, N], of the decoder's attention.
        text: [B or 1, 1, N, K], of the textual learner.
        eager: build attention matrices (then both masks are given): requested by attn_implementation="eager", in the released code's order
            of operations, or because fused kernels lose the gradients of a query that sees nothing.
    """

    backbone: torch.Tensor | None = None
    text: torch.Tensor | None = None
    eager: bool = False


def _masks(config: WingsConfig, rows: Rows, keys: TextKeys, image_cut: bool) -> _Masks:
    n, dtype, device = rows.embeddings.shape[1], rows.embeddings.dtype, rows.embeddings.device
    eager, window = config._attn_implementation == "eager", config.released_window
    plain = (window is None or window >= n) and (rows.attention_mask is None or bool(rows.attention_mask.all()))
    if plain and (image_cut or not any(keys.copies)) and not eager:
        return _Masks()  # rows of one length, which a single row always is: causal, for text too (A.9)
    visible = backbone_visible(n, rows.attention_mask, window, device)
    text = _visible_text(visible, keys, image_cut)
    eager = eager or (torch.is_grad_enabled() and not bool(visible.any(-1).all() & text.any(-1).all()))
    return _Masks(backbone=additive_mask(visible, dtype), text=additive_mask(text, dtype), eager=eager)


def _rotary(config: WingsConfig, position_ids: torch.Tensor, dtype: torch.dtype) -> Rotary:
    text = config.text_config
    return rotary_table(position_ids, text.hidden_size // text.num_attention_heads, float(text.rope_parameters["rope_theta"]), dtype)


def _visible_text(visible: torch.Tensor, keys: TextKeys, image_cut: bool) -> torch.Tensor:
    """Text key number j is at column J_b[j] but is seen as column j of the decoder's own mask would be (A.4): [B or 1, N, K] bool.

    image_cut: the image keys were cut to short rows, and then the code forgets p_b.
    """
    n = visible.shape[1]
    visible = visible[:, :, : keys.columns.shape[1]]
    if any(keys.copies) and not image_cut:
        late = torch.arange(n, device=visible.device) >= n - torch.tensor(keys.copies, device=visible.device)[:, None]
        visible = visible & ~late[:, :, None]
    return visible


def _learner_scale(keys: TextKeys, image_cut: bool, device: torch.device) -> torch.Tensor:
    """c_b for the image, 2 for the text, [B, 1, 2] float32: every learner is added twice, but some rows' image only once."""
    once = [image_cut or (any(keys.copies) and not copy) for copy in keys.copies]
    return torch.tensor([[[1.0 if image else 2.0, 2.0]] for image in once], device=device)
