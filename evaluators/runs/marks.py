"""What a reader of a run's figures must know of its files, in the same words wherever figures are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iit_bench.storage.runs import AnyRun

UNSEALED = "unsealed"  # badge of a run with files that no checksum covers, of an earlier version


def unsealed(runs: Iterable[AnyRun]) -> list[str]:
    """Names of the runs with files that no checksum covers, each once, in order."""
    return list(dict.fromkeys(" ".join(str(run.run["name"]).split()) for run in runs if run.unsealed))


def unsealed_note(names: Sequence[str]) -> str:
    """A sentence about such runs; "" where there are none."""
    if not names:
        return ""
    return (
        f"Unsealed: {', '.join(dict.fromkeys(names))}. These runs, as an earlier iit-bench wrote them, have files that no checksum covers, "
        "so that a change there would not be seen. Where results.json is one of them, its figures are recomputed from what the models "
        "answered."
    )
