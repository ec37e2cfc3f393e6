"""The response log of a run: append-only JSON lines, one per answered request, so that a killed run resumes where it stopped.

`key` hashes all that determines the answer (see plan.request_key). How a line looks: lines.py. `ResponseLog` is the log of a process that
works alone; shares.py has that of several processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO

from iit_bench.engine.held import HeldAnswers, HeldKeys, Place
from iit_bench.engine.lines import (
    LOG_FORMAT,
    LOG_VERSION,
    Entry,
    Failure,
    LogReader,
    Response,
    Split,
    append_lines,
    entry_line,
    header_line,
    line_of,
)
from iit_bench.errors import UserError
from iit_bench.storage.atomic import unwritable
from iit_bench.storage.locks import lock_file

__all__ = ["LOG_FORMAT", "LOG_VERSION", "Failure", "Response", "ResponseLog"]

_AT_ONCE = 1000  # lines of another log that are moved in one write


class ResponseLog:
    """Open log of one run folder; a context manager that holds a lock while it is open. `fresh` empties it, once the lock is held.

    Raises:
        UserError: the file is foreign, damaged before its last line, contradicts itself, locked by another process, or cannot be written.
    """

    alone = True  # no other process works on the run
    finishes = False  # of several processes, this one writes the results

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._begin(path)
        self._file = open_log(path)
        try:
            lock_file(self._file, path)
            if fresh:
                self._file.truncate(0)
            self._read(self._file, path)
        except BaseException:
            self._close()
            raise

    def _begin(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path
        self.responses = HeldAnswers()
        self.splits: set[str] = set()  # `plan.batch_key` of batches that are answered in halves
        self.failures: dict[str, Failure] = {}  # requests that another process found to have no answer
        self.heard: Callable[[Sequence[str]], None] = lambda keys: None  # is called with keys whose outcome another process has logged
        self.noted: dict[str, Failure] = {}  # requests that processes of before found to have no answer; they are asked again
        self.unchecked = HeldKeys()  # keys of `responses` that no checksum covers: from lines of earlier versions
        self._sources: list[Path] = []  # files that were read, in order

    def __enter__(self) -> ResponseLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()
        self.responses.close()
        self.unchecked.close()

    def append(self, responses: Mapping[str, Response]) -> None:
        """Log answers and make them durable. Keys that are logged already are skipped.

        Raises:
            UserError: the disk is full or the file is gone.
        """
        self._append(responses, self._file, self.path)

    def _append(self, responses: Mapping[str, Response], file: IO[bytes], path: Path) -> None:
        new = {key: response for key, response in responses.items() if key not in self.responses}
        lines = [entry_line(key, response) for key, response in new.items()]
        start = append_lines(file, path, lines)
        for (key, response), line in zip(new.items(), lines, strict=True):
            self.responses.put(key, response, Place(path, start, len(line) - 1))
            start += len(line)

    def split(self, batch: str) -> None:
        """Record that a batch does not fit the memory: whoever goes on with the run answers its halves.

        Raises:
            UserError: the disk is full or the file is gone.
        """
        if batch not in self.splits:
            self._write(entry_line(batch, Split()))
            self.splits.add(batch)

    def _write(self, line: bytes) -> None:
        append_lines(self._file, self.path, [line])

    # ------------------------------------------------------------ what only several processes need

    def order(self, count: int) -> list[int]:
        """The order in which this process takes `count` pieces of work."""
        return list(range(count))

    def take(self, keys: Sequence[str], *, wait: bool = False) -> bool:
        """Take a piece of work, so that no other process does it meanwhile; returns whether it was free.

        Afterwards `responses` and `failures` have what other processes have logged.
        """
        return True

    def release(self, keys: Sequence[str]) -> None:
        """Give back a piece of work that was taken: all its outcomes are in the log."""

    def note(self, failures: Mapping[str, Failure]) -> None:
        """Record requests that have no answer, for the other processes; they are asked again when the run is resumed."""

    def finish(self) -> None:
        """All requests have outcomes: this process writes the results.

        Raises:
            OthersAtWork: another process does.
        """

    # ------------------------------------------------------------ reading

    def count_with(self, paths: Sequence[Path]) -> int:
        """The number of distinct answers in this log and others of its run."""
        with closing(HeldKeys()) as more:
            for path in paths:
                for entry in LogReader(path).entries():
                    if isinstance(entry.outcome, Response) and entry.key not in self.responses:
                        more.add(entry.key)
            return len(self.responses) + len(more)

    def absorb(self, paths: Sequence[Path]) -> None:
        """Move the answers of other logs of this run to the end of this one and remove these files; only while no other process works.

        The failures in them are in `noted` afterwards, and not kept.

        Raises:
            UserError: one is damaged, or contradicts this log or another.
        """
        for path in paths:
            self._move(path)
        for path in paths:
            path.unlink()

    def _move(self, path: Path) -> None:
        """Append the answers of another log, all of them or, where it is damaged or contradicts others, none."""
        start = self._file.seek(0, os.SEEK_END)
        lines: list[bytes] = []
        reader = LogReader(path)
        try:
            for entry in reader.entries():
                if isinstance(entry.outcome, Failure):
                    self.noted[entry.key] = entry.outcome
                elif self._take_to_move(entry, path):
                    lines.append(entry_line(entry.key, entry.outcome, checked=entry.key not in self.unchecked))
                if len(lines) == _AT_ONCE:
                    append_lines(self._file, self.path, lines)
                    lines = []
            append_lines(self._file, self.path, lines)
        except UserError:
            self._file.truncate(start)
            raise

    def _take_to_move(self, entry: Entry, path: Path) -> bool:
        """Take over an entry of another log; returns whether the file of this log lacks it."""
        return self._take(entry, path)  # all that is known is in the file

    def _read(self, file: IO[bytes], path: Path, run: str = "") -> LogReader:
        """Read a log that this process will write: a torn last line is cut off, and a file without lines gets its first."""
        reader = LogReader(path)
        for entry in reader.entries(file):
            self._take(entry, path)
        file.truncate(reader.end)  # the process was killed while it wrote the last line: its request is asked again
        if reader.version is None:
            append_lines(file, path, [header_line(run)])
            reader.read_head(file)
        return reader

    def _take(self, entry: Entry, path: Path) -> bool:
        """Take over an entry that was read; returns whether it is new.

        Raises:
            UserError: there is another answer to the same request.
        """
        if isinstance(entry.outcome, Failure):
            new = entry.key not in self.failures
            self.failures.setdefault(entry.key, entry.outcome)
            return new
        if isinstance(entry.outcome, Split):
            new = entry.key not in self.splits
            self.splits.add(entry.key)
            return new
        if not (self._sources and self._sources[-1] is path):
            self._sources.append(path)
        new = self.responses.put(entry.key, entry.outcome, Place(path, entry.start, entry.length))
        if not new and (known := self.responses[entry.key]) != entry.outcome:
            raise UserError(self._contradiction(entry, path, known))
        if new and not entry.checked:
            self.unchecked.add(entry.key)
        return new

    def _contradiction(self, entry: Entry, path: Path, known: Response) -> str:
        before, line = line_of(known, entry.key, dict.fromkeys(self._sources)) or (None, 0)
        where = f"line {line} of {before.name}" if before else "what this process has logged"
        return (
            f"{str(path)!r} contradicts itself: line {entry.line} and {where} answer one request differently; start over with --fresh"
            if path == before
            else f"line {entry.line} of {str(path)!r} and {where} answer one request differently; remove one of the files, or start "
            "over with --fresh"
        )


def open_log(path: Path) -> IO[bytes]:
    """Open a log for reading and appending, unbuffered: a full disk must fail in `append`, not on closing.

    Raises:
        UserError: it cannot be written.
    """
    try:
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise unwritable(path, error) from error
