"""Low-rank residual attention, the learner (docs/spec/wings.md#a3-lorra, #b2-text-keys to #b4-nothing-visible, #b9-learner-heads)."""

from __future__ import annotations

import torch
from torch import nn

from iit_bench.models.wings.attention import explicit_attention
from iit_bench.models.wings.state import LearnerStep, Rotary


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
        if step.first:
            hidden, rotary = hidden[:, step.first :], tuple(table[:, step.first :] for table in rotary)  # type: ignore[assignment]
        query = rotate(self._heads(hidden + self.q_proj(hidden)), rotary)  # [B, N, H, d]
        key, value = self._keys(step, layer)
        attended = _attend(query, key, value, step).flatten(2)
        if step.seen is not None:
            # Zeroed before o_proj and with a dummy key, not after a softmax over nothing: that would leave NaN gradients (B.4).
            attended = attended * step.seen
        output = self.o_proj(attended)
        return nn.functional.pad(output, (0, 0, step.first, 0)) if step.first else output

    def _keys(self, step: LearnerStep, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of this layer, [B, H, K, d] each."""
        if step.new is None:
            assert step.bank is not None, "a learner without new keys needs a cache"
            return step.bank.layer(layer)
        assert step.rotary is not None
        key = rotate(self._heads(step.new + self.k_proj(step.new)), step.rotary).transpose(1, 2)
        value = self._heads(step.new + self.v_proj(step.new)).transpose(1, 2)
        return (key, value) if step.bank is None else step.bank.extend(layer, key, value)

    def _heads(self, z: torch.Tensor) -> torch.Tensor:
        return z.unflatten(-1, (self.num_heads, self.head_dim))  # [B, K, H, d]


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: LearnerStep) -> torch.Tensor:
    """query: [B, N, H, d]; key, value: [B, H, K, d]; returns [B, N, H, d]."""
    if step.explicit:
        return explicit_attention(query.transpose(1, 2), key, value, step.mask)[0].transpose(1, 2)
    if step.text_first is None:
        return _fused(query, key, value, step.mask, step.is_causal)
    split = step.text_first
    ordered = take_columns(query, split.order)
    on_text = _fused(ordered[:, : split.text], key, value, None, True)
    on_images = _fused(ordered[:, split.text :], key, value, split.image_mask, False)
    return take_columns(torch.cat((on_text, on_images), dim=1), split.place)


def _fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, is_causal: bool) -> torch.Tensor:
    attention = nn.functional.scaled_dot_product_attention
    return attention(query.transpose(1, 2), key, value, attn_mask=mask, is_causal=is_causal).transpose(1, 2)


def take_columns(z: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """z: [B, N, …]; columns: [B, K] indices into all B · N; returns [B, K, …]."""
    return z.flatten(0, 1).index_select(0, columns.flatten()).unflatten(0, columns.shape)


def rotary_table(position: torch.Tensor, head_dim: int, base: float, dtype: torch.dtype) -> Rotary:
    """The learners' own rotary table: NeoX halves, no scaling whatever the decoder uses (docs/spec/wings.md#a3-lorra).

    position: [B, K] int64; returns cos and sin [B, K, 1, head_dim] in `dtype`, computed in float32; of sin the first half is negative,
    as `rotate` wants it.
    """
    exponent = torch.arange(0, head_dim, 2, device=position.device, dtype=torch.float32) / head_dim
    angle = position[:, :, None, None].float() * (1.0 / base**exponent)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def rotate(z: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """z: [B, K, H, d]. (first, second) → (first cos − second sin, second cos + first sin)."""
    cos, sin = rotary
    return torch.addcmul(z * cos, z.roll(z.shape[-1] // 2, dims=-1), sin)


class SelfInitialised(nn.Linear):
    """A linear layer that keeps its own initialisation where transformers would draw the decoder's; here torch's default."""


class _Down(SelfInitialised):
    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)


class _Up(SelfInitialised):
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)  # so that a fresh learner adds exactly nothing (docs/spec/wings.md#a1-parameters)


def _low_rank(hidden_size: int, rank: int) -> nn.Sequential:
    return nn.Sequential(_Down(hidden_size, rank, bias=False), _Up(rank, hidden_size, bias=False))
