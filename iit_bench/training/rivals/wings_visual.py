"""Wings with the visual learner only, which has weight 1 (recipe rival-wings-visual); stage 1 of Wings is this too."""

from __future__ import annotations

from typing import ClassVar

from iit_bench.training.rivals.wings import Wings


class WingsVisual(Wings):
    """No textual learner, so no router."""

    learners: ClassVar[tuple[str, ...]] = ("visual",)
    router: ClassVar[bool] = False
