"""Requests to a server, several at once: each asked once, logged as it is answered, and nothing begun after the server is gone."""

from __future__ import annotations

import dataclasses
import signal
import threading

import pytest

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import Answers, Failure, answer
from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import GenerateRequest, ScoreResult
from iit_bench.types import Message

TEXTS = [f"question {i}" for i in range(24)]


@pytest.fixture
def server_model(company_model):
    """A model that is asked by four threads; `meet` makes them wait for one another, so that they are sure to be four."""

    class ServerModel(company_model):
        capabilities = dataclasses.replace(company_model.capabilities, requests_at_once=4)
        meet: threading.Barrier | None = None

        def score(self, batch):
            if self.meet:
                self.meet.wait(timeout=300)
            return super().score(batch)

    return ServerModel


@pytest.fixture
def run(tmp_path):
    def call(model, requests, **more) -> Answers:
        with ResponseLog(tmp_path / "responses.jsonl") as log:
            return answer(model, requests, log, BatchLimits(256, 10**9), **more)

    return call


def answered(tmp_path) -> int:
    return (tmp_path / "responses.jsonl").read_bytes().count(b"\n") - 1


def test_distinct_requests_are_asked_once_each_and_answered_in_the_order_given(run, server_model, ask):
    model, settled = server_model(), []
    found = run(model, [ask(text) for text in (*TEXTS, *TEXTS)], advance=settled.append)
    assert sorted(model.batches) == sorted([text] for text in TEXTS)  # one request per call
    assert found.answers[:24] == found.answers[24:]
    assert len({one.logprobs for one in found.answers}) == 24
    assert (sum(settled), found.distinct, found.computed) == (48, 24, 24)


def test_as_many_requests_are_under_way_as_the_server_takes(run, server_model, ask):
    model = server_model()
    model.meet = threading.Barrier(4)  # broken, with an error, unless four ask at once
    assert all(isinstance(one, ScoreResult) for one in run(model, [ask(text) for text in TEXTS]).answers)


def test_generated_replies_come_back_to_their_requests(run, server_model):
    requests = [GenerateRequest((Message("user", (text,)),)) for text in TEXTS]
    assert [one.text for one in run(server_model(), requests).answers] == [text.upper() for text in TEXTS]


def test_request_that_fails_by_itself_does_not_stop_the_others(run, server_model, ask, tmp_path):
    bad = {TEXTS[3], TEXTS[17]}
    model = server_model(lambda texts: ItemError("refused", "too long") if texts[0] in bad else None)
    found = run(model, [ask(text) for text in TEXTS])
    assert {text for text, one in zip(TEXTS, found.answers, strict=True) if isinstance(one, Failure)} == bad
    assert found.answers[3] == Failure("item", "refused", "too long")
    assert answered(tmp_path) == 22


def test_server_that_goes_away_ends_the_run_in_a_sentence_and_resuming_asks_the_rest_only(run, server_model, ask, tmp_path):
    requests = [ask(text) for text in TEXTS]
    gone = threading.Event()

    def fails(texts):
        if texts[0] == TEXTS[9]:
            gone.set()
        return MachineError("the server is gone", "connection refused") if gone.is_set() else None

    first = server_model(fails)
    with pytest.raises(UserError, match=r"the server is gone: connection refused; answers so far are kept, repeat the command to resume"):
        run(first, requests)
    kept = answered(tmp_path)
    assert 1 <= kept <= 12
    assert len(first.batches) <= kept + 4  # those under way when it went, no more
    second = server_model()
    assert not any(isinstance(one, Failure) for one in run(second, requests).answers)
    assert len(second.batches) == 24 - kept
    third = server_model()
    run(third, requests)
    assert third.batches == []


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_what_was_answered_and_does_not_wait_for_what_was_not(ctrl_c, run, server_model, ask, tmp_path):
    never = threading.Event()

    class Hanging(server_model):
        def score(self, batch):
            if batch[0].messages[0].text == TEXTS[12]:
                while answered(tmp_path) < 5:
                    never.wait(0.01)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                never.wait(60)
            return super().score(batch)

    with pytest.raises(KeyboardInterrupt):
        run(Hanging(), [ask(text) for text in TEXTS])
    assert 5 <= answered(tmp_path) <= 23
    model = server_model()
    run(model, [ask(text) for text in TEXTS])
    assert [TEXTS[12]] in model.batches
