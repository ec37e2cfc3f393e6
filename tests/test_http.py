"""HTTP in one place: which failure is which, in which words, and what a server asks for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from iit_bench import http
from iit_bench.errors import UserError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[[bytes | None], str]]:
    """serve(bytes) → address of a server that sends them to whoever asks and hangs up; None = it never answers."""
    opened: list[socket.socket] = []

    def start(answer: bytes | None) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:  # closed
                    return
                opened.append(connection)
                connection.recv(65536)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/file"

    yield start
    for one in opened:
        one.close()


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


@pytest.mark.parametrize(
    ("answer", "failure", "words"),
    [
        ("nobody", "no connection", "Connection refused"),
        ("address", "no connection", "unsupported protocol"),
        (None, "late", "no answer in time"),
        (b"", "broken off", "disconnected without sending a response"),
        (OK + b"abc", "broken off", "peer closed connection"),
        (b"no HTTP at all\r\n\r\n", "broken off", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", "broken off", "incorrect header check"),
    ],
)
def test_a_failure_has_its_kind_and_words(serve, answer, failure, words):
    url = {"nobody": nobody(), "address": "htp://x/file"}.get(answer) if isinstance(answer, str) else serve(answer)
    with http.session() as client, pytest.raises(http.ERRORS) as found:
        client.get(url, timeout=http.timeout(0.3))
    assert http.failure(found.value) == failure
    assert words in http.in_words(found.value) and "Errno" not in http.in_words(found.value)


def test_a_file_is_read_and_what_goes_wrong_is_one_sentence(serve):
    assert http.read(serve(OK + b"data")) == b"data"
    with pytest.raises(UserError, match=r"/file cannot be read \(HTTP 404\); check the address and the connection"):
        http.read(serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(UserError, match=r"/file cannot be read \(Connection refused\); check"):
        http.read(nobody())


def test_a_session_does_not_follow_a_redirect(serve):
    with http.session() as client:
        reply = client.get(serve(f"HTTP/1.1 302 Found\r\nLocation: {nobody()}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert reply.status_code == 302


def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "carrier-pigeon://127.0.0.1")
    with pytest.raises(UserError, match=r"the proxy in the environment cannot be used \(.*\); correct or unset HTTPS_PROXY"):
        http.session()


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_may_pass(status):
    assert http.may_pass(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422])
def test_what_does_not(status):
    assert not http.may_pass(status)


def test_a_wait_is_asked_for_in_seconds_or_by_date(monkeypatch):
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(http, "now", moment.timestamp)
    later, earlier = (format_datetime(moment + timedelta(seconds=seconds), usegmt=True) for seconds in (90, -90))
    waits = {"7": 7, "0.5": 0.5, later: 90, earlier: 0, "-3": 0, "soon": 0, "": 0}
    assert {value: http.asked_wait({"Retry-After": value}) for value in waits} == waits
    assert http.asked_wait({}) == 0


def test_a_host_name_without_a_form_in_ascii_is_no_connection() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        http.read(f"http://{'a' * 70}.invalid/file")


def test_certificates_that_cannot_be_read_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(UserError, match="correct or unset SSL_CERT_FILE"):
        http.session()
