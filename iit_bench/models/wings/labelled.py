"""What a loss reads of a pass: the states of tokens that come before a labelled one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from iit_bench.models.wings.state import IGNORED


@dataclass(frozen=True)
class Labelled:
    """The labelled tokens that a token comes before, M of them.

    Attributes:
        places: row and column [M] of the token before each.
        tokens: [M] int64, their labels.
        read: [B, N] bool, the tokens at `places`.
    """

    places: tuple[torch.Tensor, torch.Tensor]
    tokens: torch.Tensor
    read: torch.Tensor

    def states(self, last: torch.Tensor) -> torch.Tensor:
        """The states [M, D] at `places`; `last`: of all tokens [B, N, D], or, row by row, of those that are read."""
        if last.ndim == 3:
            return last[self.places]
        return last[(self.read.flatten().cumsum(0) - 1).view_as(self.read)[self.places]]


def labelled(labels: torch.Tensor, attention_mask: torch.Tensor | None, length: int | None = None) -> Labelled:
    """Every labelled token with the latest token before it that is not padding; a row's first has none.

    Args:
        labels: [B, N] int64, or [B, N + 1], where the token after a row's last is labelled but not read.
        attention_mask: [B, N] bool; None = every column counts, padding too, as in mode `released`.
        length: N; None = that of the labels.
    """
    length = length or labels.shape[1]
    column = torch.arange(length, device=labels.device).expand(labels.shape[0], -1)
    latest = (column if attention_mask is None else column.masked_fill(~attention_mask, -1).cummax(dim=1).values)[:, : labels.shape[1] - 1]
    scored = (labels[:, 1:] != IGNORED) & (latest >= 0)
    places = (scored.nonzero(as_tuple=True)[0], latest[scored])
    read = torch.zeros_like(column, dtype=torch.bool).index_put(places, torch.tensor(True, device=labels.device))
    return Labelled(places, labels[:, 1:][scored], read)
