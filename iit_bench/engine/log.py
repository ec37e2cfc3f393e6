"""The response log of a run: append-only JSON lines, one per answered request, so that a killed run resumes where it stopped.

Line 1: {"format": "iit-bench/responses", "version": 1}. Every other line: {"key": …, "kind": "score" | "generate", …fields of the result}.
`key` hashes all that determines the answer (see plan.request_key).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, ScoreResult
from iit_bench.storage.locks import lock_file
from iit_bench.storage.tables import canonical_json, decode

LOG_FORMAT = "iit-bench/responses"
LOG_VERSION = 1
Response = ScoreResult | GenerateResult
_KINDS: dict[str, type[Response]] = {"score": ScoreResult, "generate": GenerateResult}


class ResponseLog:
    """Open log of one run folder; a context manager that holds a lock while it is open. `fresh` empties it, once the lock is held.

    Raises:
        UserError: the file is foreign, damaged before its last line, locked by another process, or cannot be written.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.responses: dict[str, Response] = {}
        try:
            self._file = path.open("a+b", buffering=0)  # a full disk must fail in `append`, not on closing
        except OSError as error:
            raise UserError(f"cannot write {str(path)!r}: {error.strerror}; check the permissions of --out") from error
        try:
            lock_file(self._file, path)
            if fresh:
                self._file.truncate(0)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResponseLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def append(self, responses: Mapping[str, Response]) -> None:
        """Log answers and make them durable. Keys that are logged already are skipped.

        Raises:
            UserError: the disk is full or the file is gone.
        """
        new = {key: response for key, response in responses.items() if key not in self.responses}
        self._write([_line(key, response) for key, response in new.items()])
        self.responses |= new

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        start = self._file.seek(0, os.SEEK_END)
        data = "".join(canonical_json(line) + "\n" for line in lines).encode()
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise UserError(
                f"cannot write {str(self.path)!r}: {error.strerror}; free some space and repeat the command to resume"
            ) from error

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole, _, torn = data.rpartition(b"\n")
        if torn:  # the process was killed while it wrote this line: its request is asked again
            self._file.truncate(len(data) - len(torn))
        lines = whole.split(b"\n") if whole else []
        if not lines:
            self._write([{"format": LOG_FORMAT, "version": LOG_VERSION}])
            return
        for number, line in enumerate(lines, start=1):
            try:
                self._take(json.loads(line), number)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{str(self.path)!r} is damaged in line {number} ({error}); start over with --fresh") from error

    def _take(self, line: dict[str, Any], number: int) -> None:
        if number > 1:
            self.responses[line["key"]] = decode(_KINDS[line["kind"]], line)
        elif (line["format"], line["version"]) != (LOG_FORMAT, LOG_VERSION):
            raise ValueError(f"format {line['format']!r} version {line['version']!r}, not {LOG_FORMAT!r} version {LOG_VERSION}")


def _line(key: str, response: Response) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if isinstance(response, cls))
    return {"key": key, "kind": kind, **dataclasses.asdict(response)}
