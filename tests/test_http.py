"""HTTP in one place: which failure is which, in which words, and what a server asks for."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
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
    with http.Session() as session, pytest.raises(http.ERRORS) as found:
        session.send("GET", url, seconds=0.3)
    assert http.failure(found.value) == failure
    assert words in http.in_words(found.value) and "Errno" not in http.in_words(found.value)


def test_a_file_is_read_and_what_goes_wrong_is_one_sentence(serve):
    assert http.read(serve(OK + b"data")) == b"data"
    with pytest.raises(UserError, match=r"/file cannot be read \(HTTP 404\); check the address and the connection"):
        http.read(serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(UserError, match=r"/file cannot be read \(Connection refused\); check"):
        http.read(nobody())


def test_a_session_does_not_follow_a_redirect(serve):
    with http.Session() as session:
        reply = session.send("GET", serve(f"HTTP/1.1 302 Found\r\nLocation: {nobody()}\r\nContent-Length: 0\r\n\r\n".encode()), seconds=5)
    assert reply.status == 302


def test_a_file_is_read_where_a_redirect_leads_but_not_for_ever(serve):
    there = serve(OK + b"data")
    assert http.read(serve(f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())) == b"data"
    with pytest.raises(UserError, match="it redirects more than 10 times"):
        http.read(serve(b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\n\r\n"))


def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "carrier-pigeon://127.0.0.1")
    with pytest.raises(UserError, match=r"the proxy in the environment cannot be used \(.*\); correct or unset HTTPS_PROXY"):
        http.Session()


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
    waits |= {" 7 ": 7, "9" * 400: float("inf"), "1_0_0": 0, "²": 0, "inf": 0, "nan": 0, "1e400": 0, "Fri, 31 Dec 99999 23:59:59 GMT": 0}
    assert {value: http.asked_wait({"Retry-After": value}) for value in waits} == waits
    assert http.asked_wait({}) == 0


@pytest.mark.parametrize("value", [b"Caf\xe9", "Café ²".encode(), b"\xff\xfe"])
def test_a_header_beyond_ascii_is_no_fault_of_the_answer(serve, value):
    """RFC 9110 5.5: a recipient treats such bytes as opaque."""
    head = b"HTTP/1.1 429 Slow\r\nServer: " + value + b"\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\ntrue"
    with http.Session() as session:
        reply = session.send("GET", serve(head), seconds=5)
    assert (reply.status, reply.json(), http.asked_wait(reply.headers)) == (429, True, 7)


def test_a_host_name_without_a_form_in_ascii_is_no_connection() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        http.read(f"http://{'a' * 70}.invalid/file")


def test_certificates_that_cannot_be_read_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(UserError, match="correct or unset SSL_CERT_FILE"):
        http.Session()


# ---------------------------------------------------------------- limits


def answer_of(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def get(url: str, **limits: float) -> http.Reply:
    with http.Session() as session:
        return session.send("GET", url, **{"seconds": 5, "most": 100, **limits})


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_are_counted_as_they_are_read(serve, packed):
    for size in (100, 101):
        body = gzip.compress(b"a" * size) if packed else b"a" * size
        url = serve(answer_of(body, *(["Content-Encoding: gzip"] if packed else [])))
        if size == 100:
            assert get(url).content == b"a" * 100
        else:
            with pytest.raises(http.UnusableError, match="it has more than 100 bytes"):
                get(url)


def test_a_body_without_an_end_is_given_up_at_the_limit(serve):
    with pytest.raises(http.UnusableError, match="it has more than 100 bytes"):
        get(serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8\r\n12345678\r\n" * 20))


def test_of_an_error_only_the_beginning_is_read(serve, monkeypatch):
    monkeypatch.setattr(http, "MOST_ERROR_BYTES", 10)
    reply = get(serve(answer_of(b"a" * 50, status="503 Busy")))
    assert (reply.status, reply.content) == (503, b"a" * 10)


def test_only_what_was_asked_for_is_unpacked(serve):
    with pytest.raises(http.UnusableError, match="compressed in another way than was asked for"):
        get(serve(answer_of(b"abcd", "Content-Encoding: br")))
    with pytest.raises(http.ERRORS, match="the compressed body is incomplete") as found:
        get(serve(answer_of(gzip.compress(b"a" * 50)[:-4], "Content-Encoding: gzip")))
    assert http.failure(found.value) == "broken off"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "], ids=["body", "head"])
def test_the_time_is_that_of_the_whole_answer(head):
    """A server that sends a byte now and then is never silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with listening.accept()[0] as connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(head)
                for _ in range(100_000):
                    connection.sendall(b"a")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(http.ERRORS) as found:
            get(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=0.3, silence=60, most=1000)
        assert http.failure(found.value) == "late"
        thread.join(300)
        assert not thread.is_alive()  # its connection was closed


def test_json_has_a_depth(monkeypatch):
    monkeypatch.setattr(http, "MOST_DEPTH", 3)
    assert http.read_json(b'{"a": [[1, "[[[["]]}') == {"a": [[1, "[[[["]]}
    for text in (b"[[[[]]]]", b'{"a": [{"b": {}}]}'):
        with pytest.raises(http.UnusableError, match="its JSON is nested more than 3 deep"):
            http.read_json(text)
    with pytest.raises(http.UnusableError, match="nested more than 3 deep"):
        http.read_json(b"[" * 5000 + b"]" * 5000)  # deeper than Python's parser goes
