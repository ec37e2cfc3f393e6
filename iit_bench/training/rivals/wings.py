"""Wings: a visual and a textual learner beside each layer's attention, weighed by a router (recipe lab2-wings-stage2)."""

from __future__ import annotations

from typing import Any, ClassVar

from iit_bench.errors import UserError
from iit_bench.models.wings.configuration import RELEASED_CARRIERS
from iit_bench.training.method import Method


class Wings(Method):
    """Both learners and the router; the parts of Wings in the files beside override what of these there is."""

    learners: ClassVar[tuple[str, ...]] = ("visual", "textual")
    router: ClassVar[bool] = True

    def config_fields(self) -> dict[str, Any]:
        """As `Method.config_fields`."""
        return {
            "learners": list(self.learners),
            "router": self.router,
            "lora_dim": self.options.rank,
            "learner_scale": self.options.learner_scale,
            "equal_weights": self.equal_weights,
        }

    @property
    def equal_weights(self) -> bool:
        """Whether two learners are there and each has weight 1."""
        return False

    def attach(self, model: Any) -> None:
        """As `Method.attach`: nothing to put on, as `config_fields` says it all.

        Raises:
            UserError: the decoder is none that mode `released` has, and the recipe trains in it.
        """
        kind = model.config.text_config.model_type
        if self.options.released and kind not in RELEASED_CARRIERS:
            raise UserError(
                f"method.mode released has no decoder of type {kind!r}; train one of {', '.join(RELEASED_CARRIERS)}, or in mode strict"
            )
