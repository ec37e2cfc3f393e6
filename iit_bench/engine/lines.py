"""The lines of a response log: how one is written, sealed by a checksum, and read back.

Line 1 names the format: {"format": "iit-bench/responses", "version": 2, "check": …}, of a rank's log also "run", the identity of its run.
Every other line is {"key": …, "kind": "score" | "generate", …fields of the result, "check": …}, or, in a rank's log, of a request that
failed: {"key": …, "kind": "failure", "of": "item" | "machine", "reason": …, "detail": …, "check": …}. A batch for which the memory did not
suffice, so that its halves were answered one after the other, has {"key": …, "kind": "split", "check": …}, where `key` is
`plan.batch_key` of it: a resumed run splits it likewise. `check`: storage/seals.py. Lines of version 1 have no `check`; a log that began
with version 1 keeps its first line, and its new lines are sealed. An answer that was moved here from a line without `check` keeps that
mark: {…, "unchecked": true, "check": …}.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.contract import GenerateResult, ScoreResult
from iit_bench.storage.atomic import fix_for
from iit_bench.storage.seals import opened_line, sealed_line
from iit_bench.storage.tables import decode

LOG_FORMAT = "iit-bench/responses"
LOG_VERSION = 2
Response = ScoreResult | GenerateResult
_KINDS: dict[str, type[Response]] = {"score": ScoreResult, "generate": GenerateResult}
_FAILURE, _SPLIT = "failure", "split"
_BLOCK = 1 << 20  # bytes of a log that are in memory while it is read


@dataclass(frozen=True)
class Failure:
    """Why a request has no answer. `kind` "item": resuming will not change that; "machine": resuming may."""

    kind: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Split:
    """A batch was too large for the memory, and is answered in two halves."""


@dataclass(frozen=True)
class Entry:
    """A line after the first: the outcome of a request, or of a batch as a whole, and where it was read."""

    key: str
    outcome: Response | Failure | Split
    line: int
    checked: bool = True  # False: its line, or the one that it was moved from, has no checksum
    start: int = 0  # the first byte of its line
    length: int = 0  # bytes of its line, without the line break


def header_line(run: str = "") -> bytes:
    """The first line of a log; `run` is the identity of the run that a rank's log belongs to."""
    return sealed_line({"format": LOG_FORMAT, "version": LOG_VERSION} | ({"run": run} if run else {}))


def entry_line(key: str, outcome: Response | Failure | Split, *, checked: bool = True) -> bytes:
    """The line of one outcome; `checked` is False of an answer that is moved from a line without a checksum."""
    if isinstance(outcome, Split):
        return sealed_line({"key": key, "kind": _SPLIT})
    if isinstance(outcome, Failure):
        return sealed_line({"key": key, "kind": _FAILURE, "of": outcome.kind, "reason": outcome.reason, "detail": outcome.detail})
    kind = next(name for name, cls in _KINDS.items() if isinstance(outcome, cls))
    mark = {} if checked else {"unchecked": True}
    return sealed_line({"key": key, "kind": kind, **dataclasses.asdict(outcome), **mark})


