"""LoRA: low-rank differences of the decoder's linear layers, and the projector, are trained; the LLM's own weights are not (peft's).

The folder has plain weights with the differences merged in, in bfloat16 as every model has, and `adapter/` in peft's format, with the
differences and the projector in float32, which peft reads onto the stage that this one started from.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from iit_bench.errors import UserError, one_line
from iit_bench.training import assets
from iit_bench.training.method import parameters_of
from iit_bench.training.rivals.llava import Llava

ADAPTER = "adapter"  # not beside the merged weights: peft and transformers would add it to them again
PROJECTOR = "mm_projector"


class Lora(Llava):
    """Starts from the folder of a LLaVA-style stage."""

    magnitudes = False  # DoRA's
    _adapted: Any = None

    def attach(self, model: Any) -> None:
        """Put the adapter onto the decoder's layers, as a difference of exactly 0.

        Raises:
            UserError: peft is missing, the stage starts from no folder, from one with learners, or its decoder has other layers.
        """
        try:
            from peft import LoraConfig, PeftModel
        except ImportError as error:
            raise UserError(
                f"method {self.name} needs peft, which cannot be imported ({one_line(error)}); pip install 'iit-bench[peft]'"
            ) from error
        counted = any(parameter.is_meta for parameter in model.parameters())  # in a chain's dry run its folder is not there yet
        base = Path(self.recipe.inputs.model) if counted and self.recipe.inputs.model else self._base()
        config_file = base / "config.json"
        if (not counted or config_file.is_file()) and json.loads(config_file.read_text(encoding="utf-8")).get("learners"):
            raise UserError(f"method {self.name} adapts a model without learners, but inputs.model has some; give one of lab-llava-stage1")
        targets = "|".join(self.options.targets)
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            use_dora=self.magnitudes,
            # The whole path: learners and towers have layers of these names too.
            target_modules=rf"model\.layers\.\d+\.(self_attn|mlp)\.({targets})",
            modules_to_save=[PROJECTOR],
            base_model_name_or_path=base.name,
        )
        try:
            self._adapted = PeftModel(model, config, autocast_adapter_dtype=False)
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

    def fields(self) -> dict[str, Any]:
        """The options, and which weights the adapter is a difference to."""
        base = self._base()
        sha256 = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
        return {**super().fields(), "base": {"name": base.name, "weights_sha256": sha256}}

    def finished(self, model: Any) -> Any:
        """A copy with the differences added to the weights."""
        return copy.deepcopy(self._adapted).merge_and_unload()

    def save(self, folder: Path) -> None:
        """Write the adapter as peft does, without its model card."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        (folder / ADAPTER).mkdir(exist_ok=True)
        weights = get_peft_model_state_dict(self._adapted, save_embedding_layers=False)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / ADAPTER / "adapter_model.safetensors")
        config = copy.copy(self._adapted.peft_config["default"])
        config.inference_mode = True
        config.save_pretrained(folder / ADAPTER)

    def _base(self) -> Path:
        """The folder that the stage starts from."""
        if not self.recipe.inputs.model:
            raise UserError(
                f"method {self.name} adapts an earlier stage's model; name its folder in inputs.model, e.g. that of lab-llava-stage1"
            )
        return assets.find(self.recipe.inputs.model, "inputs.model")
