"""Writes files and folders whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from iit_bench.errors import UserError

Content = bytes | str | Callable[[BinaryIO], None]  # of a file; a function writes it piece by piece


def write_atomic(path: Path, data: Content) -> None:
    """Write a file so that a reader sees the old file or the new one, never a part of it.

    Raises:
        UserError: no space, or no permission.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        _discard(partial)
        raise unwritable(path, error) from error
    except BaseException:
        _discard(partial)
        raise


def save_folder(out: Path, files: Iterable[tuple[str, Content]], folder_format: str, overwrite: bool = False) -> Path:
    """Write a folder whole or not at all, and return its path.

    Args:
        files: (path in the folder, content), the manifest among them; an iterator may make each file when it is written.
        folder_format: format in the manifest of a folder that may be replaced, e.g. "iit-bench/benchmark".

    Raises:
        UserError: see `check_target`.
    """
    check_target(out, folder_format, overwrite)
    partial, replaced = (out.with_name(f".{out.name}.{os.getpid()}.{state}") for state in ("partial", "replaced"))
    try:
        for name, data in files:
            write_atomic(partial / name, data)
        if out.exists():  # a folder cannot be replaced in one step: move the old one aside, and back if the new one cannot be moved
            os.replace(out, replaced)
        os.replace(partial, out)
    except BaseException as error:
        _discard(partial)
        if replaced.exists():
            os.replace(replaced, out)
        if isinstance(error, OSError):
            raise unwritable(out, error) from error
        raise
    _discard(replaced)
    return out


def check_target(out: Path, folder_format: str, overwrite: bool = False) -> None:
    """Check that `save_folder` can write `out` and would destroy nothing there that it may not replace.

    Args:
        folder_format: format in the manifest of a folder that may be replaced, e.g. "iit-bench/benchmark".

    Raises:
        UserError: `out` is a file, holds other files, holds such a folder and `overwrite` is false, or cannot be written.
    """
    name = folder_format.rpartition("/")[2]
    noun = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file, not a folder; choose another --out")
    if out.is_dir() and any(out.iterdir()):
        if _format_of(out) != folder_format:
            raise UserError(f"{str(out)!r} holds files that are not {noun}; choose an empty or new folder for --out")
        if not overwrite:
            raise UserError(f"{str(out)!r} already holds {noun}; add --overwrite to replace it or choose another --out")
    check_writable(out, beside=True)  # the folder is made there, and moved


def _format_of(folder: Path) -> str | None:
    """The format in a folder's manifest; None if there is no such manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest.get("format") if isinstance(manifest, dict) else None


def check_writable(path: Path, *, beside: bool = False) -> None:
    """Check that a file or folder `path` can be written, before hours of work, not after; nothing is left behind.

    A probe file is written into it, or into the nearest folder above it that exists, with `beside` always into one above.

    Raises:
        UserError: nothing can be written there.
    """
    place = path if os.path.isdir(path) and not beside else _nearest(path)
    probe = place / f".{path.name}.{os.getpid()}.partial"
    try:
        probe.write_bytes(b"iit-bench")
        probe.unlink(missing_ok=True)
    except OSError as error:
        _discard(probe)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a file or folder that could not be written, with what is wrong with the place, and advice that fits."""
    what, why = f"cannot write {str(path)!r}", error.strerror or str(error)
    if error.errno in _FULL:
        return UserError(f"{what}: {why}; free some space or choose another folder")
    if error.errno == errno.ENAMETOOLONG:
        return UserError(f"{what}: {why}; choose a shorter name")
    place = path if os.path.isdir(path) else _nearest(path)
    if not place.is_dir():
        return UserError(f"{what}: {str(place)!r} is a file, not a folder; choose another folder")
    return UserError(f"{what}: no file can be made in {str(place)!r} ({why}); choose another folder, or change that one's permissions")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _nearest(path: Path) -> Path:
    """The nearest file or folder above `path` that exists."""
    above = path.absolute().parents
    return next((folder for folder in above if os.path.exists(folder)), above[-1])  # unlike Path.exists, never raises


def _discard(path: Path) -> None:
    """Remove a partly written file or folder, if it exists. Errors are ignored: the caller raises the one that led here."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
