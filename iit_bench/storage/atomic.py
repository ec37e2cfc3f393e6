"""Writes files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from iit_bench.errors import UserError
from iit_bench.storage.litter import remove_litter_of, unfinished

Content = bytes | str | Callable[[BinaryIO], None]  # of a file; a function writes it piece by piece


def write_atomic(path: Path, data: Content, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old file or the new one, never a part of it.

    Args:
        path: of the file; folders above it are made.
        data: its content.
        durable: wait until the disk has it. False is for one of very many files that are of use only with another, which is written
            later with their checksums: a power cut may leave it empty, a killed process or a full disk never.

    Raises:
        UserError: no space, or no permission.
    """
    partial = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        discard(partial)
        raise unwritable(path, error) from error
    except BaseException:
        discard(partial)
        raise


def check_writable(path: Path, *, beside: bool = False) -> None:
    """Check that a file or folder `path` can be written, before hours of work, not after; nothing is left behind.

    A probe file is written into it, or into the nearest folder above it that exists, with `beside` always into one above. What killed
    processes have left of writing `path` is removed.

    Raises:
        UserError: nothing can be written there.
    """
    place = path if os.path.isdir(path) and not beside else _nearest(path)
    probe = unfinished(place / (path.name or "out"))
    remove_litter_of(path)
    try:
        probe.write_bytes(b"iit-bench")
        probe.unlink(missing_ok=True)
    except OSError as error:
        discard(probe)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a file or folder that could not be written, with what is wrong with the place, and advice that fits."""
    what, why = f"cannot write {str(path)!r}", error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"{what}: {why}; choose a shorter name")
    if error.errno in _FULL or error.errno in _FAILING:
        return UserError(f"{what}: {why}; {fix_for(error)} or choose another folder")
    place = path if os.path.isdir(path) or error.errno == errno.EEXIST else _nearest(path)
    if not place.is_dir():
        return UserError(f"{what}: {str(place)!r} is a file, not a folder; choose another folder")
    fix = fix_for(error) if error.errno == errno.EROFS else "change that one's permissions"
    return UserError(f"{what}: no file can be made in {str(place)!r} ({why}); choose another folder, or {fix}")


def fix_for(error: BaseException) -> str:
    """What to do about a file that could be opened and then not be written, e.g. "free some space": by the number of the error."""
    number = _errno(error)
    if number in _FULL:
        return "free some space"
    if number in _FAILING:
        return "check its disk, or the connection to it,"
    if number == errno.EROFS:
        return "mount its file system so that it can be written"
    return "change its permissions" if number in (errno.EACCES, errno.EPERM) else "check its folder"


def full_or_read_only(error: BaseException) -> UserError | None:
    """The error for what a library could not write, anywhere in a chain of errors; None where the disk is not what was wrong."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        if isinstance(one, FileNotFoundError) and str(one.strerror).startswith(_NO_TEMPORARY):
            return UserError(
                "no folder for temporary files can be written (TMPDIR, /tmp, /var/tmp); free some space there, or set TMPDIR to another "
                "folder, and repeat the command"
            )
        if _errno(one) in (*_FULL, errno.EROFS):
            name = getattr(one, "filename", None)
            what = f"cannot write {os.fsdecode(name)!r}" if isinstance(name, (str, bytes, os.PathLike)) else "a file cannot be written"
            return UserError(f"{what}: {os.strerror(_errno(one) or 0)}; {fix_for(one)} and repeat the command")
        one = one.__cause__ or one.__context__
    return None


_NO_TEMPORARY = "No usable temporary directory"  # what tempfile says as torch and others are imported, where all of these disks are full
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILING = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)


def _errno(error: BaseException) -> int | None:
    """The system's number of an error; safetensors has it only in its message, as Rust writes errors of the system."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _nearest(path: Path) -> Path:
    """The nearest file or folder above `path` that exists."""
    above = path.absolute().parents
    return next((folder for folder in above if os.path.exists(folder)), above[-1])  # unlike Path.exists, never raises


def discard(path: Path) -> None:
    """Remove a partly written file or folder, if it exists. Errors are ignored: the caller raises the one that led here."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
