"""The page's section on the blind gap: the same model with images and without."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.iit import forgetting
from iit_bench.types import PairedResult
from reports.cells import Table
from reports.entries import Entry
from reports.iit.paired import BOLD, matrix, paired_list


def blind_gap(entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(matrix, list), or None without a pair of runs."""
    gaps = _gaps(entries)
    owners = [entry for entry in entries if gaps.get(entry.name)]
    if not owners:
        return None
    caption = (
        f"Accuracy on visual targets with images minus the same model's without, in percentage points; V* pools all tiers. {BOLD} "
        "A model that never looks has no gap."
    )
    detail = "With images (A) against without (B)."
    return matrix("blind-gap", caption, owners, gaps), paired_list("blind-gap-detail", detail, "without images (B)", owners, gaps)


def _gaps(entries: Sequence[Entry]) -> dict[str, Sequence[PairedResult]]:
    """By the sighted entry's name: its differences to the first blind run of the same checkpoint that shares a V tier with it."""
    gaps: dict[str, Sequence[PairedResult]] = {}
    for entry in entries:
        digest = entry.model["checkpoint_sha256"]
        blind = [other for other in entries if other.model["blind"] and other.model["checkpoint_sha256"] == digest]
        blind = [other for other in blind if any(_answered(entry, tier) and _answered(other, tier) for tier in entry.tiers)]
        if digest and blind and not entry.model["blind"]:
            gaps[entry.name] = forgetting.blind_gap(entry.turns, blind[0].turns, blind[0].name)
    return gaps


def _answered(entry: Entry, tier: str) -> bool:
    return tier.endswith("V") and tier in entry.tiers and entry.tiers[tier].acc.value is not None
