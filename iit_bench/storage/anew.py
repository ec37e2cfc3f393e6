"""Which runs `--fresh` has begun anew by now: what resumes the command differs by that.

Until a run is begun anew the command has to be repeated with --fresh; afterwards that would lose what was answered since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from iit_bench.ranks import LAUNCH

RESUME = "repeat the command to resume"
Stamp = tuple[int, int] | None  # of a run.json: its inode and time of change, which are others once it is written again


@dataclass(frozen=True)
class _Noted:
    folders: Callable[[], Iterable[Path]]
    stamps: dict[Path, Stamp]


_NOTED: list[_Noted] = []  # one at most: of the command that this process runs


def note(folders: Callable[[], Iterable[Path]]) -> None:
    """Note the runs that a command with --fresh is about to begin anew.

    Args:
        folders: gives their folders; it is asked again later, as the command may make further ones.
    """
    _NOTED[:] = [_Noted(folders, {folder: _stamp(folder) for folder in folders()})]


def forget() -> None:
    """Forget what was noted: another command begins."""
    _NOTED.clear()


def standing() -> tuple[list[Path], list[Path]]:
    """Of what was noted: the folders whose runs are begun anew, and those that still hold an earlier run; both empty without --fresh."""
    begun: list[Path] = []
    left: list[Path] = []
    for noted in _NOTED:
        for folder in noted.folders():
            now = _stamp(folder)
            if now is not None:
                (begun if now != noted.stamps.get(folder) or _is_of_this_launch(folder) else left).append(folder)
    return begun, left


def resumable(text: str) -> str:
    """A sentence that may ask to repeat the command to resume: without --fresh, where that has begun a run anew."""
    return text.replace(RESUME, "repeat the command without --fresh to resume") if RESUME in text and standing()[0] else text


def _stamp(folder: Path) -> Stamp:
    try:
        found = (folder / "run.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_of_this_launch(folder: Path) -> bool:
    """Whether one of the processes that were started together has begun the run anew, maybe before this one noted it."""
    if not (launch := os.environ.get(LAUNCH)):
        return False
    try:
        return bool(json.loads((folder / "run.json").read_bytes())["launch"] == launch)
    except (OSError, ValueError, KeyError, TypeError):
        return False
