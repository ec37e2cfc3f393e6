"""One file over HTTP: what a killed download left is gone on with, and what arrives is checked against the checksum its publisher names.

(`huggingface_hub` downloads each file anew after a kill since its version 2, so only its client, addresses and credentials are used.)
"""

from __future__ import annotations

import contextlib
import errno
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

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before trying again; as many tries without a single new byte, and the download is given up
LONGEST = 600.0  # seconds that a server may ask to wait; the Hub counts requests over five minutes
CHUNK = 2**20  # bytes
TIMEOUT = 60.0  # seconds without a byte
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Advance = Callable[[int], None]  # bytes that arrived; negative where some have to be fetched again


@dataclass(frozen=True)
class Checksum:
    """What a file's publisher says about its bytes."""

    kind: str  # "sha256", "git sha1" (of a git blob), "md5", or "" = nobody says
    value: str = ""

    def matches(self, path: Path) -> bool:
        """Whether the file's bytes are those; True where nobody says."""
        if not self.kind:
            return True
        digest = hashlib.new("sha1" if self.kind == "git sha1" else self.kind, usedforsecurity=False)
        if self.kind == "git sha1":
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == self.value


@dataclass(frozen=True)
class RemoteFile:
    """A file that is published somewhere."""

    path: str  # where it goes, inside the data root, with "/"
    url: str
    size: int | None  # bytes; None = the server does not say
    checksum: Checksum
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the request; may hold the user's token


def download(file: RemoteFile, target: Path, advance: Advance, pauses: tuple[float, ...] = PAUSES) -> FetchedFile:
    """Fetch a file to `target`, which appears whole or not at all.

    Raises:
        MachineError: the server does not answer or breaks off again and again, or the disk is full. What arrived is kept for the next call.
        UserError: the server refuses, or sent other bytes than it announced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(file, target)
    if not file.checksum.kind:
        partial.unlink(missing_ok=True)  # nothing would tell whether its rest still fits
    got = partial.stat().st_size if partial.exists() else 0
    advance(got)
    try:
        _fetch(file, partial, advance, pauses)
        if not file.checksum.matches(partial):
            partial.unlink()
            raise UserError(
                f"what {file.url} sent for {file.path!r} has not the {file.checksum.kind} its publisher names ({file.checksum.value}); "
                "repeat the command to fetch it again"
            )
        with partial.open("rb") as arrived:
            made = FetchedFile(partial.stat().st_size, hashlib.file_digest(arrived, "sha256").hexdigest(), file.checksum.kind)
        os.replace(partial, target)
    except OSError as error:
        raise _machine_error(target, error) from error
    return made


def partial_of(file: RemoteFile, target: Path) -> Path:
    """Where the bytes of this very version of a file gather until it is whole."""
    version = file.checksum.value or hashlib.sha256(file.url.encode()).hexdigest()
    return target.with_name(f".{target.name}.{version[:16]}.partial")


def _fetch(file: RemoteFile, partial: Path, advance: Advance, pauses: tuple[float, ...]) -> None:
    """Append to `partial` until it is whole."""
    failed = 0  # tries in a row without a new byte
    same: dict[str, str] = {}  # header that lets the server go on only with the same version
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        if before and before == file.size:
            return
        try:
            if _stream(file, partial, before, advance, same):
                return
            reason, asked = "the connection ended early", 0.0
        except OfflineModeIsEnabled as error:
            raise UserError(f"cannot fetch {file.path!r}: HF_HUB_OFFLINE is set; unset it to fetch") from error
        except _Busy as error:
            reason, asked = str(error), error.pause
        except http.ERRORS as error:
            reason, asked = http.in_words(error), 0.0
        arrived = (partial.stat().st_size if partial.exists() else 0) - before
        failed = 0 if arrived > 0 else failed + 1
        if failed > len(pauses):
            raise MachineError(f"{file.url} cannot be fetched ({reason})", "what arrived is kept; repeat the command to go on")
        time.sleep(max(asked, pauses[max(failed, 1) - 1] if pauses else 0))


class _Busy(Exception):
    """The server answers that it cannot now; `pause` is how many seconds it asks to wait."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server answers {status}")
        self.pause = min(http.asked_wait(headers), LONGEST)


def _stream(file: RemoteFile, partial: Path, have: int, advance: Advance, same: dict[str, str]) -> bool:
    """One request; True if the file is whole after it."""
    headers = {**file.headers, **same, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT) as response:
        _refuse(file, response)
        if have and (response.status_code == 416 or _start(response) != have):  # it sends the whole file, or this part is beyond its end
            partial.unlink()
            advance(-have)
            have = 0
            if response.status_code != 200:
                return False
        if (tag := response.headers.get("etag", "")) and not tag.startswith("W/"):
            same["If-Range"] = tag
        expected = have + int(response.headers["content-length"]) if "content-length" in response.headers else file.size
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
    """The first byte's place in the file, as the answer says."""
    if response.status_code != 206:
        return 0
    return int(response.headers.get("content-range", "bytes 0-").removeprefix("bytes ").split("-")[0])


def _refuse(file: RemoteFile, response: Any) -> None:
    """Tell a request that failed for good from one that is worth repeating."""
    code = response.status_code
    if code in (200, 206, 416):
        return
    if http.may_pass(code):
        raise _Busy(code, response.headers)
    why = {401: "; log in with `hf auth login`", 403: "; accept its terms on its page, and log in with `hf auth login`"}.get(code, "")
    raise UserError(f"{file.url} cannot be fetched: the server answers {code}{why or '; check the name, or put the file there by hand'}")


def size_of(url: str) -> int | None:
    """Bytes of a file as its server tells them without sending it; None where it does not.

    Raises:
        MachineError: there is no connection.
        UserError: HF_HUB_OFFLINE is set.
    """
    with reaching(url):
        response = get_session().head(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT)
        length = response.headers.get("content-length", "")
        return int(length) if response.status_code == 200 and length.isdigit() else None


@contextlib.contextmanager
def reaching(url: str) -> Iterator[None]:
    """One sentence where a server cannot be reached."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError(f"cannot ask {url}: HF_HUB_OFFLINE is set; unset it to fetch") from error
    except (*http.ERRORS, ConnectionError) as error:
        raise MachineError(f"{url} cannot be reached ({http.in_words(error)})", "check the connection and repeat the command") from error


def _machine_error(target: Path, error: OSError) -> MachineError:
    full = error.errno in _FULL
    fix = "free some space and repeat the command; what arrived is kept" if full else "check the folder and repeat the command"
    return MachineError(f"{'the disk is full' if full else 'cannot write'}: {str(target)!r} ({error.strerror or error})", fix)
