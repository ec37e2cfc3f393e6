"""Wings' own way to make a multimodal model of a decoder and a tower, and the hooks that its rivals override (see `rivals`)."""

from __future__ import annotations

from typing import Any

from iit_bench.training.records import VlmModel
from iit_bench.training.stages import VlmRecipe


class Method:
    """Wings: visual and textual learners beside the attention, and a router, as the recipe's `model` switches them on."""

    name = "wings"

    @classmethod
    def describes(cls, recipe: VlmRecipe) -> bool:
        """Whether a recipe trains by this method."""
        return True

    @staticmethod
    def config_fields(model: VlmModel) -> dict[str, Any]:
        """The fields of `WingsConfig` that the method decides."""
        learners = [name for name, wanted in (("visual", model.visual), ("textual", model.textual)) if wanted]
        return {"learners": learners, "router": model.router, "lora_dim": model.rank}
