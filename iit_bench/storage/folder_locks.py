"""Locks of output folders: one process writes to a folder at a time; the error of a second one names the first.

The lock is of an empty file beside the folder, or in it, that holds who has it, and goes when it is released. The system releases the lock
of a process that ends, however it ends. Run folders have it too; the processes that work together on one run share it.
On Windows nothing is locked.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from iit_bench.errors import UserError
from iit_bench.storage.atomic import unwritable
from iit_bench.storage.litter import remove_litter_in, remove_litter_of
from iit_bench.storage.locks import try_lock

LOCK = ".lock"  # its name in a folder; beside one it is `.NAME.lock`
_TRIES, _PAUSE = 25, 0.02  # seconds between two looks at who has a lock: its name is written a moment after it is taken
_LONGEST = 4096  # bytes of a note that are read
_MINE: set[tuple[int, int, Path]] = set()  # process, thread, lock: a function that holds a folder may call another that does
_OPEN: set[IO[bytes]] = set()


@contextmanager
def holding(out: Path, *, beside: bool = False, shared: bool = False, fix: str = "choose another --out") -> Iterator[None]:
    """Hold the lock of an output folder; what killed processes have left unfinished of it is removed first.

    The folder, or with `beside` the one above it, is made if it is not there, and removed if it is empty afterwards.

    Args:
        out: the folder; with `beside` also a file.
        beside: the lock lies beside `out`, which is replaced as a whole.
        shared: with others that share it.
        fix: what to do besides waiting, the end of the error's sentence.

    Raises:
        UserError: another process holds it, which the sentence names; or it cannot be written.
    """
    path = _path(out, beside)
    mine = _mine(path)
    if mine in _MINE:
        yield
        return
    made = _make(path.parent)
    try:
        file = _taken(path, out, shared, fix)
        _MINE.add(mine)
        _OPEN.add(file)
        try:
            if beside:
                remove_litter_of(out, locked=True)
            elif not shared:
                remove_litter_in(out)
            yield
        finally:
            _MINE.discard(mine)
            _OPEN.discard(file)
            _release(file, path, shared)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def refuse_if_held(out: Path, fix: str = "choose another --out") -> None:
    """Refuse a folder in which another process is working.

    Raises:
        UserError: names the process.
    """
    path = _path(out, beside=False)
    if _mine(path) in _MINE:
        return
    with contextlib.suppress(OSError), path.open("rb") as file:
        if not try_lock(file, path, shared=True):
            raise held(path, out, fix)


def tidy_after_killed(out: Path, *, beside: bool = False) -> None:
    """Remove a lock's file whose process was killed, and what it left unfinished; nothing while a process holds the lock."""
    if os.path.lexists(_path(out, beside)):
        with contextlib.suppress(UserError), holding(out, beside=beside):
            pass


def held(lock: Path, out: Path, fix: str) -> UserError:
    """The error of a folder whose lock another process holds."""
    who = holder_in_words(lock)
    return UserError(f"another process is writing {str(out)!r}{f' ({who})' if who else ''}; wait for it, or {fix}")


def holder_in_words(lock: Path) -> str:
    """Who holds a lock, as its file says: "process 12 on host, since 2026-11-30 07:50 UTC"; "" if it does not."""
    for _ in range(_TRIES):
        try:
            with lock.open("rb") as file:
                note = json.loads(file.read(_LONGEST))
            pid, host, since = int(note["pid"]), str(note["host"])[:80], str(note["since"])[:20]
            return f"process {pid} on {host}, since {since} UTC"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            if not lock.is_file():
                return ""
            time.sleep(_PAUSE)
    return ""


def this_process() -> dict[str, int | str]:
    """Who this process is, as the file of a lock says it for `holder_in_words`."""
    return {"pid": os.getpid(), "host": platform.node(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}


def _path(out: Path, beside: bool) -> Path:
    return out.with_name(f".{out.name}{LOCK}") if beside else out / LOCK


def _mine(path: Path) -> tuple[int, int, Path]:
    return os.getpid(), threading.get_ident(), path.parent.resolve() / path.name


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; returns those that were made, deepest first."""
    missing = []
    for one in (folder, *folder.parents):
        if os.path.lexists(one):
            break
        missing.append(one)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return missing


def _taken(path: Path, out: Path, shared: bool, fix: str) -> IO[bytes]:
    """Open and lock the file; one that its holder removes meanwhile is made anew.

    The last of those that share it has it alone for the moment in which it removes it: who shares it waits for that.
    """
    tries = 0
    while True:
        try:  # no link is followed: in a folder of several users it could lead to any file
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            locked = try_lock(file, path, shared=shared)
            if _is_there(file, path):
                if locked:
                    _note(file, keep=shared)
                    return file
                if not shared or tries >= _TRIES:
                    raise held(path, out, fix)
                tries += 1
                time.sleep(_PAUSE)
        except BaseException:
            file.close()
            raise
        file.close()


def _is_there(file: IO[bytes], path: Path) -> bool:
    """Whether the open file still has its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


def _note(file: IO[bytes], keep: bool) -> None:
    """Write who this is; of those that share a lock the first does."""
    if keep and os.fstat(file.fileno()).st_size:
        return
    with contextlib.suppress(OSError):  # a full disk: the lock itself holds
        file.truncate(0)
        file.write(json.dumps(this_process()).encode())


def _release(file: IO[bytes], path: Path, shared: bool) -> None:
    """Release the lock, and remove its file unless others share it."""
    with file, contextlib.suppress(OSError, UserError):
        if (not shared or try_lock(file, path)) and _is_there(file, path):
            path.unlink()


def _forget() -> None:
    """In a forked process: it holds no lock, and does not keep one that its parent had when it was killed."""
    for file in _OPEN:
        with contextlib.suppress(OSError):
            file.close()
    _OPEN.clear()
    _MINE.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)
