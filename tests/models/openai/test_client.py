"""One server over HTTP: what is tried again, how long it waits, and that only the server sees the key."""

from __future__ import annotations

import json
import socket
from email.utils import format_datetime

import pytest

from iit_bench import http
from iit_bench.errors import UserError
from iit_bench.models.openai import client as openai_client
from iit_bench.models.openai.client import Client, RejectedError, UnavailableError
from iit_bench.models.openai.encoding import read_chat
from iit_bench.server_options import ServerOptions

KEY = "sk-verysecret"


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.seconds, self.slept = 1000.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(openai_client, "sleep", clock.sleep)
    monkeypatch.setattr(openai_client, "monotonic", lambda: clock.seconds)
    monkeypatch.setattr(openai_client, "FIRST_WAIT", 0.5)
    return clock


def after(failures: list, replies):
    """A script that fails in these ways, one a request, before it answers."""
    left = list(failures)
    return lambda path, body: left.pop(0) if left else replies.chat("yes")


def post(server, **options):
    return Client(ServerOptions(base_url=server.url, **options)).post("/chat/completions", {}, read_chat)


@pytest.mark.parametrize(
    "failure",
    [
        (500, "Internal Server Error"),
        (503, {"error": {"message": "loading"}}),
        (429, {"error": {"message": "slow down"}}),
        (408, ""),
        (200, "<html>gateway</html>"),
        (200, '{"choices": [{"message": {"cont'),
        (200, {"choices": []}),
        (200, {"choices": [{"message": "text"}]}),
        (200, [1, 2]),
        (200, {"error": {"message": "upstream", "code": 502}}),
        (200, b"\xff\xfe"),
        None,
    ],
)
def test_what_may_pass_is_tried_again(serve, replies, clock, failure):
    server = serve(after([failure, failure], replies))
    assert post(server).text == "yes"
    assert len(server.seen) == 3
    assert clock.slept == [0.5, 1.0]


def test_body_that_breaks_off_is_tried_again_and_reported(serve, replies, clock):
    torn = (200, replies.torn(json.dumps(replies.chat("yes")).encode()[:-1]))
    assert post(serve(after([torn], replies))).text == "yes"
    with pytest.raises(UnavailableError, match=r"it does not answer \(peer closed connection .*\) \(1 try\)") as found:
        post(serve(lambda path, body: torn), retries=0)
    assert found.value.may_be_the_request


def test_waits_double_up_to_a_limit_and_tries_come_to_an_end(serve, replies, clock):
    server = serve(lambda path, body: (500, "out of order"))
    with pytest.raises(UnavailableError, match=r"HTTP 500: out of order \(9 tries\)") as found:
        post(server, retries=8)
    assert found.value.may_be_the_request
    assert clock.slept == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert len(server.seen) == 9


def test_retry_after_is_waited_for_in_seconds_or_by_date(serve, replies, clock, monkeypatch):
    from datetime import UTC, datetime, timedelta

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(http, "now", moment.timestamp)
    date = format_datetime(moment + timedelta(seconds=90), usegmt=True)
    busy = [(429, "", {"Retry-After": value}) for value in ("7", date, "soon", "0")]
    assert post(serve(after(busy, replies))).text == "yes"
    assert clock.slept == [7, 90, 2, 4]  # what is no time is a wait of our own


def test_overloaded_server_makes_the_next_caller_wait(serve, replies, clock):
    server = serve(after([(429, "", {"Retry-After": "40"})], replies))
    client = Client(ServerOptions(base_url=server.url, retries=0))
    with pytest.raises(UnavailableError):
        client.post("/chat/completions", {}, read_chat)
    assert clock.slept == []  # this one gave up, but any that asks now waits first
    client.post("/chat/completions", {}, read_chat)
    assert clock.slept == [40]


def test_server_that_asks_for_a_pause_of_hours_ends_the_tries(serve, replies, clock):
    with pytest.raises(UnavailableError, match="it asks to wait 7200 seconds"):
        post(serve(after([(429, "", {"Retry-After": "7200"})], replies)))
    assert clock.slept == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((400, {"error": {"message": "too  long", "code": "context_length_exceeded"}}), "HTTP 400: too long"),
        ((422, {"detail": "Unexpected fields"}), "HTTP 422: Unexpected fields"),
        ((422, {"detail": [{"loc": ["body"]}]}), "HTTP 422: "),
        ((404, "not found"), "HTTP 404: not found"),
        ((405, ""), "HTTP 405: Method Not Allowed"),
        ((301, "", {"Location": "http://127.0.0.1:1/"}), "HTTP 301: Moved Permanently"),
    ],
)
def test_refusal_is_final_and_reported_in_the_servers_words(serve, clock, reply, words):
    server = serve(lambda path, body: reply)
    with pytest.raises(RejectedError) as found:
        post(server)
    assert str(found.value).startswith(words)
    assert found.value.code == ("context_length_exceeded" if reply[0] == 400 else "")
    assert len(server.seen) == 1


