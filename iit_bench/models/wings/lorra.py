"""Low-rank residual attention, the learner of Wings (WINGS.md A.3, B.2 to B.4, B.9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from iit_bench.models.wings.attention import explicit_attention
from iit_bench.models.wings.cache import KeyBank

Rotary = tuple[torch.Tensor, torch.Tensor]  # cos, sin: [B, 1, K, d]


@dataclass
class LearnerStep:
    """What one learner sees in one forward pass; shared by all layers.

    Attributes:
        new: raw embeddings of the keys that arrive with this pass [B, K_new, D], or None.
        rotary: cos and sin at the new keys' positions.
        mask: additive [B, 1, N, K], every row with at least one visible key; None = causal (`is_causal`) or all visible.
        seen: [B, N, 1] 1 where the query sees a key, 0 where the visible key is a dummy; None = every query sees one.
        bank: keys and values of earlier passes, extended in place; None without a cache.
        explicit: attend with an attention matrix, operation for operation as the released code does.
    """

    new: torch.Tensor | None
    rotary: Rotary | None
    mask: torch.Tensor | None
    is_causal: bool
    seen: torch.Tensor | None
    bank: KeyBank | None
    explicit: bool = False


class LoRRA(nn.Module):
    """q = h + lr_q(h), k = x + lr_k(x), v = x + lr_v(x), rotated by position; out = lr_o(attention), lr(z) = B A z.

    Always as many key-value heads as query heads, of size D / H, whatever the decoder's attention has. No residual on the output.
    """

    def __init__(self, hidden_size: int, num_heads: int, rank: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = hidden_size // num_heads
        self.q_proj = _low_rank(hidden_size, rank)
        self.k_proj = _low_rank(hidden_size, rank)
        self.v_proj = _low_rank(hidden_size, rank)
        self.o_proj = _low_rank(hidden_size, rank)

    def forward(self, hidden: torch.Tensor, rotary: Rotary, step: LearnerStep, layer: int) -> torch.Tensor:
        """hidden: [B, N, D], the residual stream after self-attention; rotary: cos and sin at its positions; returns [B, N, D]."""
        query = rotate(self._heads(hidden + self.q_proj(hidden)), rotary)
        key, value = self._keys(step, layer)
        if step.explicit:
            attended, _ = explicit_attention(query, key, value, step.mask)
        else:
            attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=step.mask, is_causal=step.is_causal)
        attended = attended.transpose(1, 2).flatten(2)
        if step.seen is not None:
            # Zeroed before o_proj and with a dummy key, not after a softmax over nothing: that would leave NaN gradients (B.4).
            attended = attended * step.seen
        return self.o_proj(attended)

    def _keys(self, step: LearnerStep, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step.new is None:
            assert step.bank is not None, "a learner without new keys needs a cache"
            return step.bank.layer(layer)
        assert step.rotary is not None
        key = rotate(self._heads(step.new + self.k_proj(step.new)), step.rotary)
        value = self._heads(step.new + self.v_proj(step.new))
        return (key, value) if step.bank is None else step.bank.extend(layer, key, value)

    def _heads(self, z: torch.Tensor) -> torch.Tensor:
        return z.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # [B, H, K, d]


def rotary_table(position: torch.Tensor, head_dim: int, base: float, dtype: torch.dtype) -> Rotary:
    """The learners' own rotary table: NeoX halves, no scaling whatever the decoder uses (WINGS.md A.3).

    position: [B, K] int64; returns cos and sin [B, 1, K, head_dim] in `dtype`, computed in float32.
    """
    exponent = torch.arange(0, head_dim, 2, device=position.device, dtype=torch.float32) / head_dim
    angle = position[:, None, :, None].float() * (1.0 / base**exponent)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(z: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """z: [B, H, K, d]."""
    cos, sin = rotary
    first, second = z.chunk(2, dim=-1)
    return z * cos + torch.cat((-second, first), dim=-1) * sin


class SelfInitialised(nn.Linear):
    """A linear layer that keeps its own initialisation where transformers would draw the decoder's; here torch's default."""


class _Down(SelfInitialised):
    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)


class _Up(SelfInitialised):
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)  # so that a fresh learner adds exactly nothing (WINGS.md A.1)


def _low_rank(hidden_size: int, rank: int) -> nn.Sequential:
    return nn.Sequential(_Down(hidden_size, rank, bias=False), _Up(rank, hidden_size, bias=False))
