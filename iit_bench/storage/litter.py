"""Names of unfinished files and folders, and what killed processes have left of them: found at the next start, and removed.

A name ends with who writes it: `.NAME.PID-MACHINE.partial`. It is litter once that process is gone: no process of this machine has its
number, or one that started after the file was last touched. In a folder whose lock is held (folder_locks.py) all that is
unfinished is litter but for what a living process of this machine writes, whatever machine it was written on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
from functools import cache
from pathlib import Path

_PATTERN = re.compile(r"\.((?P<of>.*)\.)?(?P<pid>\d{1,10})(-(?P<machine>[0-9a-f]{6}))?\.(partial|replaced|probe)", re.DOTALL)
_SLACK = 2.0  # seconds: the kernel's clock of processes and that of files are not one


def unfinished(path: Path) -> Path:
    """The name beside `path` under which this process writes it until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine()}.partial")


def remove_litter_of(path: Path, *, locked: bool = False) -> list[Path]:
    """Remove what killed processes have left beside `path` of writing it, and return what was removed.

    Args:
        path: a file or folder.
        locked: its folder lock is held.
    """
    names = [one for one in _names(path.parent, f".{path.name}.") if _owner(one) == path.name]
    kept = ".replaced" if not os.path.lexists(path) else ""  # all that there is of `path`: see `replaced_by_killed`
    return [one for one in names if one.suffix != kept and _is_litter(one, locked=locked) and _remove(one)]


def remove_litter_in(folder: Path, *, locked: bool = True) -> None:
    """Remove what killed processes have left of files and folders directly in a folder; `locked`: its lock is held."""
    for path in _names(folder, "."):
        if _is_litter(path, locked=locked):
            _remove(path)


def holds_litter_of(path: Path) -> bool:
    """Whether something unfinished lies beside `path`, of a process that was killed or one at work."""
    return any(_owner(one) == path.name for one in _names(path.parent, f".{path.name}."))


def remove_whole(path: Path) -> None:
    """Remove a file or folder in one step, as far as anybody sees who looks for it; errors are ignored.

    It is renamed to what never counts and then removed: a process killed meanwhile leaves all of it, or litter, and never a folder of
    which some files are gone.
    """
    gone = unfinished(path)
    if os.path.lexists(gone):
        _remove(gone)
    with contextlib.suppress(OSError):
        os.replace(path, gone)
        _remove(gone)


def replaced_by_killed(path: Path) -> list[Path]:
    """The folders that were moved aside to make room for a new `path`, latest first."""
    found = [one for one in _names(path.parent, f".{path.name}.") if one.name.endswith(".replaced") and _owner(one) == path.name]
    return sorted(found, key=lambda one: one.stat().st_mtime, reverse=True)


def _names(folder: Path, beginning: str) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(beginning))
    except OSError:  # not there, or not readable: whoever writes reports it
        return []


def _owner(path: Path) -> str | None:
    """The name of the file or folder that was to become of this one."""
    found = _PATTERN.fullmatch(path.name)
    return found["of"] if found else None


def _is_litter(path: Path, *, locked: bool) -> bool:
    found = _PATTERN.fullmatch(path.name)
    if not found:
        return False
    if found["machine"] != _machine() and not (locked and found["machine"] is None):
        return locked  # of another machine, where nobody can look for its process
    try:
        touched = path.lstat().st_mtime
    except OSError:
        return False
    return not _is_alive(int(found["pid"]), touched)


def _is_alive(pid: int, touched: float) -> bool:
    """Whether the process that touched a file last, and had this number, is still there; True where that cannot be known."""
    if pid == os.getpid():
        return _started(pid) <= touched + _SLACK
    try:
        if os.name == "posix":
            os.kill(pid, 0)  # asks only
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return _started(pid) <= touched + _SLACK


def _started(pid: int) -> float:
    """When a process started, in seconds of the system's clock; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0.0
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        ticks = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        booted = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return booted + ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


@cache
def _machine() -> str:
    """Where a process number means something: this machine, and on Linux this container."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:6]


def _remove(path: Path) -> bool:
    """Remove a file or folder, if it can be; a link itself, never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)
