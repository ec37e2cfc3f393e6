"""LLaVA-style: the tower's features go through the projector into the decoder, without learners and without a router.

Stage 1 trains the projector, stage 2 the projector and the whole LLM, which has a learning rate of its own as in Wings
(recipes lab-llava-stage1, lab-llava-stage2; shipped as `llava`).
"""

from __future__ import annotations

from typing import Any

from iit_bench.training.method import Method


class Llava(Method):
    """No learners, no router."""

    def config_fields(self) -> dict[str, Any]:
        """As `Method.config_fields`; the rank is only recorded."""
        return {"learners": [], "router": False, "lora_dim": self.recipe.model.rank, "equal_weights": False}
