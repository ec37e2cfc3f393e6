"""What a process knows of a response log: the first answers in memory, of all others only where their lines are.

So a log of a million answers takes as much memory as one of `MOST_IN_MEMORY`. Which line holds the answer to a request is in a temporary
database of SQLite, which keeps up to `_CACHE` of it in memory and the rest in a file without a name (in $SQLITE_TMPDIR, $TMPDIR, /var/tmp
or /tmp) that ends with the process, however that ends. An answer that is asked for is read from its line and checked again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from iit_bench.engine.lines import Response, response_of
from iit_bench.errors import UserError, one_line

MOST_IN_MEMORY = 1 << 15  # answers, and keys of a set; an answer to four choices takes 0.6 kB
_CACHE = 16 << 20  # bytes of a table
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line is: its log, its first byte, and its bytes without the line break."""

    path: Path
    start: int
    length: int


class HeldAnswers(Mapping[str, Response]):
    """Answers by request key, in the order in which they were found. Several threads may read while one adds.

    Raises:
        UserError: from every method: no room for the table, or a log was changed since it was read.
    """

    def __init__(self) -> None:
        self._first: dict[str, Response] = {}
        self._others: _Table | None = None
        self._files: list[_File] = []  # that hold lines of `_others`

    def put(self, key: str, answer: Response, place: Place) -> bool:
        """Add an answer whose line is at `place`; returns whether there was none to this request."""
        if key in self._first:
            return False
        if len(self._first) < MOST_IN_MEMORY:
            self._first[key] = answer
            return True
        self._others = self._others or _Table()
        return self._others.put(key, self._number_of(place.path), place.start, place.length)

    def __getitem__(self, key: str) -> Response:
        if key in self._first:
            return self._first[key]
        row = self._others.row(key) if self._others else None
        if row is None:
            raise KeyError(key)
        return self._read(*row)

    def __contains__(self, key: object) -> bool:
        return key in self._first or bool(self._others and self._others.row(key))

    def __iter__(self) -> Iterator[str]:
        return chain(self._first, (row[0] for row in self._other_rows()))

    def __len__(self) -> int:
        return len(self._first) + (self._others.count if self._others else 0)

    def each(self) -> Iterator[Response]:
        """The answers one after the other; faster than `values`, because no key is looked up."""
        return chain(self._first.values(), (self._read(*row[1:]) for row in self._other_rows()))

    def close(self) -> None:
        """Close the files; only what is in memory can be read then."""
        for file in self._files:
            file.close()
        if self._others:
            self._others.close()

    def _other_rows(self) -> Iterator[tuple[Any, ...]]:
        return self._others.rows() if self._others else iter(())

    def _number_of(self, path: Path) -> int:
        """The number of a file in `_files`. It is opened now: a rank's log has no name any more once its lines are moved."""
        for number in range(len(self._files) - 1, -1, -1):
            if self._files[number].path == path:
                return number
        self._files.append(_File(path))
        return len(self._files) - 1

    def _read(self, number: int, start: int, length: int) -> Response:
        return self._files[number].answer(start, length)


class HeldKeys(Set[str]):
    """A set of keys, of which the first ones are in memory; likewise."""

    def __init__(self) -> None:
        self._first: set[str] = set()
        self._others: _Table | None = None

    def add(self, key: str) -> None:
        """Add a key, unless it is there."""
        if key in self._first:
            return
        if len(self._first) < MOST_IN_MEMORY:
            self._first.add(key)
            return
        self._others = self._others or _Table()
        self._others.put(key)

    def __contains__(self, key: object) -> bool:
        return key in self._first or bool(self._others and self._others.row(key))

    def __iter__(self) -> Iterator[str]:
        return chain(self._first, (row[0] for row in self._others.rows()) if self._others else ())

    def __len__(self) -> int:
        return len(self._first) + (self._others.count if self._others else 0)

    def close(self) -> None:
        """Close the table; only what is in memory can be read then."""
        if self._others:
            self._others.close()


class _Table:
    """Keys, each with three numbers, in a temporary database."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # a connection must not be used by two threads at once
        self.count = 0
        self._database = self._guarded(lambda: sqlite3.connect("", check_same_thread=False, isolation_level=None))
        self._run("PRAGMA journal_mode = OFF")  # nothing is ever taken back, and nobody reads the file after this process
        self._run(f"PRAGMA cache_size = {-_CACHE // 1024}")
        self._run("CREATE TABLE lines (number INTEGER PRIMARY KEY, key TEXT UNIQUE, file INTEGER, start INTEGER, length INTEGER)")
        self._run("BEGIN")

    def put(self, key: str, *numbers: int) -> bool:
        """Add a key, with up to three numbers; returns whether it is new."""
        values = (key, *numbers, *(0,) * (3 - len(numbers)))
        new = self._run("INSERT OR IGNORE INTO lines (key, file, start, length) VALUES (?, ?, ?, ?) RETURNING 1", values) != []
        self.count += new
        return new

    def row(self, key: object) -> tuple[int, int, int] | None:
        """The numbers of a key."""
        found = self._run("SELECT file, start, length FROM lines WHERE key = ?", (key,))
        return found[0] if found else None

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Keys with their numbers, in the order in which they were added."""
        last = 0
        while found := self._run("SELECT number, key, file, start, length FROM lines WHERE number > ? LIMIT 1000", (last,)):
            yield from (row[1:] for row in found)
            last = found[-1][0]

    def __len__(self) -> int:
        return self.count

    def close(self) -> None:
        self._database.close()

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._guarded(lambda: self._database.execute(statement, values).fetchall())

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            with self._guard:
                return work()
        except sqlite3.Error as error:
            raise UserError(
                f"the places of {self.count:,} answers cannot be kept in a temporary file ({one_line(error)}); free space in the folder "
                "for temporary files, or set TMPDIR to another one, and repeat the command to resume"
            ) from error


class _File:
    """A log of which single lines are read."""

    def __init__(self, path: Path) -> None:
        self.path, self._guard = path, threading.Lock()
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._changed(error) from error

    def answer(self, start: int, length: int) -> Response:
        """The answer in a line."""
        try:
            with self._guard:
                self._file.seek(start)
                line = self._file.read(length)
            return response_of(line)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._changed(error) from error

    def close(self) -> None:
        self._file.close()

    def _changed(self, error: Exception) -> UserError:
        return UserError(
            f"{str(self.path)!r} was changed while it was in use ({one_line(error)}); repeat the command, which checks it from its "
            "beginning"
        )
