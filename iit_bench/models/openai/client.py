"""HTTP to an OpenAI-compatible server: retries with backoff, Retry-After, and what each failure means.

The key is read from the environment for each request and goes into its Authorization header alone; texts of the server that repeat it are
blanked before anyone sees them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from httpx2 import Request, Response

from iit_bench import http
from iit_bench.errors import UserError
from iit_bench.types import ServerOptions

Read = TypeVar("Read")

NO_CONNECTION, TIMED_OUT, BROKEN_OFF = (
    0,
    -1,
    -2,
)  # in the place of an HTTP status: no connection, no answer in time, or a connection that broke
STATUS: dict[http.Failure, int] = {"no connection": NO_CONNECTION, "late": TIMED_OUT, "broken off": BROKEN_OFF}
BUSY = (*http.AGAIN, 503)  # whatever was asked for
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between tries, doubled each time
LONGEST_ASKED_WAIT = 600.0  # a server that asks to be left alone for longer ends the run
SHOWN = 300  # characters of a server's own words in an error
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError)  # what reading a reply of another shape raises


class RejectedError(Exception):
    """The server understood and said no (4xx): the same request will be refused again."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(f"HTTP {status}: {words}")
        self.status = status
        self.code = code  # the server's own, e.g. "context_length_exceeded"; "" where it gives none


class UnavailableError(Exception):
    """No usable answer."""

    def __init__(self, words: str, status: int, wait: float = 0.0) -> None:
        super().__init__(words)
        self.status = status  # of the last try: of HTTP (200: what came is no completion), NO_CONNECTION, TIMED_OUT or BROKEN_OFF
        self.wait = wait  # seconds that the server asks to be left alone

    @property
    def may_be_the_request(self) -> bool:
        """Whether another request might do better: the server is there and not merely busy. Some break the connection where they fail."""
        return self.status not in (NO_CONNECTION, *BUSY)


class Client:
    """One server, asked from any number of threads.

    Raises:
        UserError: an address that is none, or options out of range.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.url = _checked_url(options.base_url)
        for name, least in (("concurrency", 1), ("retries", 0), ("timeout", 0.001), ("price_in", 0), ("price_out", 0)):
            value = getattr(options, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value} is too low; give {least} or more")
        self.options = options
        if not self._key().isprintable() or not self._key().isascii():  # and it would be repeated in the complaint about the header
            raise UserError(f"the key in ${options.api_key_env} has characters that no key has; set it again")
        self._session = http.session(self._authorise)
        self._not_before = 0.0  # on the monotonic clock: a server that is overloaded is left alone by all threads

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read], retries: int | None = None) -> Read:
        """The server's JSON reply as `read` understands it; `read` raises one of MALFORMED where it is another thing.

        Raises:
            RejectedError: it said no.
            UnavailableError: no usable answer after all tries.
        """
        tries = 1 + (self.options.retries if retries is None else retries)
        wait = FIRST_WAIT
        for left in reversed(range(tries)):
            self._leave_alone()
            try:
                return self._try(path, body, read)
            except UnavailableError as error:
                trouble = error
            if trouble.wait > LONGEST_ASKED_WAIT:
                raise UnavailableError(f"{trouble}; it asks to wait {trouble.wait:.0f} seconds", trouble.status)
            if trouble.wait:
                self._not_before = max(self._not_before, monotonic() + trouble.wait)
            if left:
                sleep(max(wait, trouble.wait))
                wait = min(2 * wait, LONGEST_WAIT)
        raise UnavailableError(f"{trouble} ({tries} {'tries' if tries > 1 else 'try'})", trouble.status)

    def _try(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        headers, seconds = {"Content-Type": "application/json"}, http.timeout(self.options.timeout)
        try:
            reply = self._session.post(self.url + path, content=json.dumps(body), headers=headers, timeout=seconds)
        except http.ERRORS as error:
            raise UnavailableError(self._without_key(_why(error)), STATUS[http.failure(error)]) from error
        return self._understand(reply, read)

    def get(self, path: str) -> Any:
        """What the server tells about itself, or None where it does not."""
        try:
            return json.loads(self._session.get(self.url + path).content)
        except (*http.ERRORS, ValueError):
            return None

    def _understand(self, reply: Response, read: Callable[[Any], Read]) -> Read:
        status = reply.status_code
        if http.may_pass(status):
            raise UnavailableError(f"HTTP {status}: {self._words(reply)[1]}", status, http.asked_wait(reply.headers))
        if status != 200:
            code, words = self._words(reply)
            raise RejectedError(status, code, words)
        try:
            found = json.loads(reply.content)
            if isinstance(found, dict) and found.get("error") and not found.get("choices"):  # some gateways say so with status 200
                raise ValueError(_message(found)[1])
            return read(found)
        except MALFORMED as error:
            why, shown = (self._without_key(_one_line(words))[:SHOWN] for words in (str(error), reply.text))
            raise UnavailableError(f"it answers what is not a completion ({why}): {shown!r}", status) from error

    def _words(self, reply: Response) -> tuple[str, str]:
        """Code and message of an error, from OpenAI's form, FastAPI's or plain text."""
        try:
            code, words = _message(json.loads(reply.content))
        except ValueError:
            code, words = "", reply.text
        return code, self._without_key(_one_line(words or reply.reason_phrase))[:SHOWN]

    # ------------------------------------------------------------ manners

    def _leave_alone(self) -> None:
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
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(f"--base-url {url!r} is no address; it looks like http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query:
        raise UserError("--base-url holds more than an address, and would be written to run.json; put the key into $OPENAI_API_KEY instead")
    return url.rstrip("/")


def _message(found: Any) -> tuple[str, str]:
    """(code, message) of a JSON error."""
    error = found.get("error", found.get("detail", found.get("message", ""))) if isinstance(found, dict) else found
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
