"""The decoder's layers with learners beside the main attention (docs/spec/wings.md#a4-layer, #b5-router-weights)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from iit_bench.models.wings import attention, fused_layer
from iit_bench.models.wings.columns import take_columns
from iit_bench.models.wings.configuration import LEARNERS, WingsConfig
from iit_bench.models.wings.decoding import add_learners
from iit_bench.models.wings.lorra import LoRRA
from iit_bench.models.wings.prefix import Prefix
from iit_bench.models.wings.router import Router
from iit_bench.models.wings.state import Step
from iit_bench.models.wings.vision import Projector, VisionTower


class WingsDecoderLayer(GradientCheckpointingLayer):
    """One decoder layer of transformers, its submodules under their own names, with learners and router."""

    def __init__(self, config: WingsConfig, layer: Any, index: int) -> None:
        super().__init__()
        self.index = index
        self.window = window_of(config.text_config, index)
        self.self_attn: Any = layer.self_attn
        self.mlp: nn.Module = layer.mlp
        self.input_layernorm: nn.Module = layer.input_layernorm
        self.post_attention_layernorm: nn.Module = layer.post_attention_layernorm
        self.learner_scale = config.learner_scale
        carries = config.learners if index in config.layers_with_learners else ()
        shape = (config.text_config.hidden_size, config.text_config.num_attention_heads, config.lora_dim)
        self.attn_pool = LoRRA(*shape) if "visual" in carries else None
        self.attn_t_pool = LoRRA(*shape) if "textual" in carries else None
        self.reweight_module = Router(config.router_width) if carries and config.has_router else None
        self.active_learners = config.active_learners if carries else ()
        heads = config.text_config.num_key_value_heads
        self.prefix = Prefix(heads, config.prefix_length, layer.self_attn.head_dim) if config.prefix_length else None

    def forward(self, hidden_states: torch.Tensor, step: Step) -> torch.Tensor:
        """[B, N, D] → [B, N, D]; of a step that has `read`, → the M tokens that are read, row by row, [M, D]."""
        router = self.reweight_module
        # A cache keeps the columns of tokens before the first image too: later tokens will weigh them.
        needed = router is not None and (step.use_router or step.cache is not None)
        columns = router.columns(step.position_ids) if router is not None and needed else None
        if step.cache is None and not step.eager and fused_layer.fits(self, hidden_states):
            hidden_states, router_logits = self._attend(hidden_states, columns, step)
            hidden_states = self._add_learners(hidden_states, router_logits, step)
            if step.read is not None:
                hidden_states = hidden_states[step.read.real]
            return fused_layer.feed_forward(self, hidden_states)
        output, router_logits = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states),
            position_embeddings=step.position_embeddings,
            attention_mask=step.attention_masks[self.window],
            router_columns=columns,
            use_router=step.use_router,
            key_store=step.cache,
            eager=step.eager,
            prefix=None if self.prefix is None or not step.begins else self.prefix.states(),
            read=step.read,
        )
        hidden_states = hidden_states + output
        if step.read is not None:
            hidden_states = take_columns(hidden_states, step.read.columns)  # [B, Q, D]
        hidden_states = self._add_learners(hidden_states, router_logits, step)
        if step.read is not None:
            hidden_states = hidden_states[step.read.real]
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    def _attend(
        self, hidden_states: torch.Tensor, router_columns: torch.Tensor | None, step: Step
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The residual stream after self-attention, [B, N, D] or, of a step that has `read`, [B, Q, D]; and the router's logits."""
        size = self.self_attn.head_dim
        read = None if step.read is None else step.read.columns
        states = fused_layer.queries_keys_values(
            self,
            hidden_states,
            step.position_embeddings,
            read=read,
            router_columns=router_columns,
            extra_width=0 if router_columns is None else attention.extra_width(size),
        )
        mask = step.attention_masks[self.window] if step.read is None else step.read.mask
        output, router_logits = attention.attend_widened(self.self_attn, *states, mask, step.rows)
        residual = hidden_states if read is None else take_columns(hidden_states, read)
        return fused_layer.plus_product(residual, output.flatten(2), self.self_attn.o_proj.weight), router_logits

    def _add_learners(self, hidden_states: torch.Tensor, router_logits: torch.Tensor | None, step: Step) -> torch.Tensor:
        """h2 = h1 + s (ρ0 img + ρ1 txt) where both learners are visible; where one is, its weight is 1 (B.5, A.4)."""
        names = [name for name in self.active_learners if name in step.learners]
        if not names or step.query_rotary is None:
            return hidden_states
        weighed = len(names) == 2 and self.reweight_module is not None
        weights = self._router_weights(router_logits, step).to(hidden_states.dtype) if weighed else None  # [B, N, 2]
        if step.stacked is not None:
            return add_learners(step.stacked, step, hidden_states, router_weights=weights, layer_index=self.index)
        after = hidden_states
        for name in names:
            place = LEARNERS.index(name)
            weight = None if weights is None else weights[..., place : place + 1]
            after = self.learner(name)(hidden_states, step.query_rotary, step.learners[name], self.index, onto=after, weight=weight)
        return after

    def _router_weights(self, router_logits: torch.Tensor | None, step: Step) -> torch.Tensor:
        """s ρ [B, N, 2] float32 where both learners are visible, 1 elsewhere."""
        assert router_logits is not None and self.reweight_module is not None
        weights = self.reweight_module(router_logits) * (self.learner_scale if step.learner_scale is None else step.learner_scale)
        return weights if step.sees_both is None else torch.where(step.sees_both, weights, 1.0)

    def learner(self, name: str) -> Any:
        """The learner "visual" or "textual"; None if this layer has none."""
        return {"visual": self.attn_pool, "textual": self.attn_t_pool}[name]


class WingsDecoder(nn.Module):
    """Embeddings, layers and norm of the decoder, with projector and tower beside them under the official names."""

    def __init__(self, config: WingsConfig) -> None:
        super().__init__()
        attention.register()
        # With a configuration of its own, which model.set_attn_implementation does not reach: the router needs this attention.
        base = AutoModel.from_config(copy.deepcopy(config.text_config))
        base.config._attn_implementation = attention.NAME
        self.embed_tokens = base.embed_tokens
        self.layers = nn.ModuleList(WingsDecoderLayer(config, layer, index) for index, layer in enumerate(base.layers))
        self.norm = base.norm
        self.rotary_emb = base.rotary_emb
        if config.image_token_length is not None:
            assert config.vision_hidden_size is not None, "image_token_length and vision_hidden_size are set together"
            self.mm_projector = Projector(config.vision_hidden_size, config.text_config.hidden_size)
            self.vision_tower = VisionTower(config)

    def forward(self, hidden_states: torch.Tensor, step: Step, all_hidden_states: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Normalised last hidden states: [B, N, D] input embeddings → [B, N, D], or [M, D] where `step.last` names what is read.

        `all_hidden_states` collects every layer's input and the result.
        """
        last = step if step.last is None else step.last
        for layer in self.layers:
            if all_hidden_states is not None:
                all_hidden_states.append(hidden_states)
            hidden_states = layer(hidden_states, last if layer is self.layers[-1] else step)
        hidden_states = self.norm(hidden_states)
        if all_hidden_states is not None:
            all_hidden_states.append(hidden_states)
        return hidden_states


def window_of(config: PreTrainedConfig, layer_index: int) -> int | None:
    """The sliding window of a layer's own attention in tokens, None = all. Qwen lists kinds by layer; Mistral has one window for all."""
    window: Any = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[layer_index] != "sliding_attention":
        return None
    return window
