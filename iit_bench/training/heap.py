"""Memory that a pass frees stays with the process, because the next pass takes as much again.

glibc returns the free end of its heap to the system, a page of which costs a fault when it is taken again: up to 12,000 faults in a step of
the nano Wings, a twentieth of its time.
"""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt (malloc.h). Setting one ends the adjustment of both.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
KEPT = 1 << 30  # bytes of the heap's free end that are not returned
LARGE = 32 << 20  # bytes from which a block has pages of its own, which are returned; glibc's own adjustment ends here too


def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT` bytes that it has freed; False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have no mallopt, Windows has no library without a name
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGE) and mallopt(_TRIM_THRESHOLD, KEPT))
