"""Locks of a run folder. A process that ends, or is killed, releases its locks; one that hangs keeps them.

`lock_file` and its like lock a whole file: the response log, exclusively by a single process, shared by the processes that work on one
run together. `ByteLocks` locks single bytes of an empty file: each stands for a piece of work that only one process may do at a time.
On Windows nothing is locked.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path
from typing import IO

from iit_bench.errors import UserError
from iit_bench.storage.atomic import unwritable

_HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
_FLOCK = "hhqqi0q"  # Linux's struct flock: type, whence, start, length, process


def lock_file(file: IO[bytes], path: Path) -> None:
    """Lock an open file exclusively until it is closed.

    Raises:
        UserError: another process holds the lock, or the file system has no locks.
    """
    if not try_lock(file, path):
        raise held_by_another(path)


def held_by_another(path: Path) -> UserError:
    """The error of a file that another process has locked."""
    return UserError(f"another process is writing {str(path)!r}; wait for it, or choose another --out")


def try_lock(file: IO[bytes], path: Path, *, shared: bool = False) -> bool:
    """Lock an open file, or change the lock that is held; returns whether it is locked now.

    Raises:
        UserError: the file system has no locks.
    """
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise _no_locks(path, error) from error
    return True


def unlock(file: IO[bytes]) -> None:
    """Release the lock of an open file."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


class ByteLocks:
    """Locks by number. Of one process only one object may be open per file: closing any releases the locks of all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise unwritable(path, error) from error

    def take(self, number: int, *, wait: bool = False) -> bool:
        """Take a lock (0 ≤ number < 2**62); returns whether this process has it now. With `wait`, waits until it has.

        Raises:
            UserError: the file system has no locks.
        """
        if os.name != "posix":
            return True
        import fcntl

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise _no_locks(self.path, error) from error
        return True

    def is_held(self, number: int) -> bool:
        """Whether another process has a lock. On Linux it is asked for only, so that nobody who wants the lock meanwhile is refused."""
        if sys.platform == "linux":
            import fcntl

            free = fcntl.fcntl(self._file, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
            return bool(struct.unpack(_FLOCK, free)[0] != fcntl.F_UNLCK)
        if not self.take(number):
            return True
        self.release(number)
        return False

    def release(self, number: int) -> None:
        """Release a lock."""
        if os.name == "posix":
            import fcntl

            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def close(self) -> None:
        """Release all locks."""
        self._file.close()


def _no_locks(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot lock {str(path)!r} ({error.strerror}): its file system has no file locks; mount it with locks (of Lustre: -o flock), or "
        "choose an --out on another"
    )
