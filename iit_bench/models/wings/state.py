"""The records that pass between the parts of the model: who is where, who sees whom, and what all layers share in one pass.

Only records, so that every other file can import them. Letters in shapes: B rows, N columns of this pass, K keys, M images or image tokens,
n images of this pass, T vectors per image, D hidden size, H heads, d head size, r rank of a learner, L layers that carry learners.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from transformers import DynamicCache

NEVER = 2**31 - 1  # `visible_from` of a key that no query may see: padding
IGNORED = -100  # label of a token that is not scored

Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin: [B, K, 1, d], see `lorra.rotary_table`


# ---------------------------------------------------------------- tokens


@dataclass(kw_only=True)
class RowState:
    """Where each row stands after the tokens seen so far.

    Attributes:
        visible_from: [B, N] of the decoder's own keys: their position, NEVER at padding.
        length: [B] tokens without padding. image_tokens: [B] placeholders among them.
        open_image: [B, T, D] projected features of each row's latest image, kept only while some row stands inside an image.
        open_start: [B] position of that image's first token.
        padded: some column is padding in some row.
    """

    visible_from: torch.Tensor
    length: torch.Tensor
    image_tokens: torch.Tensor
    open_image: torch.Tensor | None = None
    open_start: torch.Tensor | None = None
    padded: bool

    def select(self, rows: torch.Tensor) -> RowState:
        """The state of the given rows (int64 [M], repeats allowed)."""
        return replace(
            self,
            visible_from=self.visible_from[rows],
            length=self.length[rows],
            image_tokens=self.image_tokens[rows],
            open_image=None if self.open_image is None else self.open_image[rows],
            open_start=None if self.open_start is None else self.open_start[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Images:
    """The image tokens of a pass.

    Attributes:
        mask: [B, N] bool, placeholders.
        source: [M] for every placeholder in row-major order, the index of its image: first one per row for images that were begun in
            an earlier pass (only if there is such an image), then this pass's images.
        offset: [M] which of the image's T vectors it is.
        rows, starts: [n] row and first position of each image that begins in this pass.
    """

    mask: torch.Tensor
    source: torch.Tensor
    offset: torch.Tensor
    rows: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where this pass's tokens stand.

    Attributes:
        valid: [B, N] bool, not padding; None = known to be one token of text a row, so that nothing has to be looked at.
        position: [B, N] int64, -1 at padding.
        images: None where there are none.
        same_branch: [B, N, N] bool, query and key belong to one continuation; None where rows do not branch.
    """

    valid: torch.Tensor | None = None
    position: torch.Tensor
    images: Images | None = None
    same_branch: torch.Tensor | None = None


# ---------------------------------------------------------------- learners


@dataclass(frozen=True, kw_only=True)
class TextFirst:
    """Queries sorted into those that stand on text and those that stand on images.

    Among text alone the textual learner is causal, so no mask is needed and half of the work; image tokens need one of their own.

    Attributes:
        order: [B, K + M] int64 columns, as indices into all B · N: each row's text tokens, then its image tokens, both in reading order;
            shorter rows are filled with columns of the other kind.
        text: K.
        image_mask: additive [B, 1, M, K].
        place: [B, N] where each column stands in `order`, as indices into all B · (K + M).
    """

    order: torch.Tensor
    text: int
    image_mask: torch.Tensor
    place: torch.Tensor


class KeyStore(Protocol):
    """Keys and values of one learner, by layer, over all passes: `cache.KeyBank`."""

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer, [B, H, K, d] each."""

    def extend(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [B, H, n, d] to a layer and return all of them."""


