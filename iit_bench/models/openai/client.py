"""HTTP to an OpenAI-compatible server: retries with backoff, Retry-After, and what each failure means.

The key is read from the environment for each request and goes only into its Authorization header; it is blanked in texts of the server
that repeat it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from httpx2 import Request

from iit_bench import http
from iit_bench.errors import UserError
from iit_bench.server_options import ServerOptions

Read = TypeVar("Read")

# In the place of an HTTP status: no connection, no answer in time, or a connection that broke.
NO_CONNECTION, TIMED_OUT, BROKEN_OFF = 0, -1, -2
STATUS: dict[http.Failure, int] = {"no connection": NO_CONNECTION, "late": TIMED_OUT, "broken off": BROKEN_OFF}
BUSY = (*http.AGAIN, 503)  # for any request
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between tries, doubled each time
LONGEST_ASKED_WAIT = 600.0  # a server that asks for a longer pause ends the run
SHOWN = 300  # characters of a server's message that an error repeats
UNUSABLE = "unusable answer"  # reason in errors.jsonl of an answer that exceeds a limit
MOST_WORDS = 100_000  # characters of it that are looked through for them
FROM_ROOT = ("/version", "/server_info", "/get_server_info", "/generate")  # paths of servers that are not below the API's /v1
FILE_SECONDS = 3600.0  # that a file of the batch API may take as a whole; --timeout is then without a byte
MOST_FILE_BYTES = 2**31  # of a file of the batch API, which has up to 50,000 answers
# What reading a reply of another shape raises; OverflowError: a number that is too large.
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)


class RejectedError(Exception):
    """The server rejects the request (3xx or 4xx): the same request will be rejected again."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(f"HTTP {status}: {words}")
        self.status = status
        self.code = code  # the server's own, e.g. "context_length_exceeded"; "" where it gives none


class UnavailableError(Exception):
    """No usable answer."""

    def __init__(self, words: str, status: int, wait: float = 0.0) -> None:
        super().__init__(words)
        self.status = status  # of the last try: of HTTP (200: what came is no completion), NO_CONNECTION, TIMED_OUT or BROKEN_OFF
        self.wait = wait  # seconds that the server asks to wait

    @property
    def may_be_the_request(self) -> bool:
        """Whether another request might succeed: the server is up and not busy. Some servers break the connection if a request fails."""
        return self.status not in (NO_CONNECTION, *BUSY)


class UnusableError(UnavailableError):
    """The answer exceeds a limit of bytes, depth or numbers: the same request would be answered likewise, so it is not repeated."""


