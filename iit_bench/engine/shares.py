"""Several processes work on one run: each takes pieces of the same plan, and logs answers of its own.

The files beside the response log, in the run folder:

- `responses.rank-N.jsonl`: the log of one process, which holds a lock on it. Its first line has the identity of the run; a file with
  another identity is set aside.
- `responses.lock`: an empty file of byte locks. A process that asks for a piece of work holds the byte of the piece until its answers are
  logged; whoever takes a piece reads the other logs first. So nothing is asked twice, and a process that is killed gives its piece back.

The processes share the lock on responses.jsonl, which a process that works alone holds exclusively. The first process that enters, and the
last that leaves, have it exclusively for a moment: they move what the ranks have logged into responses.jsonl and remove the ranks' logs.
Nobody waits for another process, with two exceptions: entering and leaving happen one after the other, and `take(…, wait=True)`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import IO

from iit_bench.engine.held import HeldKeys
from iit_bench.engine.lines import Entry, Failure, LogReader, Response, append_lines, entry_line
from iit_bench.engine.log import ResponseLog, open_log
from iit_bench.errors import OthersAtWork
from iit_bench.progress import notice
from iit_bench.ranks import Rank
from iit_bench.storage.locks import ByteLocks, held_by_another, try_lock, unlock

LOCKS = "responses.lock"
_ENTRY, _OUTCOME, _WORK = 0, 1, 2  # bytes of the lock file: entering and leaving, writing the results, the first piece of work


_TRIES, _PAUSE = 20, 0.05  # seconds between tries


def rank_logs(folder: Path) -> list[Path]:
    """The logs of single processes in a run folder."""
    return sorted(folder.glob("responses.rank-*.jsonl"))


def set_aside(folder: Path, run: str) -> list[Path]:
    """The rank logs of this run. Those of another run are renamed, with a notice: they hold answers that somebody paid for."""
    mine = []
    for path in rank_logs(folder):
        reader = LogReader(path)
        reader.read_head()
        if reader.version is None or reader.run == run:
            mine.append(path)
            continue
        path.rename(path.with_suffix(".stale"))
        notice(f"{str(path)!r} holds answers of another run; it is not read, and kept as {path.with_suffix('.stale').name!r}")
    return mine


class SharedLog(ResponseLog):
    """The response log of a run on which several processes work. Its `responses` are those of all of them, as of the last `take`.

    Args:
        folder: of the run; it exists.
        rank: of this process: where it begins, and which rank log it prefers.
        begin: is called once, while no other process enters or leaves, with whether this process is the only one; returns the run's
            identity. A run that is started over empties the log in it, by `start_over`.
        end: is called when this process leaves as the last one.

    Raises:
        UserError: as `ResponseLog`; a process that works alone has the run.
    """

    alone = False

    def __init__(self, folder: Path, rank: Rank, begin: Callable[[SharedLog, bool], str], end: Callable[[], None] = lambda: None) -> None:
        self._begin(folder / "responses.jsonl")
        self.rank = rank
        self._kept = HeldKeys()  # keys in responses.jsonl
        self._end = end
        self._folder, self._guard = folder, threading.Lock()
        self._readers: dict[Path, LogReader] = {}
        self._locks = ByteLocks(folder / LOCKS)
        self._own: IO[bytes] | None = None
        try:
            self._locks.take(_ENTRY, wait=True)
            self._file = open_log(self.path)
            self._enter(begin)
            self._locks.release(_ENTRY)
        except BaseException:
            self._close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the run; the last process moves what all have logged into responses.jsonl."""
        try:
            self._locks.take(_ENTRY, wait=True)
            unlock(self._file)
            if try_lock(self._file, self.path):
                self.absorb(set_aside(self._folder, self.run))
                self._end()
        finally:
            self._close()

    def start_over(self) -> None:
        """Remove all answers; only in `begin`, by the only process."""
        self._file.truncate(0)
        for path in rank_logs(self._folder):
            path.unlink()

    def append(self, responses: Mapping[str, Response]) -> None:
        """As `ResponseLog.append`, into the log of this process."""
        assert self._own is not None
        self._append(responses, self._own, self.own_path)

    def _write(self, line: bytes) -> None:
        assert self._own is not None
        append_lines(self._own, self.own_path, [line])

    def order(self, count: int) -> list[int]:
        """First a block of its own, then those of the others from their ends, where they come last."""
        starts = [count * number // self.rank.of for number in range(self.rank.of + 1)]
        blocks = [range(first, end) for first, end in pairwise(starts)]
        others = [*blocks[self.rank.number + 1 :], *blocks[: self.rank.number]]
        return [*blocks[self.rank.number], *(i for block in others for i in reversed(block))]

    def take(self, keys: Sequence[str], *, wait: bool = False) -> bool:
        """As `ResponseLog.take`; with `wait`, waits for a process that has the piece until it is done, or ends."""
        if not self._locks.take(_byte(keys), wait=wait):
            return False
        with self._guard:
            self._refresh()
        return True

    def release(self, keys: Sequence[str]) -> None:
        self._locks.release(_byte(keys))

    def note(self, failures: Mapping[str, Failure]) -> None:
        new = {key: failure for key, failure in failures.items() if key not in self.failures}
        if new:
            self._write(b"".join(entry_line(key, failure) for key, failure in new.items()))
            self.failures |= new

    def finish(self) -> None:
        if not self._locks.take(_OUTCOME):
            raise OthersAtWork("nothing is left, and the results are in the hands of other processes")
        self.finishes = True

    # ------------------------------------------------------------ files

    def _enter(self, begin: Callable[[SharedLog, bool], str]) -> None:
        only = self._lock_run()
        self.run = begin(self, only)
        if only:
            self._read(self._file, self.path)
            self._keep()
            self.absorb(set_aside(self._folder, self.run))
            if not try_lock(self._file, self.path, shared=True):
                raise held_by_another(self.path)
        else:
            reader = LogReader(self.path)
            for entry in reader.entries():
                self._take(entry, self.path)
            self._keep()
        self._own, self.own_path = self._open_own()
        self._read(self._own, self.own_path, self.run)
        self._refresh()

    def _keep(self) -> None:
        """All that is known is in responses.jsonl."""
        for key in chain(self.splits, self.responses):
            self._kept.add(key)

    def _lock_run(self) -> bool:
        """Lock the run, exclusively if no other process works on it, and return whether that is so.

        Of a process that is killed in this section, the system releases the byte lock a moment before the lock of the run.
        """
        for _ in range(_TRIES):
            if try_lock(self._file, self.path):
                return True
            if try_lock(self._file, self.path, shared=True):
                return False
            time.sleep(_PAUSE)
        raise held_by_another(self.path)

    def _open_own(self) -> tuple[IO[bytes], Path]:
        """Open the first log of a rank, from the own number on, that no process has open and that is of this run."""
        number = self.rank.number
        while True:
            path = self._folder / f"responses.rank-{number}.jsonl"
            file = open_log(path)
            if try_lock(file, path):
                reader = LogReader(path)
                reader.read_head(file)
                if reader.version is None or reader.run == self.run:
                    return file, path
            file.close()
            number += 1

    def _refresh(self) -> None:
        """Read what other processes have logged since the last time."""
        for path in rank_logs(self._folder):
            if path == self.own_path:
                continue
            reader = self._readers.setdefault(path, LogReader(path))
            entries = reader.new_entries()
            if reader.version is None or reader.run != self.run:  # just made, or of another run
                continue
            self.heard([entry.key for entry in entries if self._take(entry, path)])

    def _take_to_move(self, entry: Entry, path: Path) -> bool:
        self._take(entry, path)
        lacks = entry.key not in self._kept
        self._kept.add(entry.key)
        return lacks

    def _close(self) -> None:
        for file in (self._own, getattr(self, "_file", None)):
            if file is not None:
                with suppress(OSError):
                    file.close()
        for held in (self.responses, self.unchecked, self._kept):
            held.close()
        self._locks.close()


@contextmanager
def written_once(folder: Path) -> Iterator[bool]:
    """A context for what the last process of a run writes; yields whether no other process is about it."""
    locks = ByteLocks(folder / LOCKS)
    try:
        yield locks.take(_OUTCOME)
    finally:
        locks.close()


def _byte(keys: Sequence[str]) -> int:
    """The lock of a piece of work: a number that every process finds alike."""
    return _WORK + int(hashlib.sha256("\n".join(keys).encode()).hexdigest()[:15], 16)
