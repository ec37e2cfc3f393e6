"""What a run has sent to a provider's batch API: append-only JSON lines in the run folder, so that a killed run finds its batches again.

Line 1: {"format": "iit-bench/batches", "version": 2}. Then one line per event:
{"event": "uploaded", "url", "file", "path", "keys"}, {"event": "created", "file", "batch"} and
{"event": "collected", "file", "status", "errors": {key: [reason, detail]}}. Each of these lines has its number, "line", and every line a
checksum (storage/seals.py); lines of version 1 have neither, and a file that began with it keeps its first line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from iit_bench.errors import ItemError, UserError, one_line
from iit_bench.storage.atomic import fix_for, unwritable
from iit_bench.storage.locks import lock_file
from iit_bench.storage.seals import opened_line, sealed_line

LEDGER_FORMAT, LEDGER_VERSION = "iit-bench/batches", 2


@dataclass
class Sent:
    """A file of requests that was uploaded, and the batch that was made of it."""

    file: str  # the provider's id
    path: str  # where its requests go, e.g. "/chat/completions"
    url: str  # of the API
    keys: list[str] = field(default_factory=list)  # of its requests
    batch: str = ""  # the provider's id; "" = not known to have been created


class Ledger:
    """The open record of one run folder; a context manager that holds a lock.

    Raises:
        UserError: the file is foreign, damaged before its last line, locked by another process, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: dict[str, Sent] = {}  # file id → what has been uploaded and not collected
        self.errors: dict[str, ItemError] = {}  # key → why the provider refused the request
        self._lines = 0
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            lock_file(self._file, path)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def uploaded(self, url: str, file: str, path: str, keys: Sequence[str]) -> None:
        """Record a file before a batch is made of it: whoever resumes looks for a batch of this file first."""
        self._note({"event": "uploaded", "url": url, "file": file, "path": path, "keys": list(keys)})

    def created(self, file: str, batch: str) -> None:
        """Record a batch."""
        self._note({"event": "created", "file": file, "batch": batch})

    def collected(self, file: str, status: str, errors: Mapping[str, ItemError]) -> None:
        """Record that the answers of a batch are in the response log, and which of its requests were refused."""
        refused = {key: [error.reason, error.detail] for key, error in errors.items()}
        self._note({"event": "collected", "file": file, "status": status, "errors": refused})

    def _note(self, line: dict[str, Any]) -> None:
        self._write({**line, "line": self._lines + 1})
        self._take(line)

    def _write(self, line: dict[str, Any]) -> None:
        start = self._file.seek(0, os.SEEK_END)
        data = sealed_line(line)
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
            self._lines += 1
        except OSError as error:
            self._file.truncate(start)
            raise UserError(f"cannot write {str(self.path)!r}: {error.strerror}; {fix_for(error)} and repeat the command") from error

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole, _, torn = data.rpartition(b"\n")
        if torn:  # the process was killed while it wrote this line
            self._file.truncate(len(data) - len(torn))
        if not whole:
            self._write({"format": LEDGER_FORMAT, "version": LEDGER_VERSION})
            return
        self._lines = _read_lines(self.path, whole, self._take)

    def _take(self, line: dict[str, Any]) -> None:
        if line["event"] == "uploaded":
            self.sent[line["file"]] = Sent(file=line["file"], path=line["path"], url=line["url"], keys=list(line["keys"]))
        elif line["event"] == "created":
            self.sent[line["file"]].batch = line["batch"]
        elif line["event"] == "collected":
            del self.sent[line["file"]]
            self.errors |= {key: ItemError(*why) for key, why in line["errors"].items()}
        else:
            raise ValueError(f"event {line['event']!r}")


def check(path: Path) -> None:
    """Read a record without its lock, and check the checksums of its lines; a torn last line is no fault.

    Raises:
        UserError: it is damaged, or not such a file.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    _read_lines(path, whole, lambda line: None)


def _read_lines(path: Path, whole: bytes, take: Callable[[Any], None]) -> int:
    """Hand each event to `take`, and return the number of lines."""
    version, number = 0, 0
    for number, text in enumerate(whole.split(b"\n"), start=1):
        try:
            line, sealed = opened_line(text)
            if number == 1:
                version = line["version"]
                if line["format"] != LEDGER_FORMAT or version not in range(1, LEDGER_VERSION + 1):
                    raise ValueError(f"format {line['format']!r} version {version!r}")
            if version > 1 and not sealed:
                raise ValueError("its checksum is missing")
            if number > 1 and line.get("line", number) != number:
                raise ValueError(f"it was line {line['line']}")
            if number > 1:
                take(line)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{str(path)!r} is damaged in line {number} ({one_line(error)}); start over with --fresh") from error
    return number
