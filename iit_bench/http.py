"""HTTP by one library: requests with limits, which failures may pass, how long a server asks to wait, and a failure in a few words.

A server is a stranger: what it sends is bounded before it is read. An answer has a time as a whole, from the connection to its last byte, a
number of bytes, counted after decompression, and as JSON a depth. `huggingface_hub` and VLMEvalKit download with their own clients; the
former uses the same library, so its failures are read here too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from time import time as now
from typing import Any, Literal

import httpx2

from iit_bench.errors import UserError, one_line

# No usable answer; a status is none of them. UnicodeError: a host name that has no form in ASCII.
ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)
AGAIN = (408, 409, 425, 429)  # and 5xx: the same request may succeed later
CONNECT_SECONDS = 10.0
MOST_BYTES = 256 * 2**20  # of an answer after decompression: log-probabilities of a million tokens fit
MOST_ERROR_BYTES = 64 * 2**10  # of an answer with an error status; the rest is not read
MOST_DEPTH = 64  # lists and objects of JSON inside each other; answers of servers have ten
MOST_REDIRECTS = 10
GZIP = 16 + zlib.MAX_WBITS  # zlib's number of the format
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")  # of Retry-After; some servers give parts of seconds
_ERRNO = re.compile(r"\[Errno -?[0-9]+\] ")

Failure = Literal["no connection", "late", "broken off"]
Authorise = Callable[[httpx2.Request], httpx2.Request]


class UnusableError(ValueError):
    """An answer exceeds a limit of this module, or of whoever reads it; the same request would be answered likewise."""


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    phrase: str  # of the status, e.g. "Not Found"
    headers: Mapping[str, str]
    content: bytes  # decompressed; of an error the first MOST_ERROR_BYTES

    @property
    def text(self) -> str:
        """The content as UTF-8, with marks in the place of what is none."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The content as JSON.

        Raises:
            UnusableError: it is nested deeper than MOST_DEPTH.
            ValueError: it is no JSON.
        """
        return read_json(self.content)


class Session:
    """A client that keeps connections open, for any number of threads. Redirects are followed only on request. Proxies are read
    from the environment, passwords are not.

    Args:
        authorise: adds the credentials to a request, when it is sent.

    Raises:
        UserError: a proxy or the certificates in the environment cannot be used.
    """

    def __init__(self, authorise: Authorise | None = None) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        try:
            self._client = httpx2.AsyncClient(auth=authorise, limits=limits, headers={"Accept-Encoding": "gzip"})
        except OSError as error:
            why = one_line(error)
            raise UserError(f"the certificates in the environment cannot be read ({why}); correct or unset SSL_CERT_FILE") from error
        except (ValueError, ImportError) as error:
            raise UserError(f"the proxy in the environment cannot be used ({one_line(error)}); correct or unset HTTPS_PROXY") from error

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._client.aclose(), _loop()).result()

    def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        most: int | None = None,
        silence: float | None = None,
        follow: bool = False,
        **content: Any,
    ) -> Reply:
        """The answer to one request.

        Args:
            method: of HTTP.
            url: where to.
            seconds: that the whole answer may take, the connection included.
            most: bytes that it may have after decompression; None = MOST_BYTES.
            silence: seconds without a byte; None = only the whole counts.
            follow: redirects.
            content: as httpx2 takes it: `content`, `data`, `files`, `headers`.

        Raises:
            httpx2.HTTPError, httpx2.InvalidURL, UnicodeError: one of ERRORS; a status is none.
            UnusableError: it has more bytes, or is compressed in another way than was asked for.
        """
        sending = self._send(method, url, seconds, MOST_BYTES if most is None else most, silence, follow, content)
        return asyncio.run_coroutine_threadsafe(sending, _loop()).result()

    async def _send(
        self, method: str, url: str, seconds: float, most: int, silence: float | None, follow: bool, content: Mapping[str, Any]
    ) -> Reply:
        limits = httpx2.Timeout(silence, connect=CONNECT_SECONDS, pool=None)
        try:
            async with asyncio.timeout(seconds):
                request: httpx2.Request | None = self._client.build_request(method, url, timeout=limits, **content)
                for _ in range(MOST_REDIRECTS):
                    assert request is not None
                    response = await self._client.send(request, stream=True)
                    try:
                        request = response.next_request
                        if request is None or not follow:
                            body = await _body(response, most)
                            return Reply(response.status_code, response.reason_phrase, response.headers, body)
                    finally:
                        await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"the answer takes more than {seconds:g} seconds") from error
        raise UnusableError(f"it redirects more than {MOST_REDIRECTS} times")


async def _body(response: httpx2.Response, most: int) -> bytes:
    """The body, decompressed in steps, so that no more than `most` bytes of it are ever in memory; of an error its beginning."""
    failed = not response.is_success
    most = min(most, MOST_ERROR_BYTES) if failed else most
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise UnusableError("it is compressed in another way than was asked for")
    unpacked = zlib.decompressobj(GZIP) if "gzip" in encoding else None
    body = bytearray()
    async for part in response.aiter_raw():
        if unpacked is None:
            body += part[: most + 1 - len(body)]
        while unpacked and part and not unpacked.eof and len(body) <= most:
            try:
                body += unpacked.decompress(part, most + 1 - len(body))
            except zlib.error as error:
                raise httpx2.DecodingError(one_line(error)) from error
            part = unpacked.unconsumed_tail
        if len(body) > most:
            if failed:
                return bytes(body[:most])
            raise UnusableError(f"it has more than {most:,} bytes")
    if unpacked and body and not unpacked.eof:
        raise httpx2.DecodingError("the compressed body is incomplete")
    return bytes(body)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The loop in which all requests of this process are sent: one that is late is taken back from there, wherever it waits."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="http", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_loop.cache_clear)  # a forked process has no such thread


def read(url: str) -> bytes:
    """A small file.

    Raises:
        UserError: the server cannot be reached, refuses, or sends too much.
    """
    try:
        with Session() as session:
            reply = session.send("GET", url, seconds=60, follow=True)
    except (*ERRORS, UnusableError) as error:
        raise UserError(f"{url} cannot be read ({in_words(error)}); check the address and the connection") from error
    if reply.status != 200:
        raise UserError(f"{url} cannot be read (HTTP {reply.status}); check the address and the connection")
    return reply.content


def read_json(data: bytes) -> Any:
    """JSON that a stranger wrote.

    Raises:
        UnusableError: it is nested deeper than MOST_DEPTH.
        ValueError: it is no JSON.
    """
    too_deep = f"its JSON is nested more than {MOST_DEPTH} deep"
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise UnusableError(too_deep) from error
    level = _containers([content])
    for _ in range(MOST_DEPTH):
        level = [one for value in level for one in _containers(value.values() if isinstance(value, dict) else value)]
        if not level:
            return content
    raise UnusableError(too_deep)


def _containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, (dict, list))]


# ---------------------------------------------------------------- failures


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in AGAIN or status >= 500


def failure(error: Exception) -> Failure:
    """At which point one of ERRORS happened: before the server had the request, while it was waited for, or in the middle."""
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return "late"
    broken = httpx2.ReadError | httpx2.WriteError | httpx2.CloseError | httpx2.RemoteProtocolError | httpx2.DecodingError
    return "broken off" if isinstance(error, broken) else "no connection"


def in_words(error: Exception) -> str:
    """What went wrong, for brackets in a sentence: "Connection refused", "no answer in time"."""
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    words = _of_system(error) if isinstance(error, httpx2.ConnectError) else one_line(error)
    return _ERRNO.sub("", words).rstrip(".")


def _of_system(error: BaseException) -> str:
    """What the system says of a connection: the libraries' own words are "All connection attempts failed" and "Connect call failed"."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0 and not isinstance(cause, ssl.SSLError):
        return os.strerror(cause.errno)
    return one_line(cause or error)


def asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds to wait that a server asks for in `Retry-After`, a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError, OverflowError):  # the last: a year that the system's clock does not have
        return 0.0
