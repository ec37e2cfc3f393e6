"""The router: weighs the two learners by where the main attention looks (docs/spec/wings.md#a4-layer, #b5-router-weights)."""

from __future__ import annotations

import torch
from torch import nn

from iit_bench.models.wings.lorra import SelfInitialised


class _Table(SelfInitialised):
    """W and b. Both are read in `forward` alone: accelerate brings a module's offloaded weights in for that time only."""

    def forward(self, key_position: torch.Tensor | None = None) -> torch.Tensor:
        """The columns of W at [B, K] positions, [B, K, 2]; without positions b, float32 [2]."""
        if key_position is None:
            return self.bias.float()
        return torch.nn.functional.embedding(key_position.clamp(max=self.in_features - 1), self.weight.t())


class Router(nn.Module):
    """ρ = softmax(silu(z)), z = Σ_heads A · Wᵀ + b, with A the main attention's probabilities and W [2, width].

    A is never built: the attention function returns Σ_heads A · Wᵀ (see `attention.py`), given `columns`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = _Table(width, 2)

    def columns(self, key_position: torch.Tensor) -> torch.Tensor:
        """Column of W for every key. key_position: [B, K] int64; returns [B, K, 2].

        Beyond the width there is no column; `step` refuses to weigh such keys, so what stands there does not matter.
        """
        return self.linear(key_position)

    def forward(self, attended: torch.Tensor) -> torch.Tensor:
        """attended: [B, N, 2] float32, Σ_heads A · Wᵀ; returns ρ [B, N, 2] float32, 0 = visual, 1 = textual."""
        logits = attended + self.linear()
        return torch.softmax(torch.nn.functional.silu(logits), dim=-1)
