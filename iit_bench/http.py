"""HTTP by one library: sessions, small requests, which failures may pass, how long a server asks to wait, and a failure in a few words.

`huggingface_hub` and VLMEvalKit download with their own clients; the former uses the same library, so its failures are read here too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from time import time as now
from typing import Any, Literal

import httpx2

from iit_bench.errors import UserError, one_line

# No usable answer; a status is none of them. UnicodeError: a host name that has no form in ASCII.
ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)
AGAIN = (408, 409, 425, 429)  # and 5xx: the same request may succeed later
CONNECT_SECONDS = 10.0
_ERRNO = re.compile(r"\[Errno -?[0-9]+\] ")

Failure = Literal["no connection", "late", "broken off"]
Authorise = Callable[[httpx2.Request], httpx2.Request]


def session(authorise: Authorise | None = None) -> httpx2.Client:
    """A client that keeps connections open, for any number of threads. It follows no redirects, and reads proxies from the environment but
    no passwords.

    Args:
        authorise: adds the credentials to a request, when it is sent.

    Raises:
        UserError: a proxy or the certificates in the environment cannot be used.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        return httpx2.Client(auth=authorise, limits=limits, timeout=httpx2.Timeout(CONNECT_SECONDS, pool=None))
    except OSError as error:
        why = one_line(error)
        raise UserError(f"the certificates in the environment cannot be read ({why}); correct or unset SSL_CERT_FILE") from error
    except (ValueError, ImportError) as error:
        raise UserError(f"the proxy in the environment cannot be used ({one_line(error)}); correct or unset HTTPS_PROXY") from error


def timeout(seconds: float) -> httpx2.Timeout:
    """Limits of a request: `seconds` without a byte, and CONNECT_SECONDS for the connection."""
    return httpx2.Timeout(seconds, connect=CONNECT_SECONDS, pool=None)


def read(url: str) -> bytes:
    """A small file.

    Raises:
        UserError: the server cannot be reached or refuses.
    """
    try:
        with session() as client:
            return client.get(url, follow_redirects=True, timeout=timeout(60)).raise_for_status().content
    except ERRORS as error:
        raise UserError(f"{url} cannot be read ({in_words(error)}); check the address and the connection") from error


def post_json(client: httpx2.Client, url: str, body: Mapping[str, Any], headers: Mapping[str, str], seconds: float) -> Any:
    """The JSON that a server answers to JSON, within `seconds` without a byte.

    Raises:
        httpx2.HTTPError, httpx2.InvalidURL: one of ERRORS; a status of 4xx and 5xx too.
        ValueError: the answer is not JSON.
    """
    sent = {**headers, "Content-Type": "application/json"}
    return client.post(url, content=json.dumps(body), headers=sent, timeout=timeout(seconds)).raise_for_status().json()


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
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return _ERRNO.sub("", one_line(error)).rstrip(".")


def asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds to wait that a server asks for in `Retry-After`, a number or a date; 0 if it does not."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, TypeError):
        return 0.0
