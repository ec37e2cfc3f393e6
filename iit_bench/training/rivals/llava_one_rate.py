"""LLaVA-style as LLaVA itself is tuned: in stage 2 the projector and the LLM have one learning rate.

Stage 1 is that of `llava` (recipe lab-llava-one-rate; shipped as `llava-one-rate`).
"""

from __future__ import annotations

from iit_bench.training.rivals.llava import Llava
from iit_bench.training.stages import VlmRecipe


class LlavaOneRate(Llava):
    """One learning rate for projector and LLM."""

    name = "llava-one-rate"

    @classmethod
    def describes(cls, recipe: VlmRecipe) -> bool:
        """Whether the recipe is LLaVA-style and its two rates are equal."""
        return super().describes(recipe) and recipe.optim.lr.llm == recipe.optim.lr.projector
