"""A learned prefix: keys and values of every layer that each row begins with (docs/spec/wings.md#b11-learned-prefix)."""

from __future__ import annotations

import torch
from torch import nn

from iit_bench.models.wings.state import RowState


class Prefix(nn.Module):
    """Keys and values of one layer, [2, H_kv, P, d]; keys as the cache has them, so nothing is rotated or normalised."""

    def __init__(self, heads: int, length: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, heads, length, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random numbers. A training starts from those of a text (`training.rivals.prefix`)."""
        nn.init.normal_(self.weight, std=0.02)

    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, [H_kv, P, d] each."""
        return self.weight[0], self.weight[1]


def after_prefix(prefix: tuple[torch.Tensor, torch.Tensor], key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A pass's keys and values [B, H_kv, n, d] behind those of the prefix, [B, H_kv, P + n, d]."""
    rows = key.shape[0]
    first = (states.to(key.dtype).expand(rows, -1, -1, -1) for states in prefix)
    return torch.cat((next(first), key), dim=2), torch.cat((next(first), value), dim=2)


def begun(rows: int, length: int, device: torch.device) -> RowState:
    """State of rows in which nothing came before but a prefix of `length`, at positions 0 to length - 1."""
    nothing = torch.zeros(rows, dtype=torch.int64, device=device)
    positions = torch.arange(length, device=device).expand(rows, -1)
    return RowState(visible_from=positions, length=nothing + length, image_tokens=nothing, padded=False)
