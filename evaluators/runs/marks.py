"""What a reader of a run's figures must know of its files, in the same words wherever figures are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from iit_bench.storage.runs import AnyRun, load_run

UNSEALED = "unsealed"  # badge of a run with files that no checksum covers, of an earlier version


def unsealed(runs: Iterable[AnyRun]) -> list[str]:
    """Names of the runs with files that no checksum covers, each once, in order."""
    return list(dict.fromkeys(" ".join(str(run.run["name"]).split()) for run in runs if run.unsealed))


def unsealed_at(folder: Path) -> list[str]:
    """The same of a run folder that an evaluation has just written, and of the base whose figures it took."""
    run: AnyRun = load_run(folder)
    base = run.run["arguments"].get("base")
    return unsealed([run, *([load_run(base)] if base and run.run["suite"] == "iit" else [])])


def unsealed_note(names: Sequence[str]) -> str:
    """A sentence about such runs; "" where there are none."""
    if not names:
        return ""
    return (
        f"Unsealed: {', '.join(dict.fromkeys(names))}. These runs, as an earlier iit-bench wrote them, have files that no checksum covers, "
        "or answers in their log, so that a change there would not be seen. Where results.json is one of them, its figures are recomputed "
        "from what the models answered. A run that was stopped while it wrote its last file is sealed once its command is repeated."
    )
