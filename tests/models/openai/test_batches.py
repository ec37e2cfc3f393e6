"""--batch-api: a provider's batch API gives the run that single requests give; each request is paid once, whatever happens in between."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from iit_bench.cli import main
from iit_bench.errors import MachineError, UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, TextGenerateRequest
from iit_bench.models.load import load_model
from iit_bench.models.openai import batches as openai_batches
from iit_bench.models.openai.client import Client
from iit_bench.models.openai.ledger import Ledger
from iit_bench.server_options import ServerOptions
from iit_bench.storage.runs import load_run
from iit_bench.types import Message


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(openai_batches, "POLL_SECONDS", 0.0)


def model_at(server: Any, **more: Any) -> Any:
    return load_model("openai:m", ModelOptions(server=ServerOptions(base_url=server.url, batch_api=True, **({"retries": 1} | more))))


def requests(number: int) -> dict[str, GenerateRequest]:
    return {f"key{i}": GenerateRequest((Message("user", (f"word {i}",)),)) for i in range(number)}


class Answered(dict):
    """Keeps answers, each once."""

    def __call__(self, answers: Any) -> None:
        assert not set(answers) & set(self)
        self.update(answers)


def texts(answers: Any) -> dict[str, str]:
    return {key: answer.text for key, answer in answers.items()}


EXPECTED = {f"key{i}": str(i) for i in range(7)}

# ---------------------------------------------------------------- runs


def run(server: Any, out: Any, bench: Any, *more: str) -> int:
    ask = [
        "eval",
        "--quiet",
        "--model",
        "openai:m",
        "--base-url",
        server.url,
        "--bench",
        str(bench.path),
        "--style",
        "options",
        "--limit",
        "3",
    ]
    return main([*ask, "--out", str(out), *more])


@pytest.mark.slow
@pytest.mark.parametrize("history", ["gold", "own"])
def test_a_run_by_batches_has_the_predictions_of_single_requests(provider, bench, tmp_path, history):
    server, made = provider()
    assert run(server, tmp_path / "single", bench, "--history", history) == 0
    assert not made.batches
    assert run(server, tmp_path / "batches", bench, "--history", history, "--batch-api") == 0
    single, batches = load_run(tmp_path / "single"), load_run(tmp_path / "batches")
    assert single.predictions == batches.predictions and len(single.predictions) > 10
    assert (tmp_path / "single/predictions.parquet").read_bytes() == (tmp_path / "batches/predictions.parquet").read_bytes()
    assert len(made.batches) == (1 if history == "gold" else 3)  # one a round
    assert set(made.paid.values()) == {1}
    created = len(made.batches)
    assert run(server, tmp_path / "batches", bench, "--history", history, "--batch-api") == 0
    assert len(made.batches) == created  # nothing is asked again


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["text", "vqa"])
@pytest.mark.usefixtures("warm_workers")
def test_the_other_suites_by_batches_have_the_items_of_single_requests(provider, tmp_path, suite):
    if suite == "vqa":
        if find_spec("vlmeval") is None:
            pytest.skip("VLMEvalKit is installed by hand (README)")
        more = ["--tasks", "easyvqa", "--limit", "4"]
    else:
        runpy.run_path(str(Path(__file__).parents[2] / "data/make_text_snapshots.py"))["write_text"](tmp_path / "data", 6)
        more = ["--tasks", "gsm8k", "--data-root", str(tmp_path / "data"), "--limit", "4", "--apply-chat-template", "--num-fewshot", "1"]
    server, made = provider()
    found = []
    for name, how in (("single", []), ("batches", ["--batch-api"])):
        ask = ["--suite", suite, "--model", "openai:m", "--base-url", server.url, "--out", str(tmp_path / name), "--quiet"]
        assert main(["eval", *ask, *more, *how]) == 0
        found.append(load_run(tmp_path / name).items)
    assert found[0] == found[1] and len(found[0]) >= 4
    assert len(made.batches) == 1 and set(made.paid.values()) == {1}


def test_fresh_forgets_what_was_sent(provider, bench, tmp_path):
    server, made = provider(status=lambda batch: "cancelled", verdict=lambda line, batch: "expired")
    assert run(server, tmp_path / "run", bench, "--batch-api", "--tiers", "T") == 2
    assert (tmp_path / "run/batches.jsonl").exists()
    made.status, made.verdict = lambda batch: "completed", lambda line, batch: None
    assert run(server, tmp_path / "run", bench, "--tiers", "T", "--fresh") == 0
    assert not (tmp_path / "run/batches.jsonl").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_while_its_batch_is_computed_waits_for_it_when_it_resumes(provider, bench, tmp_path):
    server, made = provider(looks=10**9)
    ask = ["--model", "openai:m", "--base-url", server.url, "--bench", str(bench.path), "--style", "options", "--limit", "3", "--batch-api"]
    code = "from iit_bench.models.openai import batches; batches.POLL_SECONDS = 0.01; from iit_bench.cli import main; main()"
    command = [sys.executable, "-c", code, "eval", "--quiet", *ask, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, env=os.environ | {"NO_PROXY": "127.0.0.1"})
    while not any(batch["looks"] > 3 for batch in list(made.batches.values())):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made.looks = 2
    assert run(server, tmp_path / "run", bench, "--batch-api") == 0
    assert len(made.batches) == 1 and set(made.paid.values()) == {1}


# ---------------------------------------------------------------- killed at any point


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [False, True], ids=["before the request is sent", "after the server has answered it"])
def test_a_job_killed_at_any_request_is_paid_once(provider, tmp_path, monkeypatch, sent):
    monkeypatch.setattr(openai_batches, "MOST_LINES", 3)
    real = Client._send
    for point in range(1, 40):
        server, made = provider()
        model, calls = model_at(server), Counter[str]()

        def send(self, method, path, point=point, calls=calls, **content):
            calls["all"] += 1
            if calls["all"] == point and not sent:
                raise Killed
            reply = real(self, method, path, **content)
            if calls["all"] == point:
                raise Killed
            return reply

        state, answered = tmp_path / f"{point}.jsonl", Answered()
        monkeypatch.setattr(Client, "_send", send)
        try:
            model.answer_in_bulk(requests(7), state, answered)
            finished = True
        except Killed:
            finished = False
        monkeypatch.setattr(Client, "_send", real)
        rest = {key: request for key, request in requests(7).items() if key not in answered}
        assert not model_at(server).answer_in_bulk(rest, state, answered)
        assert texts(answered) == EXPECTED
        assert len(made.batches) == 3 and set(made.paid.values()) == {1}
        if finished:
            break
    assert finished and point > 10


def test_a_job_killed_before_its_answers_are_recorded_collects_them_again(provider, tmp_path, monkeypatch):
    server, made = provider()
    monkeypatch.setattr(Ledger, "collected", lambda self, *what: (_ for _ in ()).throw(Killed))
    kept = Answered()
    with pytest.raises(Killed):
        model_at(server).answer_in_bulk(requests(4), tmp_path / "b.jsonl", kept)
    monkeypatch.undo()
    monkeypatch.setattr(openai_batches, "POLL_SECONDS", 0.0)
    lost = {key: requests(4)[key] for key in ("key1", "key3")}  # as if the log held the others only
    again = Answered()
    assert not model_at(server).answer_in_bulk(lost, tmp_path / "b.jsonl", again)
    assert set(again) == set(lost) and len(made.batches) == 1


def test_a_connection_that_breaks_as_a_batch_is_made_makes_no_second_one(provider, tmp_path):
    server, made = provider()

    def lost() -> Any:  # the batch is made, others of the account put it on a further page of the list, and the answer is lost
        for name in ("a", "b", "c", "d", "e"):
            made.batches[name] = {"id": name, "input_file_id": "other", "looks": 0, "status": "completed"}
        return 503, {"error": "busy"}

    made.after_create = lost
    answered = Answered()
    assert not model_at(server).answer_in_bulk(requests(3), tmp_path / "b.jsonl", answered)
    assert len(answered) == 3 and set(made.paid.values()) == {1}


# ---------------------------------------------------------------- limits, failures, expiry


def test_files_keep_the_limits_of_lines_and_bytes(provider, tmp_path, monkeypatch):
    monkeypatch.setattr(openai_batches, "MOST_LINES", 3)
    server, made = provider()
    answered = Answered()
    model_at(server).answer_in_bulk(requests(7), tmp_path / "lines.jsonl", answered)
    assert [len(made.lines_of(batch)) for batch in made.batches.values()] == [3, 3, 1]
    monkeypatch.setattr(openai_batches, "MOST_LINES", 50)
    monkeypatch.setattr(openai_batches, "MOST_BYTES", 400)
    server, made = provider()
    model_at(server).answer_in_bulk(requests(7), tmp_path / "bytes.jsonl", Answered())
    assert len(made.batches) > 1 and all(len(made.files[batch["input_file_id"]]) <= 400 for batch in made.batches.values())
    assert sum(len(made.lines_of(batch)) for batch in made.batches.values()) == 7


def test_lines_that_are_refused_are_failed_items_and_are_not_sent_again(provider, tmp_path):
    def verdict(line, batch):
        number = int(line["custom_id"][3:])
        long = {"error": {"code": "context_length_exceeded", "message": "too long"}}
        return {2: (400, {"error": {"message": "bad word"}}), 3: (400, long), 4: (200, {"choices": []})}.get(number)

    server, made = provider(verdict=verdict)
    answered = Answered()
    failed = model_at(server).answer_in_bulk(requests(7), tmp_path / "b.jsonl", answered)
    assert {key: (error.reason, error.detail) for key, error in failed.items()} == {
        "key2": ("refused by the server", "HTTP 400: bad word"),
        "key3": ("context overflow", "HTTP 400: too long"),
        "key4": ("the server fails on it", "it answers what is not a completion (no choices)"),
    }
    assert set(answered) == set(requests(7)) - set(failed)
    asked = {key: request for key, request in requests(7).items() if key not in answered}
    again = model_at(server).answer_in_bulk(asked, tmp_path / "b.jsonl", answered)
    assert {key: error.reason for key, error in again.items()} == {key: error.reason for key, error in failed.items()}
    assert len(made.batches) == 1


@pytest.mark.parametrize("how", ["expired", (429, {"error": "slow down"}), (500, {"error": "oops"})], ids=["expired", "429", "500"])
def test_lines_that_are_not_answered_are_sent_again_and_paid_once(provider, tmp_path, how):
    server, made = provider(verdict=lambda line, batch: how if int(line["custom_id"][3:]) > 2 and batch["id"] == "batch-0" else None)
    answered = Answered()
    assert not model_at(server).answer_in_bulk(requests(7), tmp_path / "b.jsonl", answered)
    assert texts(answered) == EXPECTED
    assert [len(made.lines_of(batch)) for batch in made.batches.values()] == [7, 4] and set(made.paid.values()) == {1}


def test_a_provider_that_answers_nothing_ends_the_run_and_the_next_one_sends_again(provider, tmp_path):
    server, made = provider(verdict=lambda line, batch: "expired", status=lambda batch: "expired")
    with pytest.raises(UserError, match=r"leaves 7 requests unanswered \(too late\); answers so far are kept, repeat the command"):
        model_at(server).answer_in_bulk(requests(7), tmp_path / "b.jsonl", Answered())
    made.verdict, answered = (lambda line, batch: None), Answered()
    assert not model_at(server).answer_in_bulk(requests(7), tmp_path / "b.jsonl", answered)
    assert len(answered) == 7 and len(made.batches) == 2


def test_a_batch_that_is_too_much_at_once_is_sent_again_when_others_have_ended(provider, tmp_path, monkeypatch):
    monkeypatch.setattr(openai_batches, "MOST_LINES", 4)
    server, made = provider(status=lambda batch: "failed" if batch["id"] == "batch-1" else "completed")
    made.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
    answered = Answered()
    assert not model_at(server).answer_in_bulk(requests(7), tmp_path / "b.jsonl", answered)
    assert texts(answered) == EXPECTED and set(made.paid.values()) == {1}


ENDS = [
    ("cancelled", "a batch at .* was cancelled; answers so far are kept"),
    ("failed", r"a batch at .* failed \(no such model\); answers"),
]


@pytest.mark.parametrize(("status", "sentence"), ENDS, ids=["cancelled", "failed"])
def test_a_batch_that_ends_otherwise_ends_the_run(provider, tmp_path, status, sentence):
    server, _ = provider(status=lambda batch: status, errors=[{"code": "x", "message": "no such model"}])
    with pytest.raises(UserError, match=sentence):
        model_at(server).answer_in_bulk(requests(2), tmp_path / "b.jsonl", Answered())


def test_a_server_without_batch_api_says_so(serve, tmp_path):
    with pytest.raises(UserError, match=r"the batch API of .* rejects requests \(HTTP 404: no such path\); leave out --batch-api"):
        model = model_at(serve(lambda path, body: _only_chats(path)))
        model.answer_in_bulk(requests(2), tmp_path / "b.jsonl", Answered())


def _only_chats(path: str) -> Any:
    reply = {"choices": [{"index": 0, "message": {"content": "yes"}}], "usage": {"prompt_tokens": 5}}
    return reply if path.endswith("/chat/completions") else (404, {"error": "no such path"})


def test_a_provider_that_is_unavailable_is_an_error_of_the_machine(provider, tmp_path):
    server, _ = provider()
    model = model_at(server, retries=0)
    server.close()
    with pytest.raises(MachineError, match="unavailable"):
        model.answer_in_bulk(requests(2), tmp_path / "b.jsonl", Answered())


# ---------------------------------------------------------------- requests, options, the ledger


def test_images_and_raw_texts_go_into_files_of_their_own_paths(provider, tmp_path, make_image, replies):
    def answer(path, body):
        return (
            {"choices": [{"index": 0, "text": "one. two", "finish_reason": "stop"}]}
            if path == "/v1/completions"
            else replies.parrot(path, body)
        )

    server, made = provider(answer)
    asked = {
        "image": GenerateRequest((Message("user", (make_image(1), "is it red")),)),
        "text": TextGenerateRequest("Once", until=(".",), max_new_tokens=4),
        "broken": GenerateRequest((Message("user", (type(make_image(1))(b"no image"), "x")),)),
    }
    answered = Answered()
    failed = model_at(server).answer_in_bulk(asked, tmp_path / "b.jsonl", answered)
    assert texts(answered) == {"image": "red", "text": "one"} and set(failed) == {"broken"}
    assert sorted(batch["endpoint"] for batch in made.batches.values()) == ["/v1/chat/completions", "/v1/completions"]


def test_the_option_needs_a_server_and_no_tokenizer(provider, tmp_path):
    with pytest.raises(UserError, match="runs here, not on a server; leave out --batch-api"):
        load_model("random", ModelOptions(server=ServerOptions(batch_api=True)))
    with pytest.raises(UserError, match="leave out --tokenizer, or --batch-api"):
        model_at(provider()[0], tokenizer="x")


def test_a_batch_at_another_address_is_not_sent_a_second_time(provider, tmp_path, monkeypatch):
    first, _ = provider(looks=10**9)
    monkeypatch.setattr(openai_batches, "sleep", lambda seconds: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        model_at(first).answer_in_bulk(requests(2), tmp_path / "b.jsonl", Answered())
    with pytest.raises(UserError, match=f"a batch of this run is at {first.url}; resume with that --base-url"):
        model_at(provider()[0]).answer_in_bulk(requests(2), tmp_path / "b.jsonl", Answered())


def test_a_ledger_that_is_damaged_foreign_or_in_use_is_refused(tmp_path):
    path = tmp_path / "batches.jsonl"
    with Ledger(path) as ledger:
        ledger.uploaded("u", "f", "/chat/completions", ["a"])
        with pytest.raises(UserError, match="another process is writing"):
            Ledger(path)
    with path.open("a") as file:
        file.write('{"event": "crea')  # killed in the middle of a line
    with Ledger(path) as ledger:
        assert ledger.sent["f"].keys == ["a"] and not ledger.sent["f"].batch
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(UserError, match="is damaged in line 3"):
        Ledger(path)
    path.write_text('{"format": "other", "version": 1}\n')
    with pytest.raises(UserError, match="is damaged in line 1"):
        Ledger(path)


def test_a_changed_or_a_removed_line_of_a_ledger_is_refused(tmp_path):
    path = tmp_path / "batches.jsonl"
    with Ledger(path) as ledger:
        for file in ("file-1", "file-2"):
            ledger.uploaded("u", file, "/chat/completions", ["a"])
            ledger.created(file, "batch")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"file-1", b"file-3"))
    with pytest.raises(UserError, match=r"is damaged in line 2 \(its checksum is wrong\)"):
        Ledger(path)
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(UserError, match=r"is damaged in line 3 \(it was line 4\)"):
        Ledger(path)


def test_a_ledger_of_before_checksums_is_read_and_continued(tmp_path):
    path = tmp_path / "batches.jsonl"
    old = {"event": "uploaded", "url": "u", "file": "f", "path": "/chat/completions", "keys": ["a"]}
    path.write_text('{"format": "iit-bench/batches", "version": 1}\n' + json.dumps(old) + "\n")
    with Ledger(path) as ledger:
        ledger.created("f", "batch")
    with Ledger(path) as ledger:
        assert ledger.sent["f"].batch == "batch"