class Client:
    """One server, asked from any number of threads.

    Raises:
        UserError: not an address, or options out of range.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.url = _checked_url(options.base_url)
        for name, least in (("concurrency", 1), ("retries", 0), ("timeout", 0.001), ("price_in", 0), ("price_out", 0)):
            value = getattr(options, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value} is too low; give {least} or more")
        self.options = options
        if not self._key().isprintable() or not self._key().isascii():  # the error about the header would repeat it
            raise UserError(f"the key in ${options.api_key_env} has characters that no key has; set it again")
        self._session = http.Session(self._authorise)
        self._not_before = 0.0  # on the monotonic clock: all threads wait for an overloaded server

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[Any], Read],
        retries: int | None = None,
        existing: Callable[[], Read | None] = lambda: None,
    ) -> Read:
        """The server's JSON reply, read by `read`, which raises one of MALFORMED if the reply has another shape.

        A request that makes something, and must not make it twice, gives `existing`: it looks after each failed try for what that try may
        have made.

        Raises:
            RejectedError: the server rejects the request.
            UnavailableError: no usable answer after all tries.
        """
        return self._repeat(lambda: self._try(path, body, read), retries, existing)

    def read(self, path: str, read: Callable[[Any], Read], retries: int | None = None) -> Read:
        """As `post`, of a GET request."""
        return self._repeat(lambda: self._read_reply(self._send("GET", path), read), retries)

    def download(self, path: str) -> bytes:
        """A file of the server, as it is. Raises as `post`."""
        return self._repeat(lambda: self._checked(self._send("GET", path, **self._of_file())).content, None)

    def upload(self, path: str, name: str, data: bytes, read: Callable[[Any], Read]) -> Read:
        """As `post`, of a form with a file for the batch API."""
        form = {"data": {"purpose": "batch"}, "files": {"file": (name, data, "application/jsonl")}, **self._of_file()}
        return self._repeat(lambda: self._read_reply(self._send("POST", path, **form), read), None)

    def _repeat(self, call: Callable[[], Read], retries: int | None, existing: Callable[[], Read | None] = lambda: None) -> Read:
        tries = 1 + (self.options.retries if retries is None else retries)
        wait = FIRST_WAIT
        for left in reversed(range(tries)):
            self._wait_until_allowed()
            try:
                return call()
            except UnusableError:
                raise
            except UnavailableError as error:
                trouble = error
            if trouble.wait > LONGEST_ASKED_WAIT:
                raise UnavailableError(f"{trouble}; it asks to wait {trouble.wait:.0f} seconds", trouble.status)
            if trouble.wait:
                self._not_before = max(self._not_before, monotonic() + trouble.wait)
            if left:
                sleep(max(wait, trouble.wait))
                wait = min(2 * wait, LONGEST_WAIT)
            if (found := existing()) is not None:
                return found
        raise UnavailableError(f"{trouble} ({tries} {'tries' if tries > 1 else 'try'})", trouble.status)

    def _try(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        reply = self._send("POST", path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        return self._read_reply(reply, read)

    def _send(self, method: str, path: str, **how: Any) -> http.Reply:
        try:
            return self._session.send(method, self._address(path), **{"seconds": self.options.timeout, **how})
        except http.UnusableError as error:
            raise UnusableError(f"its answer is not read: {error}", 200) from error
        except http.ERRORS as error:
            raise UnavailableError(self._without_key(_why(error)), STATUS[http.failure(error)]) from error

    def _of_file(self) -> dict[str, Any]:
        seconds = self.options.timeout
        return {"seconds": max(seconds, FILE_SECONDS), "silence": seconds, "most": MOST_FILE_BYTES}

    def get(self, path: str) -> Any:
        """JSON that the server returns without a request body, or None."""
        try:
            return self._session.send("GET", self._address(path), seconds=http.CONNECT_SECONDS).json()
        except (*http.ERRORS, ValueError):
            return None

    def _checked(self, reply: http.Reply) -> http.Reply:
        status = reply.status
        if http.may_pass(status):
            raise UnavailableError(f"HTTP {status}: {self._error_of(reply)[1]}", status, http.asked_wait(reply.headers))
        if status != 200:
            code, words = self._error_of(reply)
            raise RejectedError(status, code, words)
        return reply

    def _read_reply(self, reply: http.Reply, read: Callable[[Any], Read]) -> Read:
        self._checked(reply)
        try:
            content = reply.json()
            # Some gateways send errors with status 200.
            if isinstance(content, dict) and content.get("error") and not content.get("choices"):
                raise ValueError(message_of(content)[1])
            return read(content)
        except MALFORMED as error:
            kind = UnusableError if isinstance(error, http.UnusableError) else UnavailableError
            why, shown = self.shown(str(error)), self.shown(reply.text)
            raise kind(f"it answers what is not a completion ({why}): {shown!r}", reply.status) from error

    def _error_of(self, reply: http.Reply) -> tuple[str, str]:
        """Code and message of an error, from OpenAI's form, FastAPI's or plain text."""
        try:
            code, words = message_of(reply.json())
        except ValueError:
            code, words = "", reply.text
        return code, self.shown(words or reply.phrase)

    def shown(self, words: str) -> str:
        """The beginning of a server's words, as one line without the key."""
        return self._without_key(_one_line(self._without_key(words)[:MOST_WORDS]))[:SHOWN]

    @property
    def root(self) -> str:
        """The address without the API's version, for paths of FROM_ROOT; "" where it does not end in /v1."""
        return self.url.removesuffix("/v1") if self.url.endswith("/v1") else ""

    def _address(self, path: str) -> str:
        return (self.root if path.partition("?")[0] in FROM_ROOT else self.url) + path

    # ------------------------------------------------------------ waiting, the key

    def _wait_until_allowed(self) -> None:
        while (left := self._not_before - monotonic()) > 0:
            sleep(left)

    def _authorise(self, request: Request) -> Request:
        if key := self._key():
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def _key(self) -> str:
        return os.environ.get(self.options.api_key_env, "").strip()

    def _without_key(self, words: str) -> str:
        key = self._key()
        return words.replace(key, "***") if key else words


def _checked_url(url: str | None) -> str:
    if not url:
        raise UserError("a model openai:NAME needs the address of its server; add --base-url, e.g. --base-url http://localhost:8000/v1")
    no_address = f"--base-url {url!r} is no address; it looks like http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
    except ValueError as error:  # a bracket that is not closed
        raise UserError(no_address) from error
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(no_address)
    if "@" in parts.netloc or parts.query:
        raise UserError("--base-url holds more than an address, and would be written to run.json; put the key into $OPENAI_API_KEY instead")
    return url.rstrip("/")


def message_of(content: Any) -> tuple[str, str]:
    """Code and message of a JSON error, or of what holds one; "" where there is none."""
    error = content.get("error", content.get("detail", content.get("message", ""))) if isinstance(content, dict) else content
    if isinstance(error, dict):
        return str(error.get("code") or ""), str(error.get("message") or error)
    return "", error if isinstance(error, str) else json.dumps(error)


def _why(error: Exception) -> str:
    """What went wrong below HTTP."""
    if http.failure(error) == "late":
        return "it does not answer in time; give more with --timeout"
    return f"it does not answer ({http.in_words(error)})"


def _one_line(words: str) -> str:
    """A server's words as one line that a terminal can show: no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(words.split()))