def test_address_without_a_server_is_reported_plainly(clock):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UnavailableError, match=r"it does not answer \(Connection refused\) \(2 tries\)") as found:
        Client(ServerOptions(base_url=url, retries=1)).post("/chat/completions", {}, read_chat)
    assert not found.value.may_be_the_request


def test_server_that_hangs_is_given_up(serve):
    import threading

    never = threading.Event()
    server = serve(lambda path, body: never.wait(5))
    with pytest.raises(UnavailableError, match="it does not answer in time; give more with --timeout"):
        post(server, retries=0, timeout=0.3)
    never.set()


# ---------------------------------------------------------------- the key


def test_key_goes_to_the_server_and_no_further(serve, replies, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", KEY)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrcsecret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = serve(lambda path, body: (400, {"error": f"Incorrect API key provided: {KEY}"}))
    with pytest.raises(RejectedError) as found:
        post(server, api_key_env="MY_KEY")
    assert KEY not in str(found.value) and "***" in str(found.value)
    assert server.seen[0][2]["Authorization"] == f"Bearer {KEY}"
    server.script = lambda path, body: f"no JSON but {KEY}"
    with pytest.raises(UnavailableError) as garbage:
        post(server, api_key_env="MY_KEY", retries=0)
    assert KEY not in str(garbage.value)
    server.script = lambda path, body: {"error": {"message": f"Incorrect API key provided: {KEY}"}}  # with status 200
    with pytest.raises(UnavailableError, match=r"Incorrect API key provided: \*\*\*") as polite:
        post(server, api_key_env="MY_KEY", retries=0)
    assert KEY not in str(polite.value)
    server.script = lambda path, body: "x" * 290 + KEY  # where the words are cut off
    with pytest.raises(UnavailableError) as long:
        post(server, api_key_env="MY_KEY", retries=0)
    assert KEY[:6] not in str(long.value)


def test_without_a_key_nothing_is_sent_not_even_from_netrc(serve, replies, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrcsecret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = serve()
    server.script = lambda path, body: replies.chat("yes")
    post(server)
    assert "Authorization" not in server.seen[0][2]


@pytest.mark.parametrize("key", ["sk-\x1b[2Jsecret", "sk-süß"])
def test_key_that_no_header_can_carry_is_refused_without_repeating_it(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match=r"the key in \$MY_KEY has characters that no key has; set it again") as found:
        Client(ServerOptions(base_url="http://x/v1", api_key_env="MY_KEY"))
    assert key not in str(found.value)


def test_words_of_a_server_are_shown_without_control_characters(serve):
    with pytest.raises(RejectedError) as found:
        post(serve(lambda path, body: (400, {"error": "red \x1b[31malert\u202e\n\n!"})))
    assert str(found.value) == "HTTP 400: red  [31malert  !"


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": None}, "add --base-url"),
        ({"base_url": "localhost:8000"}, "is no address; it looks like http://localhost:8000/v1"),
        ({"base_url": "ftp://x/v1"}, "is no address"),
        ({"base_url": "http://[::1/v1"}, "is no address"),
        ({"base_url": f"http://me:{KEY}@x/v1"}, "put the key into"),
        ({"base_url": f"http://x/v1?key={KEY}"}, "put the key into"),
        ({"concurrency": 0}, "--concurrency 0 is too low; give 1 or more"),
        ({"retries": -1}, "--retries -1 is too low"),
        ({"timeout": 0.0}, "--timeout 0.0 is too low"),
        ({"price_in": -1.0}, "--price-in -1.0 is too low"),
    ],
)
def test_options_out_of_range_are_refused_without_repeating_a_key(options, message):
    with pytest.raises(UserError, match=message) as found:
        Client(ServerOptions(**({"base_url": "http://x/v1"} | options)))
    assert KEY not in str(found.value)