class LogReader:
    """Reads a log from where it stopped: its new whole lines, each time it is asked.

    A last line that is torn, or whose checksum is wrong, is left for the next time: whoever writes it has not finished, or was killed.

    Raises:
        UserError: from every method: a line before the last is damaged, or the file is no log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = ""  # identity in the first line
        self.version: int | None = None  # None: the first line was not read yet
        self.end = 0  # bytes of the whole lines that were read
        self._count = 0  # of lines

    def new_entries(self, file: IO[bytes] | None = None) -> list[Entry]:
        """The entries that were added since the last call, all at once, read from `file`, or from the path, opened anew."""
        return list(self.entries(file))

    def entries(self, file: IO[bytes] | None = None) -> Iterator[Entry]:
        """As `new_entries`, one after the other, so that a long log is never in memory: to be gone through to its end."""
        if file is not None:
            yield from self._entries(file, None)
            return
        with self._opened() as own:
            yield from self._entries(own, None)

    def read_head(self, file: IO[bytes] | None = None) -> None:
        """Read the first line only, which gives `version` and `run`; nothing where it was read, or is not written yet."""
        if self.version is None and file is not None:
            list(self._entries(file, 1))
        elif self.version is None:
            with self._opened() as own:
                list(self._entries(own, 1))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise UserError(f"cannot read {str(self.path)!r}: {error.strerror}; check its permissions") from error
        with file:
            yield file

    def _entries(self, file: IO[bytes], most: int | None) -> Iterator[Entry]:
        """The entries of the next whole lines, up to `most` of these."""
        for line, is_last in itertools.islice(self._lines(file), most):
            number = self._count + 1
            try:
                entry = self._entry(line, number)
            except (ValueError, KeyError, TypeError) as error:
                if is_last and number > 1:
                    return
                raise UserError(f"{str(self.path)!r} is damaged in line {number} ({one_line(error)}); start over with --fresh") from error
            self._count, self.end = number, self.end + len(line) + 1
            if entry is not None:
                yield entry

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
        """The whole lines from `end` on, without their line breaks, each with whether no other whole line follows it."""
        place, rest = self.end, b""
        before: bytes | None = None  # is held back until it is known whether another line follows
        while block := self._block(file, place):
            place += len(block)
            *lines, rest = (rest + block).split(b"\n") if b"\n" in block else (rest + block,)
            for line in lines:
                if before is not None:
                    yield before, False
                before = line
        if before is not None:  # what follows the last line break is torn
            yield before, True

    def _block(self, file: IO[bytes], place: int) -> bytes:
        """The next bytes from `place` on: whoever shares the file may have moved its position meanwhile."""
        try:
            file.seek(place)
            return file.read(_BLOCK)
        except OSError as error:
            raise UserError(f"cannot read {str(self.path)!r}: {error.strerror}; check its permissions") from error

    def _entry(self, line: bytes, number: int) -> Entry | None:
        fields, sealed = opened_line(line)
        if not sealed and (fields["version"] if number == 1 else self.version or 0) > 1:
            raise ValueError("its checksum is missing")
        if number > 1:
            return Entry(fields["key"], _outcome(fields), number, sealed and not fields.get("unchecked"), self.end, len(line))
        if fields["format"] != LOG_FORMAT or fields["version"] not in range(1, LOG_VERSION + 1):
            raise ValueError(f"format {fields['format']!r} version {fields['version']!r}, not {LOG_FORMAT!r} up to version {LOG_VERSION}")
        self.version, self.run = fields["version"], fields.get("run", "")
        return None


def _outcome(fields: Mapping[str, Any]) -> Response | Failure | Split:
    if fields["kind"] == _SPLIT:
        return Split()
    if fields["kind"] == _FAILURE:
        return Failure(fields["of"], fields["reason"], fields["detail"])
    return decode(_KINDS[fields["kind"]], fields)


def response_of(line: bytes) -> Response:
    """The answer in a line that was read before, without its line break.

    Raises:
        ValueError, KeyError, TypeError: it is another line now.
    """
    outcome = _outcome(opened_line(line)[0])
    if isinstance(outcome, Failure | Split):
        raise ValueError("it holds no answer")
    return outcome


def line_of(answer: Response, key: str, paths: Iterable[Path]) -> tuple[Path, int] | None:
    """The first line in these logs that gives a request this answer: looked for where logs contradict each other, instead of kept."""
    for path in paths:
        for entry in LogReader(path).entries():
            if entry.key == key and entry.outcome == answer:
                return path, entry.line
    return None


def append_lines(file: IO[bytes], path: Path, lines: Sequence[bytes]) -> int:
    """Write lines at the end of an unbuffered file and make them durable; all of them or none. Returns where the first of them begins.

    Raises:
        UserError: with advice by the error: the disk is full, read-only, fails …
    """
    start = file.seek(0, os.SEEK_END)
    if not lines:
        return start
    data = b"".join(lines)
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise UserError(f"cannot write {str(path)!r}: {error.strerror}; {fix_for(error)} and repeat the command to resume") from error
    return start


def key_digest(key: str) -> bytes:
    """16 bytes that stand for a request's key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:16]


def digest_of_keys(digests: Iterable[bytes]) -> str:
    """One digest of the keys of several requests, in whichever order: the XOR of theirs, hexadecimal."""
    return f"{functools.reduce(operator.xor, (int.from_bytes(one) for one in digests), 0):032x}"
