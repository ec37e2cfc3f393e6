"""The router: weighs the two learners by where the main attention looks (docs/spec/wings.md#a4-layer, #b5-router-weights)."""

from __future__ import annotations

import torch
from torch import nn

from iit_bench.models.wings.lorra import SelfInitialised


class _Table(SelfInitialised):
    """W and b. Both are read only in `forward`, because accelerate loads a module's offloaded weights only for that call."""

    def forward(self, key_position_ids: torch.Tensor | None = None) -> torch.Tensor:
        """The columns of W at [B, K] positions, [B, K, 2]; without positions b, [2] float32."""
        if key_position_ids is None:
            return self.bias.float()
        return nn.functional.embedding(key_position_ids.clamp(max=self.in_features - 1), self.weight.t())


class Router(nn.Module):
    """ρ = softmax(silu(z)), z = Σ_heads A · Wᵀ + b, with A the main attention's probabilities and W [2, width].

    A is never built: given `columns`, the attention function returns Σ_heads A · Wᵀ (see attention.py).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = _Table(width, 2)

    def columns(self, key_position_ids: torch.Tensor) -> torch.Tensor:
        """Column of W for every key: [B, K] int64 → [B, K, 2].

        Beyond the width there is no column: any is returned, because `step` refuses to weigh such keys.
        """
        return self.linear(key_position_ids)

    def forward(self, router_logits: torch.Tensor) -> torch.Tensor:
        """ρ from Σ_heads A · Wᵀ: [B, N, 2] float32 → [B, N, 2] float32, 0 = visual, 1 = textual."""
        z = router_logits + self.linear()
        return torch.softmax(nn.functional.silu(z), dim=-1)
