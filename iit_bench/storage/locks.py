"""The lock of a run folder: two processes never write into the same one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from iit_bench.errors import UserError


def lock_file(file: IO[bytes], path: Path) -> None:
    """Lock an open file until it is closed; a process that ends, or is killed, releases its locks.

    The lock of a run folder is held on its responses.jsonl. On Windows nothing is locked.

    Raises:
        UserError: another process holds the lock.
    """
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"another process is writing {str(path)!r}; wait for it or choose another --out") from error
