"""The page's section on the interleaving effect: what a history changes for the same targets."""

from __future__ import annotations

from collections.abc import Sequence

from reports.cells import Table
from reports.entries import Entry
from reports.iit.paired import BOLD, matrix, paired_list


def interleaving(entries: Sequence[Entry]) -> tuple[Table, Table] | None:
    """(matrix, list), or None where no tier has a history."""
    effects = {entry.name: entry.run.results.interleaving for entry in entries}
    owners = [entry for entry in entries if effects[entry.name]]
    if not owners:
        return None
    caption = f"Accuracy with the history minus accuracy on the same targets without it, in percentage points. {BOLD}"
    detail = "Every tier (A) against its targets without history (B)."
    return matrix("interleaving", caption, owners, effects), paired_list("interleaving-detail", detail, "against (B)", owners, effects)
