"""Cells that could not be run, a file each in `work/errors`: they do not stop the others, and the next call tries them again."""

from __future__ import annotations

import json
from pathlib import Path

from iit_bench.storage.atomic import write_atomic


class Failures:
    """What several processes know of the cells that failed; `folder` is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before: dict[str, tuple[int, int]] = {}

    def begin(self) -> None:
        """From here on, cells that failed before are tried again."""
        paths = self._folder.glob("*.json") if self._folder.is_dir() else ()
        self._before = {path.name: _version(path) for path in paths}

    def is_new(self, name: str) -> bool:
        """Whether a cell has failed since `begin`, in whichever process."""
        path = self._path(name)
        return path.is_file() and _version(path) != self._before.get(path.name)

    def reason(self, name: str) -> str:
        """Why a cell could not be run, a sentence; "" where it has not failed."""
        try:
            return str(json.loads(self._path(name).read_bytes())["reason"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def record(self, name: str, reason: str) -> None:
        """A cell has failed.

        Raises:
            UserError: no space, or no permission.
        """
        write_atomic(self._path(name), json.dumps({"reason": reason}))

    def forget(self, name: str) -> None:
        """A cell is tried again."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _version(path: Path) -> tuple[int, int]:
    """Of a file that is replaced as a whole; (0, 0) of one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_ino, stat.st_mtime_ns
