"""The append-only cache: the decoder's keys and values, and beside them the learners' (WINGS.md B.8)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
from transformers import DynamicCache

NEVER = 2**31 - 1  # `visible_from` of a key that no query may see: padding


@dataclass
class KeyBank:
    """Keys and values of one learner, by layer, and from which position on each key is visible.

    Attributes:
        visible_from: [B, K] int64: query i sees key j iff visible_from[j] <= position[i].
        full: no key is NEVER visible, so late queries need no mask.
    """

    visible_from: torch.Tensor | None = None
    full: bool = True
    keys: dict[int, torch.Tensor] = field(default_factory=dict)  # layer -> [B, H, K, d]
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def announce(self, visible_from: torch.Tensor, full: bool) -> None:
        """Append the visibility of keys that every layer is about to `extend` with."""
        self.visible_from = visible_from if self.visible_from is None else torch.cat((self.visible_from, visible_from), dim=1)
        self.full = self.full and full

    def layer(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys[layer], self.values[layer]

    def extend(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer in self.keys:
            key = torch.cat((self.keys[layer], key), dim=2)
            value = torch.cat((self.values[layer], value), dim=2)
        self.keys[layer], self.values[layer] = key, value
        return key, value

    def select(self, rows: torch.Tensor) -> KeyBank:
        return KeyBank(
            visible_from=None if self.visible_from is None else self.visible_from[rows],
            full=self.full,
            keys={layer: key[rows] for layer, key in self.keys.items()},
            values={layer: value[rows] for layer, value in self.values.items()},
        )


@dataclass
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
    open_image: torch.Tensor | None
    open_start: torch.Tensor | None
    padded: bool

    def select(self, rows: torch.Tensor) -> RowState:
        return replace(
            self,
            visible_from=self.visible_from[rows],
            length=self.length[rows],
            image_tokens=self.image_tokens[rows],
            open_image=None if self.open_image is None else self.open_image[rows],
            open_start=None if self.open_start is None else self.open_start[rows],
        )


class WingsCache(DynamicCache):
    """A DynamicCache that also keeps the learners' keys and values. Every layer keeps all keys; sliding windows are masked, not cut."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: RowState | None = None
        self.banks: dict[str, KeyBank] = {}

    def bank(self, learner: str) -> KeyBank:
        return self.banks.setdefault(learner, KeyBank())

    def fork(self) -> WingsCache:
        """A cache that grows on its own; the tensors so far are shared, not copied."""
        other = copy.copy(self)
        other.layers = [copy.copy(layer) for layer in self.layers]
        other.banks = {name: replace(bank, keys=dict(bank.keys), values=dict(bank.values)) for name, bank in self.banks.items()}
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
        super().batch_repeat_interleave(repeats)
        if self.rows is not None:
            self._keep(torch.arange(self.rows.length.shape[0], device=self.rows.length.device).repeat_interleave(repeats))

    def crop(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("a Wings cache is append-only: keep the cache of the shorter prefix and `fork` it")

    def _keep(self, rows: torch.Tensor) -> None:
        self.rows = None if self.rows is None else self.rows.select(rows)
        self.banks = {name: bank.select(rows) for name, bank in self.banks.items()}
