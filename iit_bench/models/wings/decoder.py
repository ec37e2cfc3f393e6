"""The decoder's layers with learners beside the main attention (docs/spec/wings.md#a4-layer, #b5-router-weights)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from iit_bench.models.wings import attention
from iit_bench.models.wings.configuration import LEARNERS, WingsConfig
from iit_bench.models.wings.decoding import learn
from iit_bench.models.wings.lorra import LoRRA
from iit_bench.models.wings.router import Router
from iit_bench.models.wings.state import Step
from iit_bench.models.wings.vision import Projector, VisionTower


class WingsDecoderLayer(GradientCheckpointingLayer):
    """One decoder layer of transformers, its submodules taken over under their own names, with learners and router."""

    def __init__(self, config: WingsConfig, layer: Any, index: int) -> None:
        super().__init__()
        self.index = index
        self.window = window_of(config.text_config, index)
        self.self_attn: nn.Module = layer.self_attn
        self.mlp: nn.Module = layer.mlp
        self.input_layernorm: nn.Module = layer.input_layernorm
        self.post_attention_layernorm: nn.Module = layer.post_attention_layernorm
        self.scale = config.learner_scale
        carries = config.learners if index in config.layers_with_learners else ()
        shape = (config.text_config.hidden_size, config.text_config.num_attention_heads, config.lora_dim)
        self.attn_pool = LoRRA(*shape) if "visual" in carries else None
        self.attn_t_pool = LoRRA(*shape) if "textual" in carries else None
        self.reweight_module = Router(config.router_width) if carries and config.has_router else None
        self.active = config.active_learners if carries else ()

    def forward(self, hidden: torch.Tensor, step: Step) -> torch.Tensor:
        """hidden: [B, N, D]; returns [B, N, D]."""
        router = self.reweight_module
        # A cache keeps the columns of tokens before the first image too: later tokens will weigh them.
        needed = router is not None and (step.weigh or step.cache is not None)
        columns = router.columns(step.position) if router is not None and needed else None
        output, attended = self.self_attn(
            hidden_states=self.input_layernorm(hidden),
            position_embeddings=step.position_embeddings,
            attention_mask=step.masks[self.window],
            router_columns=columns,
            weigh=step.weigh,
            store=step.cache,
            explicit=step.explicit,
        )
        hidden = hidden + output
        hidden = self._learn(hidden, attended, step)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))

    def _learn(self, hidden: torch.Tensor, attended: torch.Tensor | None, step: Step) -> torch.Tensor:
        """h2 = h1 + s (ρ0 img + ρ1 txt) where both learners are visible; where one is, its weight is 1 (B.5, A.4)."""
        names = [name for name in self.active if name in step.learners]
        if not names or step.rotary is None:
            return hidden
        weights = None if len(names) < 2 else self._weigh(attended, step).to(hidden.dtype)
        if step.stacked is not None:
            return learn(step.stacked, self.index, hidden, weights, step)
        after = hidden
        for name in names:
            output = self.learner(name)(hidden, step.rotary, step.learners[name], self.index)
            place = LEARNERS.index(name)
            after = after + output if weights is None else torch.addcmul(after, weights[..., place : place + 1], output)
        return after

    def _weigh(self, attended: torch.Tensor | None, step: Step) -> torch.Tensor:
        """s ρ [B, N, 2] float32 where both learners are visible, 1 elsewhere."""
        assert attended is not None and self.reweight_module is not None
        weights = self.reweight_module(attended) * (self.scale if step.scale is None else step.scale)
        return weights if step.both is None else torch.where(step.both, weights, 1.0)

    def learner(self, name: str) -> Any:
        """The learner of that name, None where this layer has none."""
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

    def forward(self, hidden: torch.Tensor, step: Step, states: list[torch.Tensor] | None = None) -> torch.Tensor:
        """hidden: input embeddings [B, N, D]; returns the normalised last hidden states.

        `states` collects every layer's input and the result.
        """
        for layer in self.layers:
            if states is not None:
                states.append(hidden)
            hidden = layer(hidden, step)
        hidden = self.norm(hidden)
        if states is not None:
            states.append(hidden)
        return hidden


def window_of(config: PreTrainedConfig, layer: int) -> int | None:
    """The sliding window of a layer's own attention, None = all. Qwen lists its kind by layer; Mistral has one window for all."""
    window: Any = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and kinds[layer] != "sliding_attention":
        return None
    return window
