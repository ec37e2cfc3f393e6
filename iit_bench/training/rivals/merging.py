"""Weight averaging with the base (model merging): after training, the LLM's weights are moved back towards those it started from.

A recipe of kind `merge` makes a folder of its own, base + alpha · (tuned − base) over the LLM's weights; projector, tower and all else that
the tuned model has stay as they are. Nothing is trained, so one training serves many values of alpha.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from iit_bench.errors import UserError
from iit_bench.models.checkpoint_check import refused
from iit_bench.models.checkpoints import load_whole
from iit_bench.training import assets, start
from iit_bench.training.features import Features
from iit_bench.training.records import VlmInputs
from iit_bench.training.stages import MergeRecipe
from iit_bench.training.vlm import VlmTask, save_vlm


class MergeTask(VlmTask):
    """The average, scored and saved as a trained model is."""

    def __init__(self, recipe: MergeRecipe) -> None:
        self.recipe: Any = recipe
        self._kept = Features(recipe.run.features << 20)
        tuned, base = self._folders()
        self.module, self.tokenizer = start.load(tuned)
        average(self.module, _weights(base), recipe.alpha)

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and processor."""
        save_vlm(self.module, self.tokenizer, folder)

    def card(self) -> dict[str, Any]:
        """What was averaged."""
        of = {name: _provenance(folder) for name, folder in zip(("model", "llm"), self._folders(), strict=True)}
        return {"merge": {"alpha": self.recipe.alpha, **of}}

    def _folders(self) -> tuple[Path, Path]:
        inputs = self.recipe.inputs
        check_inputs(inputs)
        return assets.find(inputs.model, "inputs.model"), assets.find(inputs.llm, "inputs.llm")


def check_inputs(inputs: VlmInputs) -> None:
    """Refuse a merge whose recipe does not name both models.

    Raises:
        UserError: with the missing key.
    """
    for name, value in (("model", inputs.model), ("llm", inputs.llm)):
        if not value:
            raise UserError(f"recipe: a merge needs inputs.model, a trained folder, and inputs.llm, its base; {name} is missing")


def check_base(own: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> None:
    """Refuse a base that is another LLM.

    Args:
        own: tensors of the multimodal model, by name.
        base: those of the base.

    Raises:
        UserError: one of the base's is not among the model's, or of another shape.
    """
    if wrong := [name for name, tensor in base.items() if name not in own or own[name].shape != tensor.shape]:
        raise UserError(
            f"inputs.llm is not the LLM of inputs.model: {wrong[0]} is not there, or of another shape; name the base it was tuned from"
        )


def average(model: Any, base: dict[str, torch.Tensor], alpha: float) -> None:
    """Put base + alpha (tuned − base) in the place of a multimodal model's LLM, in float32.

    Args:
        model: with the tuned LLM; changed.
        base: the LLM's weights by name.
        alpha: share of the tuned weights: 0 = the base's, 1 = unchanged.

    Raises:
        UserError: the base is another LLM.
    """
    own = model.state_dict()
    check_base(own, base)
    merged = {name: torch.lerp(tensor.float(), own[name].float(), alpha) for name, tensor in base.items()}
    model.load_state_dict(merged, strict=False)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    with refused(f"recipe key inputs.llm: {folder} cannot be loaded"):
        return dict(load_whole(AutoModelForCausalLM, folder, dtype=torch.float32, **start.ONLY_SAFETENSORS).state_dict())


def _provenance(folder: Path) -> dict[str, str]:
    return {"name": folder.name, "weights_sha256": assets.weights_sha256(folder)}
