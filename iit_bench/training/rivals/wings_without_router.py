"""Wings with both learners and no router: each has weight 1 (recipe rival-wings-without-router)."""

from __future__ import annotations

from typing import ClassVar

from iit_bench.training.rivals.wings import Wings


class WingsWithoutRouter(Wings):
    """As with a router that weighs both alike, at scale 2."""

    router: ClassVar[bool] = False

    @property
    def equal_weights(self) -> bool:
        """Yes where the method is named; a recipe's `model` with two learners and no router is stage 1 of the released recipe."""
        return bool(self.recipe.method.name)
