"""Who works on which cell: a lock for each cell and stage, by name, and a note of who has it.

The locks are bytes of `work/locks`: the system releases those of a process that ends, however it ends. The notes are the files of
`work/holders`. A note whose lock is free is of a process that was killed, or stopped, before it had tidied up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from iit_bench.storage.atomic import unwritable
from iit_bench.storage.folder_locks import holder_in_words, this_process
from iit_bench.storage.locks import ByteLocks


class Busy(Exception):
    """Another process has the cell or the stage of this name."""


class Locks:
    """The locks of an experiment.

    Args:
        work: its folder for what can be made again; made if it is not there.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, work: Path) -> None:
        self._notes = work / "holders"
        try:
            self._notes.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._notes, error) from error
        self._bytes = ByteLocks(work / "locks")

    @contextlib.contextmanager
    def held(self, name: str, *, keep: bool = False, wait: bool = False) -> Iterator[None]:
        """Hold a lock, with a note that stays where what is done inside does not come to its end.

        Args:
            name: of a cell or a stage.
            keep: the models of the cell are to be kept.
            wait: until whoever has it is done.

        Raises:
            Busy: another process has it.
        """
        if not self._bytes.take(_number(name), wait=wait):
            raise Busy(name)
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock itself holds
                self._note(name).write_text(json.dumps({**this_process(), "keep": keep}))
            yield
            with contextlib.suppress(OSError):
                self._note(name).unlink()
        finally:
            self._bytes.release(_number(name))

    def holder(self, name: str) -> str | None:
        """Which other process has a lock, in words; "" where it is not known, None where none has it."""
        return holder_in_words(self._note(name)) if self._bytes.is_held(_number(name)) else None

    def noted(self) -> dict[str, bool]:
        """Name → `keep`, of all notes; True where a note says nothing."""
        return {path.stem: _keeps(path) for path in sorted(self._notes.glob("*.json"))}

    def _note(self, name: str) -> Path:
        return self._notes / f"{name}.json"


def _keeps(note: Path) -> bool:
    try:
        return json.loads(note.read_bytes())["keep"] is not False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True


def _number(name: str) -> int:
    """The number of a lock."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
