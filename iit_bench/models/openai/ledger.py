"""What a run has sent to a provider's batch API: append-only JSON lines in the run folder, so that a killed run finds its batches again.

Line 1: {"format": "iit-bench/batches", "version": 1}. Then one line per event:
{"event": "uploaded", "url", "file", "path", "keys"}, {"event": "created", "file", "batch"} and
{"event": "collected", "file", "status", "errors": {key: [reason, detail]}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from iit_bench.errors import ItemError, UserError
from iit_bench.storage.atomic import fix_for, unwritable
from iit_bench.storage.locks import lock_file
from iit_bench.storage.tables import canonical_json

LEDGER_FORMAT, LEDGER_VERSION = "iit-bench/batches", 1


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
        self._write(line)
        self._take(line)

    def _write(self, line: dict[str, Any]) -> None:
        start = self._file.seek(0, os.SEEK_END)
        data = (canonical_json(line) + "\n").encode()
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
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
        for number, text in enumerate(whole.split(b"\n"), start=1):
            try:
                line = json.loads(text)
                if number > 1:
                    self._take(line)
                elif (line["format"], line["version"]) != (LEDGER_FORMAT, LEDGER_VERSION):
                    raise ValueError(f"format {line['format']!r} version {line['version']!r}")
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{str(self.path)!r} is damaged in line {number} ({error}); start over with --fresh") from error

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
