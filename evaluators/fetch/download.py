"""One file over HTTP: resumes what a killed download left, and checks what arrives against the checksum that its publisher states.

(`huggingface_hub` downloads each file anew after a kill since its version 2, so only its client, addresses and credentials are used.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import get_session

from iit_bench import http
from iit_bench.data.fetched import FetchedFile
from iit_bench.errors import MachineError, UserError
from iit_bench.storage.atomic import fix_for

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try; the download fails after as many tries in a row without a new byte
LONGEST = 600.0  # seconds that a server may ask to wait; the Hub counts requests over five minutes
CHUNK = 2**20  # bytes
DIGITS, NOWHERE = 20, -1  # a number of a header has fewer; the place of an answer that does not name one
TIMEOUT = 60.0  # seconds without a byte

Advance = Callable[[int], None]  # takes the bytes that arrived; negative if some have to be fetched again


@dataclass(frozen=True)
class Checksum:
    """The checksum that a file's publisher states."""

    kind: str  # "sha256", "git sha1" (of a git blob), "md5", or "" = none is known
    value: str = ""

    def matches(self, path: Path) -> bool:
        """Whether the file's bytes have this checksum; True if none is known."""
        if not self.kind:
            return True
        digest = hashlib.new("sha1" if self.kind == "git sha1" else self.kind, usedforsecurity=False)
        if self.kind == "git sha1":
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == self.value


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A published file, and where it belongs."""

    path: str  # inside the data root, with "/"
    url: str
    size: int | None  # bytes; None = the server does not state it
    checksum: Checksum
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the request; may hold the user's token


def download(file: RemoteFile, target: Path, advance: Advance, pauses: tuple[float, ...] = PAUSES) -> FetchedFile:
    """Fetch a file to `target`, which then exists as a whole or not at all.

    Raises:
        MachineError: the server does not answer or breaks off repeatedly, or the disk is full. What arrived is kept for the next call.
        UserError: the server refuses, or sent bytes with another checksum.
    """
    partial = partial_of(file, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not file.checksum.kind:
            partial.unlink(missing_ok=True)  # nothing could show whether the rest still belongs to it
        advance(_size(partial))
        _fetch(file, partial, advance, pauses)
        if not file.checksum.matches(partial):
            partial.unlink()
            raise UserError(
                f"what {file.url} sent for {file.path!r} does not have the {file.checksum.kind} that its publisher states "
                f"({file.checksum.value}); "
                "repeat the command to fetch it again"
            )
        with partial.open("rb") as arrived:
            sha256 = hashlib.file_digest(arrived, "sha256").hexdigest()
        fetched = FetchedFile(size=_size(partial), sha256=sha256, checked=file.checksum.kind)
        os.replace(partial, target)
    except OSError as error:
        raise _machine_error(target, error) from error
    return fetched


def partial_of(file: RemoteFile, target: Path) -> Path:
    """Path where the bytes of this version of a file are collected until it is whole."""
    version = file.checksum.value or hashlib.sha256(file.url.encode()).hexdigest()
    return target.with_name(f".{target.name}.{version[:16]}.partial")


def _fetch(file: RemoteFile, partial: Path, advance: Advance, pauses: tuple[float, ...]) -> None:
    """Append to `partial` until it is whole."""
    failed = 0  # tries in a row without a new byte
    condition: dict[str, str] = {}  # header by which the server continues the same version only
    while True:
        before = _size(partial)
        if before and before == file.size:
            return
        try:
            if _stream(file, partial, before, advance, condition):
                return
            reason, pause = "the connection ended early", 0.0
        except OfflineModeIsEnabled as error:
            raise UserError(f"cannot fetch {file.path!r}: HF_HUB_OFFLINE is set; unset it to fetch") from error
        except _Busy as error:
            reason, pause = str(error), error.pause
        except http.ERRORS as error:
            reason, pause = http.in_words(error), 0.0
        failed = 0 if _size(partial) > before else failed + 1
        if failed > len(pauses):
            raise MachineError(f"{file.url} cannot be fetched ({reason})", "what arrived is kept; repeat the command to resume")
        time.sleep(max(pause, pauses[max(failed, 1) - 1] if pauses else 0))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Busy(Exception):
    """The server is unavailable for now; `pause` is how many seconds it asks to wait."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server answers {status}")
        self.pause = min(http.asked_wait(headers), LONGEST)


def _stream(file: RemoteFile, partial: Path, have: int, advance: Advance, condition: dict[str, str]) -> bool:
    """Append what one request gives; True if the file is whole after it."""
    headers = {**file.headers, **condition, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT) as response:
        _refuse(file, response)
        if have and (response.status_code == 416 or _start(response) != have):  # it sends the whole file, or the part is beyond its end
            partial.unlink()
            advance(-have)
            have = 0
            if response.status_code != 200:
                return False
        if (tag := response.headers.get("etag", "")) and not tag.startswith("W/"):
            condition["If-Range"] = tag
        length = _number(response.headers.get("content-length", ""))
        expected = file.size if length is None else have + length
        with partial.open("ab") as out:
            have += _append(response, out, advance)
    return expected is None or have >= expected


def _append(response: Any, out: BinaryIO, advance: Advance) -> int:
    count = 0
    for chunk in response.iter_raw():
        out.write(chunk)
        out.flush()
        count += len(chunk)
        advance(len(chunk))
    return count


def _start(response: Any) -> int:
    """Position in the file of the first byte of an answer; NOWHERE if the server does not say it in numbers."""
    if response.status_code != 206:
        return 0
    start = response.headers.get("content-range", "bytes 0-").removeprefix("bytes ").split("-")[0]
    number = _number(start)
    return NOWHERE if number is None else number


def _number(text: str) -> int | None:
    """A number of a header; None where a server writes anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < DIGITS else None


def _refuse(file: RemoteFile, response: Any) -> None:
    """Raise _Busy if a failed request is worth repeating, UserError if not."""
    code = response.status_code
    if code in (200, 206, 416):
        return
    if http.may_pass(code):
        raise _Busy(code, response.headers)
    why = {401: "; log in with `hf auth login`", 403: "; accept its terms on its page, and log in with `hf auth login`"}.get(code, "")
    raise UserError(f"{file.url} cannot be fetched: the server answers {code}{why or '; check the name, or put the file there by hand'}")


def size_of(url: str) -> int | None:
    """Size in bytes that a server states without sending the file; None if it does not.

    Raises:
        MachineError: the server cannot be reached.
        UserError: HF_HUB_OFFLINE is set.
    """
    with reaching(url):
        response = get_session().head(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT)
        return _number(response.headers.get("content-length", "")) if response.status_code == 200 else None


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """Raises one sentence if a server cannot be reached."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError(f"cannot reach {url}: HF_HUB_OFFLINE is set; unset it to fetch") from error
    except (*http.ERRORS, ConnectionError) as error:
        raise MachineError(f"{url} cannot be reached ({http.in_words(error)})", "check the connection and repeat the command") from error


def _machine_error(target: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot write {str(target)!r} ({error.strerror or error})", f"{fix_for(error)} and repeat the command to resume")
