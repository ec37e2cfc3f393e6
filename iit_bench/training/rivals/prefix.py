"""Prefix tuning: keys and values before every row, in every layer, and the projector are trained; the LLM's own weights are not.

A prefix acts as a text before everything: the first token of a row has the position behind it, as under peft. It begins as the keys and
values of random tokens (arXiv 2101.00190 begins with those of real words), because any other numbers would take attention to what no
text looks like: peft's own start, keys and values of 0, takes as much of it as a text does.

The folder has the prefix among its plain weights, in bfloat16 as all of them, and `adapter/` in peft's format in float32, which peft
reads onto the LLM by itself. peft saves no other modules beside a prefix, so the projector is in the plain weights only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from iit_bench.errors import UserError
from iit_bench.training.method import groups_of
from iit_bench.training.rivals.adapted import Adapted


class Prefix(Adapted):
    """Learned keys and values (`models.wings.prefix`)."""

    _model: Any = None

    def config_fields(self) -> dict[str, Any]:
        """As of `llava`, with the prefix."""
        return {**super().config_fields(), "prefix_length": self.options.length}

    def check_start(self, config: Any) -> None:
        """As of every adapter; and refuse a prefix that fills the context."""
        super().check_start(config)
        if self.options.length >= (context := config.text_config.max_position_embeddings):
            raise UserError(
                f"recipe key method.length: a prefix of {self.options.length} leaves no room in a context of {context} tokens; lower it"
            )

    def attach(self, model: Any) -> None:
        """Nothing: the configuration says it."""
        self._model = model

    @torch.no_grad()
    def begin(self, model: Any) -> None:
        """Put the keys and values of random tokens into the prefix."""
        from iit_bench.models.wings.cache import WingsCache
        from iit_bench.models.wings.prefix import begun

        vocabulary, length = model.config.text_config.vocab_size, self.options.length
        ids = torch.randint(vocabulary, (1, length))
        ids[ids == model.config.image_token_id] = 0
        cache = WingsCache()
        cache.row_state = begun(1, 0, ids.device)  # rows that have begun without a prefix
        model.eval()(ids, past_key_values=cache, logits_to_keep=1)
        layers: list[Any] = cache.layers
        for layer, states in zip(model.model.layers, layers, strict=True):
            layer.prefix.weight.copy_(torch.cat(states.layer_tensors))

    def groups(self, model: Any) -> dict[str, list[nn.Parameter]]:
        """The prefix and the projector; nothing else can be trained."""
        groups = groups_of(model)
        return {name: groups[name] for name in ("projector", "adapter")}

    def save(self, folder: Path) -> None:
        """Write the prefix as peft does: a row per key, of it the keys and values of all layers."""
        from peft import PrefixTuningConfig

        weights = torch.cat([layer.prefix.weight.detach() for layer in self._model.model.layers])  # [2 L, H_kv, P, d]
        twice_layers, heads, length, size = weights.shape
        config = PrefixTuningConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.base().name,
            num_virtual_tokens=length,
            num_layers=twice_layers // 2,
            num_attention_heads=heads,
            token_dim=heads * size,
            num_transformer_submodules=1,
        )
        self.write(folder, {"prompt_embeddings": weights.permute(2, 0, 1, 3).flatten(1)}, config)
