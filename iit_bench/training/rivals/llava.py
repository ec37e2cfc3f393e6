"""LLaVA-style: the tower's features go through the projector into the decoder, without learners and without a router.

Stage 1 trains the projector, stage 2 the projector and the whole LLM, which has a learning rate of its own as in Wings
(recipes lab-llava-stage1, lab-llava-stage2; shipped as `llava`).
"""

from __future__ import annotations

from typing import Any

from iit_bench.training.method import Method
from iit_bench.training.records import VlmModel
from iit_bench.training.stages import VlmRecipe


class Llava(Method):
    """No learners, no router."""

    name = "llava"

    @classmethod
    def describes(cls, recipe: VlmRecipe) -> bool:
        """Whether the recipe switches on none of Wings' parts."""
        return not (recipe.model.visual or recipe.model.textual or recipe.model.router)

    @staticmethod
    def config_fields(model: VlmModel) -> dict[str, Any]:
        """As `Method.config_fields`; `rank` is only recorded."""
        return {"learners": [], "router": False, "lora_dim": model.rank}
