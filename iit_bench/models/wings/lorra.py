"""Low-rank residual attention, the learner (docs/spec/wings.md#a3-lorra, #b2-text-keys to #b4-nothing-visible, #b9-learner-heads)."""

from __future__ import annotations

import torch
from torch import nn

from iit_bench.models.wings import fused_layer
from iit_bench.models.wings.attention import by_blocks, eager_attention
from iit_bench.models.wings.block_attention import attend
from iit_bench.models.wings.columns import take_columns
from iit_bench.models.wings.state import LearnerStep, Mask, Rotary


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

    def forward(
        self,
        hidden_states: torch.Tensor,
        query_rotary: Rotary,
        step: LearnerStep,
        layer_index: int,
        *,
        onto: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Add one layer's output of the learner.

        Args:
            hidden_states: [B, N, D], the residual stream after self-attention.
            query_rotary: cos and sin at its positions, [B, N, 1, d] each.
            step: what the learner sees in this pass.
            layer_index: for the cache.
            onto: [B, N, D], what the output is added to.
            weight: [B, N, 1] of the output; None = 1.

        Returns:
            onto + weight · output, [B, N, D].
        """
        if step.first_query:
            hidden_states = hidden_states[:, step.first_query :]
            query_rotary = (query_rotary[0][:, step.first_query :], query_rotary[1][:, step.first_query :])
        query = None if step.eager else fused_layer.learner_query(self.q_proj, hidden_states, query_rotary)
        if query is None:
            query = rotate(self._heads(_added(self.q_proj, hidden_states, hidden_states)), query_rotary)  # [B, N, H, d]
        key, value = self._keys(step, layer_index)
        attended = _attend(query, key, value, step).flatten(2)
        low = self.o_proj[0](attended)  # what follows costs r / D of what it would cost after B
        if step.sees_key is not None:
            # With a dummy key and zeroed here, not after a softmax over nothing, whose gradients are NaN (B.4).
            low = low * step.sees_key
        if step.first_query:
            low = nn.functional.pad(low, (0, 0, step.first_query, 0))
        return self.o_proj[1](low if weight is None else low * weight, onto)

    def _keys(self, step: LearnerStep, layer_index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of this layer, [B, H, K, d] each."""
        if step.projected:
            return step.projected[layer_index]
        if step.key_embeddings is None:
            assert step.bank is not None, "a learner without new keys needs a cache"
            return step.bank.layer(layer_index)
        assert step.key_rotary is not None
        x = step.key_embeddings
        key = rotate(self._heads(_added(self.k_proj, x, x)), step.key_rotary).transpose(1, 2)
        value = self._heads(_added(self.v_proj, x, x)).transpose(1, 2)
        return (key, value) if step.bank is None else step.bank.extend(layer_index, key, value)

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """[B, K, D] → [B, K, H, d]."""
        return states.unflatten(-1, (self.num_heads, self.head_dim))


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: LearnerStep) -> torch.Tensor:
    """query: [B, N, H, d]; key, value: [B, H, K, d]; returns [B, N, H, d]."""
    if step.eager:
        assert not isinstance(step.attention_mask, tuple), "mode `released` has no trees where attention is eager"
        return eager_attention(query.transpose(1, 2), key, value, step.attention_mask)[0].transpose(1, 2)
    if step.rows is not None:
        return attend(query[0], key.transpose(1, 2)[0], value.transpose(1, 2)[0], step.rows, query.shape[-1] ** -0.5)[None]
    if step.text_first is None:
        return _fused(query, key, value, mask=step.attention_mask, is_causal=step.is_causal)
    split = step.text_first
    ordered = take_columns(query, split.order)
    on_text = _fused(ordered[:, : split.n_text], key, value, is_causal=True)
    on_images = _fused(ordered[:, split.n_text :], key, value, mask=split.image_mask)
    return take_columns(torch.cat((on_text, on_images), dim=1), split.inverse)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: Mask | None = None, is_causal: bool = False
) -> torch.Tensor:
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        attention = nn.functional.scaled_dot_product_attention
        return attention(query, key, value, attn_mask=mask, is_causal=is_causal).transpose(1, 2)

    return by_blocks(attend, query.transpose(1, 2), key, value, mask)


def rotary_table(position_ids: torch.Tensor, head_dim: int, rope_theta: float, dtype: torch.dtype) -> Rotary:
    """The learners' own rotary table: NeoX halves, no scaling whatever the decoder uses (docs/spec/wings.md#a3-lorra).

    Args:
        position_ids: [B, K] int64.
        head_dim: d.
        rope_theta: base of the frequencies.
        dtype: of the result; it is computed in float32.

    Returns:
        cos and sin, [B, K, 1, d] each; the first half of sin is negated, as `rotate` needs it.
    """
    exponent = torch.arange(0, head_dim, 2, device=position_ids.device, dtype=torch.float32) / head_dim
    angle = position_ids[:, :, None, None].float() * (1.0 / rope_theta**exponent)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def rotate(states: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """states: [B, K, H, d]. (first, second) → (first cos − second sin, second cos + first sin)."""
    cos, sin = rotary
    return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, dims=-1), sin)


class SelfInitialised(nn.Linear):
    """A linear layer with torch's default initialisation, which transformers does not replace by the decoder's."""


class _Down(SelfInitialised):
    """A of lr(z) = B A z."""

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)


class _Up(SelfInitialised):
    """B of lr(z) = B A z."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)  # so that a fresh learner adds exactly nothing (docs/spec/wings.md#a1-parameters)

    def forward(self, low: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """onto + B low: [..., r] and [..., D] → [..., D]."""
        if not low.dtype == onto.dtype == self.weight.dtype or torch.is_autocast_enabled(low.device.type):
            return onto + super().forward(low)  # autocast would round `onto`
        return torch.addmm(onto.flatten(0, -2), low.flatten(0, -2), self.weight.t()).view_as(onto)


def _added(low_rank: nn.Sequential, states: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """onto + lr(states)."""
    added: torch.Tensor = low_rank[1](low_rank[0](states), onto)
    return added


def _low_rank(hidden_size: int, rank: int) -> nn.Sequential:
    return nn.Sequential(_Down(hidden_size, rank, bias=False), _Up(rank, hidden_size, bias=False))
