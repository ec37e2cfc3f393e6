"""The most memory that a training's steps take, measured: of a GPU what torch allocated there, of a CPU what the process held on Linux."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The highest memory since it was last taken. What was freed before it begins does not count; on a CPU what is imported does."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen = device, 0
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # the C library of another system
            ctypes.CDLL(None).malloc_trim(0)
        self._known = self._reset()

    def take(self) -> dict[str, int]:
        """`peak_memory` in bytes since the last time, as the log has it; nothing where it cannot be measured."""
        most = max(self._seen, self._now())
        self._seen, self._known = 0, self._known and self._reset()
        return {"peak_memory": most} if self._known else {}

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Around what is no step: scores, checkpoints."""
        self._seen = max(self._seen, self._now())
        yield
        self._known = self._known and self._reset()

    def _now(self) -> int:
        if not self._known:
            return 0
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def _reset(self) -> bool:
        """Let the highest be what there is now; False where that is not possible."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return True
        try:
            RESET.write_text("5", encoding="ascii")
        except OSError:  # another system than Linux, or a process that may not
            return False
        return self._device.type == "cpu"
