"""Writes folders whole or not at all: benchmarks, exports. A new folder is made beside OUT, under its lock, and changes places with it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.progress import notice
from iit_bench.storage.atomic import Content, check_writable, discard, unwritable, write_atomic
from iit_bench.storage.folder_locks import holding, tidy_after_killed
from iit_bench.storage.litter import remove_whole, replaced_by_killed, unfinished

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextmanager
def reserved(out: Path, folder_format: str, overwrite: bool = False) -> Iterator[Path]:
    """Hold the lock of a folder that `save_folder` is going to write, from before the work that makes its files; yields its real path.

    Where a process was killed between moving the old folder aside and the new one into its place, the old one is moved back.

    Args:
        folder_format: format in the manifest of a folder that may be replaced, e.g. "iit-bench/benchmark".

    Raises:
        UserError: another process writes it; see `check_target`.
    """
    real = Path(os.path.realpath(out))
    try:
        check_target(out, folder_format, overwrite)
    except UserError:  # a process killed when the folder was whole has left its lock, which nobody else would take
        tidy_after_killed(real, beside=True)
        raise
    out = real
    with holding(out, beside=True):
        if not os.path.lexists(out) and (aside := replaced_by_killed(out)):
            try:
                os.replace(aside[0], out)
            except OSError as error:
                raise unwritable(out, error) from error
            notice(f"{str(out)!r} was being replaced when a process was killed; it is what it was before")
        check_target(out, folder_format, overwrite)
        yield out


def save_folder(out: Path, files: Iterable[tuple[str, Content]], folder_format: str, overwrite: bool = False) -> Path:
    """Write a folder whole or not at all, and return its path.

    Args:
        files: (path in the folder, content), the manifest among them; an iterator may make each file when it is written.
        folder_format: format in the manifest of a folder that may be replaced, e.g. "iit-bench/benchmark".

    Raises:
        UserError: see `reserved`.
    """
    with reserved(out, folder_format, overwrite) as real:
        partial = unfinished(real)
        try:
            for name, data in files:
                write_atomic(partial / name, data)
            _put(partial, real)
        except BaseException as error:
            discard(partial)
            if isinstance(error, OSError):
                raise unwritable(out, error) from error
            raise
        discard(partial)  # where the old folder is now
    return out


def _put(new: Path, out: Path) -> None:
    """Make a folder the one at `out`. What was there is at `new` afterwards, or gone."""
    if not os.path.lexists(out):
        os.replace(new, out)
        return
    if exchange(new, out):
        return
    aside = new.with_suffix(".replaced")
    os.replace(out, aside)  # a process killed here leaves nothing at `out`: `reserved` moves the old folder back
    try:
        os.replace(new, out)
    except BaseException:
        os.replace(aside, out)
        raise
    remove_whole(aside)  # a half of it would be moved back as if it were whole


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; returns whether the system could."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if function is None:
        return False
    if function(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def check_target(out: Path, folder_format: str, overwrite: bool = False) -> None:
    """Check that `save_folder` can write `out` and would destroy nothing there that it may not replace.

    Args:
        folder_format: format in the manifest of a folder that may be replaced, e.g. "iit-bench/benchmark".

    Raises:
        UserError: `out` is a file or the current folder, holds other files, holds such a folder and `overwrite` is false, or cannot be
            written.
    """
    name = folder_format.rpartition("/")[2]
    noun = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file, not a folder; choose another --out")
    if out.is_dir():
        if Path(os.path.realpath(out)) in (here := Path.cwd(), *here.parents):
            raise UserError(f"--out {str(out)!r} is the folder you are in, which cannot be replaced; choose a new folder for --out")
        if any(out.iterdir()):
            if _format_of(out) != folder_format:
                raise UserError(f"{str(out)!r} holds files that are not {noun}; choose an empty or new folder for --out")
            if not overwrite:
                raise UserError(f"{str(out)!r} already holds {noun}; add --overwrite to replace it or choose another --out")
    check_writable(Path(os.path.realpath(out)), beside=True)  # the folder is made there, and moved


def _format_of(folder: Path) -> str | None:
    """The format in a folder's manifest; None if there is no such manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest.get("format") if isinstance(manifest, dict) else None
