"""The records that pass between the parts of the model: positions, visibility, and what all layers share in one forward pass.

Only records, so that every other file can import them. Letters in shapes: B rows, N tokens of this pass (queries), K keys, M image tokens,
n images that begin in this pass or keys that arrive with it, T vectors per image, D hidden size, D_v feature size of the tower, H heads, d
size of a head, r rank of a learner, m stacked learners, L layers with learners, V vocabulary. Integer tensors are int64; the other dtypes
are the model's unless stated.
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
    """State of each row after the tokens so far.

    Attributes:
        visible_from: [B, K] of the decoder's own keys: their position, NEVER at padding.
        length: [B] tokens without padding.
        image_tokens: [B] placeholders among them.
        open_image: [B, T, D] projected features of each row's latest image, kept only while some row ends inside an image.
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
        """A copy with the given rows ([chosen] int64, repeats allowed)."""
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
        mask: [B, N] bool, True at placeholders.
        image_index: [M] image of every placeholder in row-major order. Images that began in an earlier pass come first, one per row (only
            if there is such an image), then this pass's images.
        vector_index: [M] which of the image's T vectors the placeholder stands for.
        rows: [n] row of each image that begins in this pass.
        columns: [n] column of its first token.
        starts: [n] position of its first token.
    """

    mask: torch.Tensor
    image_index: torch.Tensor
    vector_index: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Positions and images of this pass's tokens.

    Attributes:
        attention_mask: [B, N] bool, False at padding; None = one token of text per row, known without a look at the device.
        position_ids: [B, N] int64, -1 at padding.
        images: None without image tokens.
        sees: [B, N, N] bool, which tokens of this pass a query may see: those of its path; None = rows do not branch.
    """

    attention_mask: torch.Tensor | None = None
    position_ids: torch.Tensor
    images: Images | None = None
    sees: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of queries of a tree, and the keys that at least one of them sees.

    Most of a tree is invisible to a query: it sees its path only. In depth-first order the paths of neighbours are nearly the same keys.

    Attributes:
        start: first query.
        end: one past the last one.
        keys: [K'] int64, indices of the keys.
        mask: additive [B, 1, end - start, K'].
    """

    start: int
    end: int
    keys: torch.Tensor
    mask: torch.Tensor


Mask = torch.Tensor | tuple[Block, ...]  # additive [B, 1, N, K], or the same by blocks of queries


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of one width among others, where all are one row of tokens: B rows, each of Q queries and K keys.

    Attributes:
        rows: B.
        queries: Q.
        keys: K; 0 = the outputs are 0.
        mask: additive [B or 1, 1, Q, K]; None = causal, or all visible.
        causal: query i of a row sees its keys 0 to i.
    """

    rows: int
    queries: int
    keys: int
    mask: torch.Tensor | None = None
    causal: bool = False


# ---------------------------------------------------------------- learners


@dataclass(frozen=True, kw_only=True)
class TextFirst:
    """Queries reordered: text tokens first, then image tokens.

    Among text tokens the textual learner is causal: without a mask the fused kernel does half of the work. Only image tokens need a mask.

    Attributes:
        order: [B, K + M] int64, indices into all B · N columns: each row's text tokens, then its image tokens, both in reading order;
            shorter rows are filled with columns of the other kind.
        n_text: K.
        image_mask: additive [B, 1, M, K].
        inverse: [B, N] int64, the place of each column in `order`, as an index into all B · (K + M).
    """

    order: torch.Tensor
    n_text: int
    image_mask: torch.Tensor
    inverse: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Read:
    """The tokens whose last hidden states are read; of the last layer only their queries are computed.

    Attributes:
        keep: [B, N] bool, these tokens.
        columns: [B, Q] int64, the same by row, as indices into all B · N columns; shorter rows are filled with other columns.
        real: [B, Q] bool, False where a shorter row is filled.
        mask: additive [B, 1, Q, N] of the decoder's own attention.
    """

    keep: torch.Tensor
    columns: torch.Tensor
    real: torch.Tensor
    mask: torch.Tensor


class KeyStore(Protocol):
    """Keys and values of one learner over all passes, by layer: `cache.KeyBank`."""

    def layer(self, layer_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer, [B, H, K, d] each."""

    def extend(self, layer_index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [B, H, n, d] to a layer; returns all of them, [B, H, K, d] each."""


@dataclass(kw_only=True)
class LearnerStep:
    """What one learner sees in one forward pass; shared by all layers. By default every query sees every key.

    Attributes:
        key_embeddings: [B, n, D] raw embeddings of the keys that arrive with this pass; None = none arrive.
        key_rotary: cos and sin at these keys' positions.
        bank: keys and values of earlier passes, extended in place; None without a cache.
        attention_mask: additive [B, 1, N - first_query, K] or blocks, every row with at least one visible key; None = causal
            (`is_causal`) or all visible.
        is_causal: query i sees keys 0 to i.
        sees_key: [B, N - first_query, 1] bool, False where the only visible key is a dummy; None = every query sees a key.
        first_query: queries before this column see no key in any row and are left out.
        text_first: replaces `attention_mask` and `is_causal`; only in a pass with which all keys arrive.
        eager: build the attention matrix, operation for operation as the released code does.
        projected: by layer, keys and values [B, H, K, d] of `key_embeddings`, rotated; empty = each layer projects its own. One dictionary
            for all records of a learner.
        rows: as in `Step.rows`, what queries of the learner see; then B is 1, and there is no other mask.
    """

    key_embeddings: torch.Tensor | None
    key_rotary: Rotary | None
    bank: KeyStore | None = None
    attention_mask: Mask | None = None
    is_causal: bool = False
    sees_key: torch.Tensor | None = None
    first_query: int = 0
    text_first: TextFirst | None = None
    eager: bool = False
    projected: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    rows: tuple[Rows, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class StackedLayer:
    """q_proj and o_proj of a layer's m learners: A ("down") and B ("up") of lr(z) = B A z."""

    query_down: torch.Tensor  # [m r, D]
    query_up: torch.Tensor  # [m, r, D]
    output_down: torch.Tensor  # [m, D, r]
    output_up: torch.Tensor  # [D, m r]


@dataclass(frozen=True, kw_only=True)
class StackedWeights:
    """A copy of the learners' weights, arranged for passes of one token per row; valid as long as the cache that holds it.

    Attributes:
        names: the learners in the order in which they are stacked.
        layers: by index, those layers that carry learners.
        text_down: [2 L r, D], A of k_proj and v_proj of the textual learner of all those layers; None without this learner.
        text_up: [2 L, r, D], B of the same.
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
        attention_masks: of the decoder's attention by sliding window (key None = no window); a mask of None is causal or all visible.
        position_ids: [B, N] int64, 0 at padding, for the router's columns.
        use_router: some query may see both learners.
        query_rotary: the learners' rotary table at this pass's tokens; None without learners.
        learners: by name, those with at least one key; the others add nothing.
        sees_both: [B, N, 1] bool, the query sees keys of both learners; None = every query does (if `use_router`).
        cache: extended by every layer; None without one.
        stacked: the learners' weights for a pass of one token per row; None = take them from the modules.
        eager: build attention matrices, as in `LearnerStep.eager`; then no mask is None.
        begins: rows begin with this pass, so that a learned prefix comes before its tokens.
        learner_scale: [B, 1, 2] factor of each learner where both are seen; None = the configured one for both.
        read: of the last layer's step, the tokens that are read: then N is Q in what is said of learners.
        last: the last layer's own step; None = the same as of all.
        rows: the pass is one row of tokens (B is 1), which are these rows without padding between them; None = its rows are rows.
    """

    position_embeddings: tuple[torch.Tensor, torch.Tensor]
    attention_masks: dict[int | None, Mask | None]
    position_ids: torch.Tensor
    use_router: bool
    query_rotary: Rotary | None
    learners: dict[str, LearnerStep]
    sees_both: torch.Tensor | None = None
    cache: DynamicCache | None = None
    stacked: StackedWeights | None = None
    eager: bool = False
    learner_scale: torch.Tensor | None = None
    begins: bool = False
    read: Read | None = None
    last: Step | None = None
    rows: tuple[Rows, ...] | None = None
    _elsewhere: dict[torch.device, Step] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Step:
        """A copy on another device, made once for all layers there. accelerate calls this if layers are on several devices."""
        device = torch.device(device)
        if self.position_ids.device == device:
            return self
        if device not in self._elsewhere:
            self._elsewhere[device] = _moved(self, device, non_blocking)
        return self._elsewhere[device]


def _moved(value: Any, device: torch.device, non_blocking: bool) -> Any:
    """Tensors in records, tuples and dicts on another device. Caches stay: each of their layers is where its decoder layer is."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, tuple):
        return tuple(_moved(part, device, non_blocking) for part in value)
    if isinstance(value, dict):
        return {name: _moved(part, device, non_blocking) for name, part in value.items()}
    if isinstance(value, (Step, LearnerStep, TextFirst, Block, Read, Rows)):
        parts = {part.name: _moved(getattr(value, part.name), device, non_blocking) for part in fields(value) if part.name[0] != "_"}
        return replace(value, **parts)
    return value
