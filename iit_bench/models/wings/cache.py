"""The append-only cache: keys and values of the decoder and of the learners (docs/spec/wings.md#b8-appending)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from iit_bench.models.wings.state import RowState, StackedWeights

MIN_GROWTH = 64  # tokens of room added at least when a layer is full
APPEND_ONLY = "a Wings cache is append-only: keep the cache of the shorter prefix and `fork` it"


class GrowingLayer(DynamicLayer):
    """Keys and values [B, H, K, d] of one layer, appended in place: room grows in steps, so a token copies none of its predecessors.

    A copy made by `share` reads the same tensors; it gets room of its own with the first tokens that it appends.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()
        self.reserve = reserve
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # bookkeeping in Python; the computation around it compiles
    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        router_columns: torch.Tensor | None = None,
        extra_width: int = 0,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; returns all of them, [B, H, K, d + extra_width] each.

        Args:
            key_states: [B, H, n, d].
            value_states: [B, H, n, d].
            router_columns: [B, n, 2], written behind the values of every head (see attention.py); None = zeros.
            extra_width: width added to keys and values, zero except for the router's columns; the same in every call.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n, size = key_states.shape[2:]
        length = self.get_seq_length()
        if torch.is_grad_enabled() and (key_states.requires_grad or (self.keys is not None and self.keys.requires_grad)):
            return self._concatenate(key_states, value_states, router_columns, extra_width)
        keys, values = self._make_room(key_states, length, length + n, size + extra_width)
        keys[:, :, length : length + n, :size] = key_states
        values[:, :, length : length + n, :size] = value_states
        if router_columns is not None:
            values[:, :, length : length + n, size : size + router_columns.shape[2]] = router_columns[:, None]
        self.keys, self.values = keys[:, :, : length + n], values[:, :, : length + n]
        return self.keys, self.values

    def _make_room(self, like: torch.Tensor, length: int, needed: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._room is not None and self._room[0].shape[2] >= needed and not (self._room[0].is_inference() and not like.is_inference()):
            return self._room
        # The first tokens, those of a prompt, get no spare room: many caches are only read afterwards.
        capacity = max(self.reserve, needed if length == 0 else needed + max(MIN_GROWTH, needed // 4))
        shape = (*like.shape[:2], capacity, width)
        keys, values = like.new_empty(shape), like.new_empty(shape)
        if width > like.shape[3]:
            keys[..., like.shape[3] :].zero_()
            values[..., like.shape[3] :].zero_()
        if length:
            keys[:, :, :length], values[:, :, :length] = self.layer_tensors
        self._room = keys, values
        return self._room

    def _concatenate(
        self, key: torch.Tensor, value: torch.Tensor, router_columns: torch.Tensor | None, extra_width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append without overwriting anything, so that gradients can be computed."""
        if extra_width:
            key, value = widen(key, extra_width), widen(value, extra_width, router_columns)
        self._room = None
        keys: tuple[torch.Tensor, torch.Tensor] = super().update(key, value)
        return keys

    @property
    def layer_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, [B, H, K, d] each."""
        assert self.keys is not None and self.values is not None, "nothing was appended yet"
        return self.keys, self.values

    def share(self) -> GrowingLayer:
        """A copy that grows independently; the tensors so far are shared."""
        other = copy.copy(self)
        other._room = None
        return other

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the given rows ([chosen] int64, repeats allowed), in place."""
        if self.get_seq_length():
            length, whole = self.get_seq_length(), self._room or self.layer_tensors
            keys, values = (tensor.index_select(0, indices.to(tensor.device)) for tensor in whole)
            self._room = (keys, values) if self._room is not None else None
            self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.get_seq_length():
            keys = self.layer_tensors[0]
            self.batch_select_indices(torch.arange(keys.shape[0], device=keys.device).repeat_interleave(repeats))

    def crop(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(APPEND_ONLY)


def widen(states: torch.Tensor, extra_width: int, router_columns: torch.Tensor | None = None) -> torch.Tensor:
    """[B, H, K, d] → [B, H, K, d + extra_width]: `router_columns` [B, K, c], the same for every head, then zeros."""
    if router_columns is None:
        return torch.nn.functional.pad(states, (0, extra_width))
    extra = torch.nn.functional.pad(router_columns.to(states.dtype), (0, extra_width - router_columns.shape[2]))
    return torch.cat((states, extra.unsqueeze(1).expand(-1, states.shape[1], -1, -1)), dim=-1)


@dataclass
class KeyBank:
    """Keys and values of one learner by layer, and the position from which each key is visible.

    Attributes:
        visible_from: [B, K] int64: query i sees key j iff visible_from[j] <= position_ids[i].
        unpadded: no key is padding (visible NEVER), so the latest query needs no mask.
        layers: by index, the keys and values of a layer.
    """

    visible_from: torch.Tensor | None = None
    unpadded: bool = True
    layers: dict[int, GrowingLayer] = field(default_factory=dict)

    def append_visibility(self, visible_from: torch.Tensor, unpadded: bool) -> None:
        """Append the visibility of keys [B, n] that every layer is about to `extend` with."""
        self.visible_from = visible_from if self.visible_from is None else torch.cat((self.visible_from, visible_from), dim=1)
        self.unpadded = self.unpadded and unpadded

    def layer(self, layer_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer, [B, H, K, d] each."""
        return self.layers[layer_index].layer_tensors

    def extend(self, layer_index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [B, H, n, d] to a layer; returns all of them, [B, H, K, d] each."""
        return self.layers.setdefault(layer_index, GrowingLayer()).update(key, value)

    def share(self) -> KeyBank:
        """A copy that grows independently; the tensors so far are shared."""
        return replace(self, layers={index: layer.share() for index, layer in self.layers.items()})

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the given rows ([chosen] int64, repeats allowed), in place."""
        if self.visible_from is not None:
            self.visible_from = self.visible_from[indices]
        for layer in self.layers.values():
            layer.batch_select_indices(indices)


class WingsCache(DynamicCache):
    """A DynamicCache that also keeps the learners' keys and values. Every layer keeps all keys; sliding windows are masked, not cut.

    Args:
        reserve: tokens to make room for at the start; 0 = room grows with the rows.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()
        self.reserve = reserve
        self.row_state: RowState | None = None
        self.prefix_length = 0  # keys of a learned prefix, which are before the first token's
        self.banks: dict[str, KeyBank] = {}
        # The learners' weights for single tokens, by learners' names. A copy is safe: a cache is valid only for the weights it began with.
        self.stacked: dict[tuple[str, ...], StackedWeights | None] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append to a layer; see `GrowingLayer.update`."""
        while len(self.layers) <= layer_idx:
            self.layers.append(GrowingLayer(self.reserve))
        layer: Any = self.layers[layer_idx]
        keys: tuple[torch.Tensor, torch.Tensor] = layer.update(key_states, value_states, *args, **kwargs)
        return keys

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns of the rows so far; a learned prefix has none."""
        length: int = super().get_seq_length(layer_idx)
        return max(0, length - self.prefix_length)

    def bank(self, learner: str) -> KeyBank:
        """Keys and values of a learner ("visual", "textual"), empty at first."""
        return self.banks.setdefault(learner, KeyBank())

    def fork(self) -> WingsCache:
        """A copy that grows independently; the tensors so far are shared."""
        other = copy.copy(self)
        layers: list[Any] = self.layers
        other.layers = [layer.share() for layer in layers]
        other.banks = {name: bank.share() for name, bank in self.banks.items()}
        return other

    def select(self, rows: torch.Tensor) -> WingsCache:
        """A new cache with the given rows ([chosen] int64, repeats allowed); this one is unchanged."""
        other = self.fork()
        other.batch_select_indices(rows)
        return other

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self._select_learners(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._select_learners(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.row_state is not None:
            self.batch_select_indices(
                torch.arange(self.row_state.length.shape[0], device=self.row_state.length.device).repeat_interleave(repeats)
            )

    def crop(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(APPEND_ONLY)

    def _select_learners(self, indices: torch.Tensor) -> None:
        self.row_state = None if self.row_state is None else self.row_state.select(indices)
        for bank in self.banks.values():
            bank.batch_select_indices(indices)
