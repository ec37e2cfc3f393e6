"""The append-only cache: the decoder's keys and values, and beside them the learners' (docs/spec/wings.md#b8-appending)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from iit_bench.models.wings.state import RowState, Stacked

MIN_GROWTH = 64  # tokens of room made at least when a layer is full


class GrowingLayer(DynamicLayer):
    """Keys and values [B, H, K, d] of one layer, appended in place: room is made in steps, so a token costs no copy of all before it.

    A copy made by `share` reads the same tensors; it moves into room of its own with the first tokens it appends.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()
        self.reserve = reserve
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # bookkeeping in Python; what is around it compiles
    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, columns: torch.Tensor | None = None, extra: int = 0, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return all keys and values so far.

        Args:
            key_states, value_states: [B, H, n, d].
            columns: [B, n, 2], written behind the values of every head (see attention.py); None = nothing is.
            extra: width added to keys and values, zero where no columns stand; the same in every call.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n, size = key_states.shape[2:]
        length = self.get_seq_length()
        if torch.is_grad_enabled() and (key_states.requires_grad or (self.keys is not None and self.keys.requires_grad)):
            return self._concatenate(key_states, value_states, columns, extra)
        keys, values = self._make_room(key_states, length, length + n, size + extra)
        keys[:, :, length : length + n, :size] = key_states
        values[:, :, length : length + n, :size] = value_states
        if columns is not None:
            values[:, :, length : length + n, size : size + columns.shape[2]] = columns[:, None]
        self.keys, self.values = keys[:, :, : length + n], values[:, :, : length + n]
        return self.keys, self.values

    def _make_room(self, like: torch.Tensor, length: int, needed: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._room is not None and self._room[0].shape[2] >= needed and not (self._room[0].is_inference() and not like.is_inference()):
            return self._room
        # The first tokens, a prompt's, get what they need: many caches are only read afterwards.
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
        self, key: torch.Tensor, value: torch.Tensor, columns: torch.Tensor | None, extra: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where gradients are wanted nothing may be overwritten."""
        if extra:
            key, value = widen(key, extra), widen(value, extra, columns)
        self._room = None
        keys: tuple[torch.Tensor, torch.Tensor] = super().update(key, value)
        return keys

    @property
    def layer_tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None and self.values is not None, "nothing was appended yet"
        return self.keys, self.values

    def share(self) -> GrowingLayer:
        other = copy.copy(self)
        other._room = None
        return other

    def pick(self, rows: torch.Tensor) -> None:
        """Keep the given rows (int64 [M], repeats allowed)."""
        if self.get_seq_length():
            length, whole = self.get_seq_length(), self._room or self.layer_tensors
            keys, values = (tensor.index_select(0, rows.to(tensor.device)) for tensor in whole)
            self._room = (keys, values) if self._room is not None else None
            self.keys, self.values = keys[:, :, :length], values[:, :, :length]

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.pick(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.pick(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.get_seq_length():
            keys = self.layer_tensors[0]
            self.pick(torch.arange(keys.shape[0], device=keys.device).repeat_interleave(repeats))

    def crop(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a Wings cache is append-only: keep the cache of the shorter prefix and `fork` it")


def widen(z: torch.Tensor, extra: int, columns: torch.Tensor | None = None) -> torch.Tensor:
    """[B, H, K, d] → [B, H, K, d + extra]: `columns` [B, K, c], the same for every head, then zeros."""
    if columns is None:
        return torch.nn.functional.pad(z, (0, extra))
    behind = torch.nn.functional.pad(columns.to(z.dtype), (0, extra - columns.shape[2]))
    return torch.cat((z, behind.unsqueeze(1).expand(-1, z.shape[1], -1, -1)), dim=-1)


@dataclass
class KeyBank:
    """Keys and values of one learner, by layer, and from which position on each key is visible.

    Attributes:
        visible_from: [B, K] int64: query i sees key j iff visible_from[j] <= position[i].
        full: no key is NEVER visible, so late queries need no mask.
    """

    visible_from: torch.Tensor | None = None
    full: bool = True
    layers: dict[int, GrowingLayer] = field(default_factory=dict)

    def announce(self, visible_from: torch.Tensor, full: bool) -> None:
        """Append the visibility of keys that every layer is about to `extend` with."""
        self.visible_from = visible_from if self.visible_from is None else torch.cat((self.visible_from, visible_from), dim=1)
        self.full = self.full and full

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layers[layer].layer_tensors

    def extend(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layers.setdefault(layer, GrowingLayer()).update(key, value)

    def share(self) -> KeyBank:
        return replace(self, layers={index: layer.share() for index, layer in self.layers.items()})

    def pick(self, rows: torch.Tensor) -> None:
        if self.visible_from is not None:
            self.visible_from = self.visible_from[rows]
        for layer in self.layers.values():
            layer.pick(rows)


class WingsCache(DynamicCache):
    """A DynamicCache that also keeps the learners' keys and values. Every layer keeps all keys; sliding windows are masked, not cut.

    Args:
        reserve: tokens to make room for at the start; 0 = room grows with the rows.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()
        self.reserve = reserve
        self.rows: RowState | None = None
        self.banks: dict[str, KeyBank] = {}
        # The learners' weights for single tokens, by names: a copy will do, since a cache is only good for the weights it began with.
        self.stacked: dict[tuple[str, ...], Stacked | None] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append to a layer; see `GrowingLayer.update`."""
        while len(self.layers) <= layer_idx:
            self.layers.append(GrowingLayer(self.reserve))
        layer: Any = self.layers[layer_idx]
        keys: tuple[torch.Tensor, torch.Tensor] = layer.update(key_states, value_states, *args, **kwargs)
        return keys

    def bank(self, learner: str) -> KeyBank:
        return self.banks.setdefault(learner, KeyBank())

    def fork(self) -> WingsCache:
        """A cache that grows on its own; the tensors so far are shared, not copied."""
        other = copy.copy(self)
        layers: list[Any] = self.layers
        other.layers = [layer.share() for layer in layers]
        other.banks = {name: bank.share() for name, bank in self.banks.items()}
        return other

    def select(self, rows: torch.Tensor) -> WingsCache:
        """A new cache with the given rows (int64 [M], repeats allowed); this one stays as it is."""
        other = self.fork()
        other.batch_select_indices(rows)
        return other

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self._keep(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._keep(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.rows is not None:
            self.batch_select_indices(torch.arange(self.rows.length.shape[0], device=self.rows.length.device).repeat_interleave(repeats))

    def crop(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("a Wings cache is append-only: keep the cache of the shorter prefix and `fork` it")

    def _keep(self, rows: torch.Tensor) -> None:
        self.rows = None if self.rows is None else self.rows.select(rows)
        for bank in self.banks.values():
            bank.pick(rows)
