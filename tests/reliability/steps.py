"""End a command at its n-th change of the file system, run it again, and compare what is there with an undisturbed run's.

The process counts its own calls by an audit hook (`sys.addaudithook`): files opened for writing, files and folders made, renamed and
removed. Before the n-th it kills itself (SIGKILL). Nothing of the command is replaced; what Rust or C++ writes by itself has no calls of
its own, but those before and after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iit_bench.cli import main
from tests.reliability.tally import Tally

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Keys whose values belong to one run.
CHANGING = ("seal", "started", "ended", "seconds", "cpu_seconds", "peak_memory", "resumed", "date", "created")
Contents = dict[str, Any]  # path in a folder -> bytes, or what a JSON file says without `CHANGING`; None = a folder


@dataclass
class Steps:
    """A command in a folder of its own, `work`, which begins as a copy of `begin`."""

    work: Path
    words: list[str]
    begin: Path | None = None
    again: list[str] | None = None  # the command after the stop; default: the same
    kept: Callable[[Contents], bool] = lambda left: True  # what has to hold of the folder right after the stop
    finished: str = ""  # a command that had finished when it was stopped may refuse to run again, in a sentence with these words
    tally: Tally | None = None  # counts the stops that were survived
    same: Callable[[Contents], Contents] = field(default=lambda contents: contents)

    def __post_init__(self) -> None:
        self.notes = self.work.with_name(f"{self.work.name}-notes")
        self.notes.mkdir()

    def reset(self) -> None:
        """The folder as it is before the command."""
        if self.work.exists():
            shutil.rmtree(self.work)
        if self.begin:
            shutil.copytree(self.begin, self.work)
        else:
            self.work.mkdir()

    def run(self, words: list[str], stop_at: int = 0) -> int:
        """Run the command in a process forked from this one; its exit code, or minus the signal."""
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 70
            try:
                code = self._command(words, stop_at)
            except BaseException as error:  # noqa: BLE001 - a forked process must not run the parent's code
                traceback.print_exception(error)
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _command(self, words: list[str], stop_at: int) -> int:
        calls: list[str] = []
        own, root = os.getpid(), os.path.realpath(self.work)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in EVENTS or os.getpid() != own:
                return
            if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
                return
            if not isinstance(arguments[0], (str, bytes, os.PathLike)):
                return
            path = placed(event, arguments)
            if not path.startswith(root):
                return
            if len(calls) + 1 == stop_at:
                os.kill(own, signal.SIGKILL)
            calls.append(f"{event} {path[len(root) :]}")

        with (self.notes / "printed").open("w") as printed, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            sys.addaudithook(hook)
            try:
                return main(words)
            finally:
                seen = list(calls)
                (self.notes / "calls").write_text(json.dumps(seen))

    @property
    def printed(self) -> str:
        """What the last command printed, as far as it got."""
        return (self.notes / "printed").read_text()

    def contents(self) -> Contents:
        """All that is in the folder."""
        found = {}
        for path in sorted(self.work.rglob("*")):
            name = path.relative_to(self.work).as_posix()
            found[name] = None if path.is_dir() else said(path)
        return self.same(found)

    def check(self, stops: int | None = None, at: str = "") -> int:
        """Stop at every call, or at so many of them, the last one among them; returns how many stops there were.

        Args:
            stops: how many; None = all.
            at: pattern of the calls that are tried, e.g. "os.remove /out/.*"; there has to be one.
        """
        self.reset()
        code = self.run(self.words)
        assert code == 0, self.printed
        calls = json.loads((self.notes / "calls").read_text())
        whole = self.contents()
        assert calls and not litter(whole), litter(whole)
        every = [number for number, call in enumerate(calls, 1) if re.match(at, call)]
        assert every, f"no call matches {at!r}: {calls}"
        numbers = every if stops is None else sorted({every[len(every) * (one + 1) // stops - 1] for one in range(stops)})
        for number in numbers:
            at = f"stopped at call {number} of {len(calls)}, {calls[number - 1]}"
            self.reset()
            code = self.run(self.words, number)
            assert code == -signal.SIGKILL, f"{at}: ended with {code}: {self.printed}"
            left = self.contents()
            assert self.kept(left), f"{at}: {sorted(left)} is left"
            code = self.run(self.again or self.words)
            refused = self.finished and code == 2 and self.finished in self.printed
            assert code == 0 or refused, f"{at}: then {code}: {self.printed}"
            now = self.contents()
            assert set(now) == set(whole), f"{at}: more {sorted(set(now) - set(whole))}, less {sorted(set(whole) - set(now))}"
            other = [name for name in whole if now[name] != whole[name]]
            assert not other, f"{at}: {other} are others: {[difference(now[name], whole[name]) for name in other[:1]]}"
            if self.tally:
                self.tally.add(survived=1)
        return len(numbers)


def placed(event: str, arguments: tuple[Any, ...]) -> str:
    """The path that a call changes; of a rename where it is moved to. Paths beside an open folder are resolved in it."""
    one = 1 if event in ("os.rename", "os.link", "os.symlink") else 0
    path = os.fsdecode(arguments[one])
    beside = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 3}.get(event)
    if not os.path.isabs(path) and beside is not None and isinstance(arguments[beside], int) and arguments[beside] >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[beside]}"), path)
    return os.path.realpath(os.path.dirname(os.path.abspath(path))) + "/" + os.path.basename(path)


def said(path: Path) -> Any:
    """The bytes of a file; of a JSON file what it says, without the keys that belong to one run."""
    data = path.read_bytes()
    if path.suffix != ".json":
        return data
    with contextlib.suppress(ValueError):
        return lasting(json.loads(data))
    return data


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: lasting(one) for key, one in value.items() if key not in CHANGING}
    return [lasting(one) for one in value] if isinstance(value, list) else value


def difference(one: Any, other: Any) -> Any:
    """What differs, for the message of a failure."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in (*one, *other) if one.get(key) != other.get(key)]
        return {key: difference(one.get(key), other.get(key)) for key in keys}
    return str(one)[:300], str(other)[:300]


def litter(contents: Contents) -> list[str]:
    """Locks and what is unfinished."""
    return [name for name in contents if name.endswith((".lock", ".partial", ".replaced", ".probe"))]
