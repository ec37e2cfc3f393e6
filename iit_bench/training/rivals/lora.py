"""LoRA: low-rank differences of the decoder's linear layers, and the projector, are trained; the LLM's own weights are not (peft's).

The folder has plain weights with the differences merged in, in bfloat16 as every model has, and `adapter/` in peft's format, with the
differences and the projector in float32, which peft reads onto the stage that this one started from.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from iit_bench.errors import UserError, one_line
from iit_bench.models.adapters import wrapped
from iit_bench.training.method import parameters_of
from iit_bench.training.rivals.adapted import Adapted

PROJECTOR = "mm_projector"


class Lora(Adapted):
    """W + B A · alpha / rank in place of W."""

    magnitudes = False  # DoRA's
    _adapted: Any = None

    def attach(self, model: Any) -> None:
        """Put the adapter onto the decoder's layers, as a difference of exactly 0.

        Raises:
            UserError: its decoder has other layers.
        """
        from peft import LoraConfig

        targets = "|".join(self.options.targets)
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            use_dora=self.magnitudes,
            # The whole path: learners and towers have layers of these names too.
            target_modules=rf"model\.layers\.\d+\.(self_attn|mlp)\.({targets})",
            modules_to_save=[PROJECTOR],
        )
        try:
            self._adapted = wrapped(model, config)
        except ValueError as error:
            kind = model.config.text_config.model_type
            raise UserError(
                f"method {self.name} cannot be put on a decoder of type {kind!r}: {one_line(error)}; change method.targets"
            ) from error

    def groups(self, model: Any) -> dict[str, list[nn.Parameter]]:
        """The adapter and the projector; nothing else can be trained."""
        from peft.tuners.lora import LoraLayer

        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        own: list[nn.Module | None] = [getattr(layer, name) for layer in layers for name in layer.adapter_layer_names]
        return {"projector": parameters_of([model.model.mm_projector.modules_to_save]), "adapter": parameters_of(own)}

    def finished(self, model: Any) -> Any:
        """A copy with the differences added to the weights."""
        return copy.deepcopy(self._adapted).merge_and_unload()

    def save(self, folder: Path) -> None:
        """Write the adapter as peft does."""
        from peft import get_peft_model_state_dict

        config = copy.copy(self._adapted.peft_config["default"])
        config.base_model_name_or_path = self.base().name
        self.write(folder, get_peft_model_state_dict(self._adapted, save_embedding_layers=False), config)
