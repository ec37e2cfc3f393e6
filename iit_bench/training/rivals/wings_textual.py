"""Wings with the textual learner only, which has weight 1 (recipe rival-wings-textual)."""

from __future__ import annotations

from typing import ClassVar

from iit_bench.training.rivals.wings import Wings


class WingsTextual(Wings):
    """No visual learner, so no router."""

    learners: ClassVar[tuple[str, ...]] = ("textual",)
    router: ClassVar[bool] = False
