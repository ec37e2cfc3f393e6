"""Sizes of rows and batches on accelerators: found by growing them, and remembered per model and device.

On a CPU nothing is measured: there the sizes are fixed (`plan.BatchLimits`). What is found decides speed only, but the last digits of
scores depend on it, so a run keeps the sizes that it began with in run.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from iit_bench.engine.faults import OutOfMemory, guarded
from iit_bench.engine.plan import LONGEST_ROW, PLAN_VERSION, BatchLimits, model_identity
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import Model
from iit_bench.server_options import SERVER
from iit_bench.storage.atomic import write_atomic
from iit_bench.storage.tables import canonical_json

SMALLEST = 1024  # positions, where growth begins
LARGEST_BATCH = 2**18  # padded tokens, where it ends
GAIN = 1.05  # throughput has to grow by this factor for the double size to be taken
FILE = "sizes.json"


def cache_folder() -> Path:
    """Where sizes are remembered: `iit-bench` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iit-bench"


def found_limits(model: Model, batch_size: int | None, *, folder: Path | None = None) -> BatchLimits:
    """How a new run's requests are put together: fixed on a CPU, and where `batch_size` is given; else by remembered or measured sizes.

    Raises:
        UserError: as `BatchLimits.for_model`; or the device failed.
    """
    limits = replace(BatchLimits.for_model(model.info, batch_size, model.way), ways=dict(model.ways))
    if batch_size or model.info.device in ("cpu", SERVER):
        return limits
    path = (folder or cache_folder()) / FILE
    name = _name(model)
    size = _remembered(path).get(name)
    if size is None:
        try:
            size = grown(model.rehearse, SMALLEST, LONGEST_ROW if model.way == "tree" else LARGEST_BATCH)
        except (NotImplementedError, ItemError):
            return limits
        _remember(path, name, size)
    return replace(limits, row_tokens=size) if model.way == "tree" else replace(limits, tokens=size)


def grown(run: Callable[[int], None], smallest: int, largest: int, clock: Callable[[], float] = time.perf_counter) -> int:
    """The size up to which doubling it pays: until the memory does not suffice, or a pass of the double size is no faster per position.

    Args:
        run: a pass of a size; it has ended when it returns.
        smallest: is returned if nothing else is found.
        largest: is not exceeded.
        clock: seconds.

    Raises:
        NotImplementedError: from `run`.
        UserError: from `run`: the device failed.
    """
    size, best = smallest, 0.0
    trial = smallest
    while trial <= largest:
        try:
            guarded(lambda: run(trial))  # noqa: B023 - called at once; the first pass of a size allocates and compiles
            begin = clock()
            guarded(lambda: run(trial))  # noqa: B023
        except OutOfMemory:
            break
        except ItemError as error:
            if isinstance(error.__cause__, NotImplementedError):
                raise error.__cause__ from None
            raise
        throughput = trial / max(clock() - begin, 1e-9)
        if throughput < GAIN * best:
            break
        size, best, trial = trial, throughput, 2 * trial
    return size


def _name(model: Model) -> str:
    """What a size depends on, as sha256."""
    whole = {"model": model_identity(model.info), "device": model.device_name, "way": model.way, "version": PLAN_VERSION}
    return hashlib.sha256(canonical_json(whole).encode()).hexdigest()


def _remembered(path: Path) -> dict[str, int]:
    """Sizes by name; none where the file is damaged or cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return {name: size for name, size in found.items() if type(size) is int and SMALLEST <= size <= LARGEST_BATCH}
    return {}


def _remember(path: Path, name: str, size: int) -> None:
    with suppress(UserError):  # a cache that cannot be written costs a measurement in the next run
        write_atomic(path, json.dumps(_remembered(path) | {name: size}, indent=1, sort_keys=True))
