"""What the methods that leave the LLM's own weights as they are have in common: where they start from, and a folder that peft reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.training import assets
from iit_bench.training.rivals.llava import Llava

ADAPTER = "adapter"  # not beside the model's weights: peft and transformers would add it to them again


class Adapted(Llava):
    """Starts from the folder of a LLaVA-style stage; writes an adapter in peft's format beside the model."""

    def check_start(self, config: Any) -> None:
        """Refuse a stage with learners or a prefix, and an environment without peft."""
        if config.learners or config.prefix_length:
            what = "learners" if config.learners else "a learned prefix"
            raise UserError(f"method {self.name} adapts a model without {what}, but inputs.model has some; give one of lab-llava-stage1")
        try:
            import peft  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"method {self.name} needs peft, which cannot be imported ({one_line(error)}); pip install 'iit-bench[peft]'"
            ) from error

    def fields(self) -> dict[str, Any]:
        """The options, and which weights the adapter is for."""
        base = self.base()
        return {**super().fields(), "base": {"name": base.name, "weights_sha256": assets.weights_sha256(base)}}

    def base(self) -> Path:
        """The folder that the stage starts from."""
        return assets.find(self.recipe.inputs.model, "inputs.model")

    def write(self, folder: Path, tensors: dict[str, Any], config: Any) -> None:
        """Write tensors and a peft configuration as peft does, without its model card."""
        from safetensors.torch import save_file

        (folder / ADAPTER).mkdir(exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / ADAPTER / "adapter_model.safetensors")
        config.inference_mode = True
        config.save_pretrained(folder / ADAPTER)
