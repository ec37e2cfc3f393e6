"""What an exception that a model raises means: an error of this item, too little memory, or the end of the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from iit_bench.errors import ItemError, MachineError, UserError, one_line

Answer = TypeVar("Answer")
FIRST = 10  # items: if so many finish and all fail with one type of exception, it is no item's fault


class ItemFault(ItemError):
    """An item for which a processor or model raised an exception of its own. `__cause__` is that exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__, one_line(error))
        self.__cause__ = error


class OutOfMemory(MachineError):
    """The memory of the device or the machine did not suffice for a batch; it may for a smaller one."""

    def __init__(self) -> None:
        super().__init__("out of memory", "one request alone does not fit; use a smaller model or dtype")


def guarded(call: Callable[[], Answer]) -> Answer:
    """Call a model. Errors that libraries raise about an input become the item's.

    Raises:
        ItemFault: an exception of a processor or model.
        OutOfMemory: too little memory.
        UserError: the accelerator failed; what it computes afterwards would fail too.
    """
    try:
        return call()
    except (ItemError, MachineError, UserError, OSError):  # OSError: disks and networks
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            raise OutOfMemory() from error
        if _is_of_accelerator(error):
            raise UserError(f"the device failed ({one_line(error)}); answers so far are kept, repeat the command to resume") from error
        raise ItemFault(error) from error


class FirstItems:
    """Watches whether the first items that finish all fail with one type of exception."""

    def __init__(self) -> None:
        self._type = ""
        self._failed: int | None = 0  # None: an item was answered, or failed in another way

    def answered(self) -> None:
        """An item has an answer, or an error of its own."""
        self._failed = None

    def failed(self, error: ItemError) -> None:
        """An item has failed.

        Raises:
            UserError: so have all of the first items, in the same way.
        """
        if self._failed is None or not isinstance(error, ItemFault) or (self._failed and error.reason != self._type):
            self._failed = None
            return
        self._type, self._failed = error.reason, self._failed + 1
        if self._failed == FIRST:
            raise UserError(
                f"the first {FIRST} items all failed with {error.reason} ({error.detail}), so the model cannot be asked like this; "
                "repeat the command with --debug to see where"
            ) from error.__cause__


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the second: PyTorch's allocator on CPUs
        return True
    return _is_of_torch(error, "OutOfMemoryError")


def _is_of_accelerator(error: Exception) -> bool:
    started = str(error).startswith(("CUDA error", "CUDA driver error", "HIP error", "NCCL"))
    return isinstance(error, RuntimeError) and (started or _is_of_torch(error, "AcceleratorError"))


def _is_of_torch(error: Exception, name: str) -> bool:
    torch = sys.modules.get("torch")  # only loaded models raise its errors, so the engine need not import it
    kind = getattr(torch, name, None)
    return kind is not None and isinstance(error, kind)
