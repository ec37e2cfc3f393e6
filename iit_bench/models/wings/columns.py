"""Tokens of each row, by their columns: taken out, and put back."""

from __future__ import annotations

import torch


def columns_of(chosen: torch.Tensor) -> torch.Tensor:
    """Columns of the chosen tokens ([B, N] bool) of each row in order, [B, most]; shorter rows are filled with other columns."""
    return torch.argsort(~chosen, dim=1, stable=True)[:, : int(chosen.sum(dim=1).max())]


def flat_columns(columns: torch.Tensor, width: int) -> torch.Tensor:
    """[B, K] columns of rows of `width` → indices into all B · width."""
    return columns + width * torch.arange(columns.shape[0], device=columns.device)[:, None]


def take_columns(states: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """[B, N, …] → [B, K, …]; columns: [B, K] int64, indices into all B · N."""
    return states.flatten(0, 1).index_select(0, columns.flatten()).unflatten(0, columns.shape)


def put_columns(states: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[M, …] → [B, N, …], 0 where a token is not one of the M that are chosen ([B, N] bool), which are row by row."""
    return states.new_zeros(*chosen.shape, *states.shape[1:]).index_put(chosen.nonzero(as_tuple=True), states)