@dataclass(kw_only=True)
class LearnerStep:
    """What one learner sees in one forward pass; shared by all layers. By default every query sees every key.

    Attributes:
        new: raw embeddings of the keys that arrive with this pass [B, K_new, D], or None.
        rotary: cos and sin at the new keys' positions.
        mask: additive [B, 1, N - first, K], every row with at least one visible key; None = causal (`is_causal`) or all visible.
        seen: [B, N - first, 1] 1 where the query sees a key, 0 where the visible key is a dummy; None = every query sees one.
        bank: keys and values of earlier passes, extended in place; None without a cache.
        first: queries before this column see no key in any row, so they are left out.
        text_first: replaces `mask` and `is_causal`; only in a pass whose keys all arrive with it.
        explicit: attend with an attention matrix, operation for operation as the released code does.
    """

    new: torch.Tensor | None
    rotary: Rotary | None
    bank: KeyStore | None = None
    mask: torch.Tensor | None = None
    is_causal: bool = False
    seen: torch.Tensor | None = None
    first: int = 0
    text_first: TextFirst | None = None
    explicit: bool = False


@dataclass(frozen=True, kw_only=True)
class StackedLayer:
    """q_proj and o_proj of a layer's n learners: A and B of lr(z) = B A z."""

    query_down: torch.Tensor  # [n r, D]
    query_up: torch.Tensor  # [n, r, D]
    output_down: torch.Tensor  # [n, D, r]
    output_up: torch.Tensor  # [D, n r]


@dataclass(frozen=True, kw_only=True)
class Stacked:
    """The learners' weights as single tokens need them; a copy, good for as long as a cache is.

    Attributes:
        names: the learners in the order they are stacked.
        layers: by index of those layers that carry learners.
        text_down, text_up: k_proj and v_proj of the textual learner of all those layers, [2 L r, D] and [2 L, r, D]; None without it.
    """

    names: tuple[str, ...]
    layers: dict[int, StackedLayer]
    text_down: torch.Tensor | None = None
    text_up: torch.Tensor | None = None


# ---------------------------------------------------------------- one pass


@dataclass(kw_only=True)
class Step:
    """What all layers share in one forward pass.

    Attributes:
        position_embeddings: the decoder's own rotary table at this pass's tokens.
        masks: additive mask of the decoder's attention by window (None = no window); a mask of None is causal or all visible.
        position: [B, N] of this pass's tokens, 0 at padding, for the router's columns.
        weigh: some query may see both learners, so the router is needed.
        rotary: the learners' rotary table at the queries; None without learners.
        learners: by name, those with at least one key; the others add nothing.
        both: [B, N, 1] bool, the query sees both learners; None = every query does (where `weigh`).
        cache: extended by every layer; None without one.
        stacked: the learners' weights for passes of one token a row; None = as the modules have them.
        explicit: attend with attention matrices, as `LearnerStep.explicit`; then no mask is None.
        scale: [B, 1, 2] factor of each learner where both are seen; None = the configured `learner_scale` for both.
    """

    position_embeddings: tuple[torch.Tensor, torch.Tensor]
    masks: dict[int | None, torch.Tensor | None]
    position: torch.Tensor
    weigh: bool
    rotary: Rotary | None
    learners: dict[str, LearnerStep]
    both: torch.Tensor | None = None
    cache: DynamicCache | None = None
    stacked: Stacked | None = None
    explicit: bool = False
    scale: torch.Tensor | None = None
    _elsewhere: dict[torch.device, Step] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Step:
        """The same on another device, moved once for all layers there. accelerate calls this where layers lie on several devices."""
        device = torch.device(device)
        if self.position.device == device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = _moved(self, device, non_blocking)
        return self._elsewhere[device]


def _moved(value: Any, device: torch.device, non_blocking: bool) -> Any:
    """Tensors in records, tuples and dicts on another device. Caches stay: each of their layers lies where its decoder layer does."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_moved(part, device, non_blocking) for part in value)
    if isinstance(value, dict):
        return {name: _moved(part, device, non_blocking) for name, part in value.items()}
    if isinstance(value, (Step, LearnerStep, TextFirst)):
        parts = {part.name: _moved(getattr(value, part.name), device, non_blocking) for part in fields(value) if part.name[0] != "_"}
        return replace(value, **parts)
    return value
