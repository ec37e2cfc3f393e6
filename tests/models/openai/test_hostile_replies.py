"""Replies that no honest server sends are errors of their items: the run goes on, nothing of them enters the log, and resuming works."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from iit_bench import http
from iit_bench.cli import main
from iit_bench.engine.lines import LogReader
from iit_bench.errors import ItemError, MachineError
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.openai import batches, encoding, scoring
from iit_bench.models.openai.client import Client, UnavailableError
from iit_bench.server_options import ServerOptions
from iit_bench.storage.runs import load_errors, load_run
from iit_bench.types import Message

HALF = "\ud83d"  # of a pair of surrogates, which no file can hold
DEEP = "[" * 5000 + "]" * 5000
PACKED = {"Content-Encoding": "gzip"}


def ask(text: str) -> GenerateRequest:
    return GenerateRequest((Message("user", (text,)),))


def usage(text: str) -> str:
    """A reply whose JSON counts so many tokens."""
    return f'{{"choices": [{{"message": {{"content": "yes"}}}}], "usage": {{"prompt_tokens": {text}, "completion_tokens": 1}}}}'


def hostile(replies: Any) -> dict[str, tuple[Any, str]]:
    """name → (reply, part of the error); the byte limit is 11,000."""
    long = replies.chat("yes" * 4000)
    deep = json.dumps(replies.chat("X")).replace('"X"', DEEP)
    return {
        "long": (long, "it has more than 11,000 bytes"),
        "packed": ((200, gzip.compress(json.dumps(long).encode()), PACKED), "it has more than 11,000 bytes"),
        "other packing": ((200, b"x", {"Content-Encoding": "br"}), "compressed in another way"),
        "deep": (deep, "its JSON is nested more than 64 deep"),
        "infinite": (usage("1e999"), "it counts inf tokens"),
        "not a number": (usage("NaN"), "it counts nan tokens"),
        "negative": (usage("-1"), "it counts -1 tokens"),
        "many": (usage("1" + 30 * "0"), "it counts 10000000000000000000 tokens"),
        "digits": (usage("1" + 4500 * "0"), ""),
        "text": (replies.chat("y" * 9000), "it has 9,000 characters"),
    }


@pytest.fixture
def small(monkeypatch):
    """Limits that a test can exceed."""
    monkeypatch.setattr(http, "MOST_BYTES", 11_000)
    monkeypatch.setattr(encoding, "MOST_CHARACTERS", 8_000)


@pytest.mark.parametrize("name", [*hostile(type("_", (), {"chat": staticmethod(lambda text: {})}))])
def test_a_reply_beyond_a_limit_is_the_items_error_and_asked_for_once(serve, load, replies, small, name):
    reply, why = hostile(replies)[name]
    server = serve(lambda path, body: reply if replies.content(body)[0] == "hostile" else replies.parrot(path, body))
    model = load(server, retries=3)
    before = len(server.seen)
    with pytest.raises(ItemError) as found:
        model.generate([ask("hostile")])
    assert why in found.value.detail and len(found.value.detail) < 500
    if why:
        assert found.value.reason == "unusable answer"
        assert len(server.seen) == before + 1
    assert model.generate([ask("word")])[0].text == "word"


@pytest.mark.slow
def test_a_run_goes_on_past_hostile_replies_and_is_whole_with_a_healthy_server(serve, replies, small, bench, tmp_path):
    bad = [reply for reply, _ in hostile(replies).values()]
    given: dict[str, Any] = {}  # words of a chat -> the hostile reply that it always gets
    asked: list[str] = []

    def script(path: str, body: dict) -> Any:
        words = "".join(str(turn["content"]) for turn in body["messages"])
        probe = len(body["messages"]) == 1 and "Answer with yes." in words
        asked.extend([] if probe else [words])
        turn = 0 if probe else zlib.crc32(words.encode()) % 4
        if turn == 1 and (bad or words in given):
            given.setdefault(words, bad.pop() if bad else None)
            return given[words]
        if turn == 2:  # half of a character in every text that is kept
            reply = replies.parrot(path, body)
            reply["choices"][0] |= {"message": {"content": "a" + HALF, "reasoning": HALF}, "finish_reason": HALF * 200}
            return reply | {"system_fingerprint": HALF}
        return replies.parrot(path, body)

    server, out = serve(script), tmp_path / "run"
    options = ["--model", "openai:m", "--base-url", server.url, "--bench", str(bench.path), "--style", "options", "--tiers", "T,TT,V"]
    command = ["eval", "--quiet", "--out", str(out), "--retries", "0", *options]
    main(command)
    failed = len(load_errors(out))
    assert 0 < failed < len(load_run(out).predictions)
    LogReader(out / "responses.jsonl").new_entries()
    errors = load_errors(out)
    asked.clear()
    main(command)  # the same server: what failed is asked once more, and nothing else
    unread = sum("4300 digits" in error["detail"] for error in errors)  # no JSON: asked again, to see whether the server fails on it alone
    assert load_errors(out) == errors and len(set(asked)) == failed and len(asked) == failed + unread
    server.script = replies.parrot
    assert main(command) == 0
    assert not load_errors(out)


def test_what_a_server_says_of_itself_is_bounded(serve, load):
    server = serve()
    server.pages["/version"] = {"version": HALF + "v" * 1000}
    info = {"tp_size": 1, "dp_size": float("inf"), "random_seed": 10**40, "version": "1" + HALF, "dtype": float("nan")}
    server.pages["/server_info?config_format=json"] = info
    assert load(server).info.details["server"] == {"software": "sglang", "tp_size": 1, "version": "1⟨U+D83D⟩"}
    del server.pages["/server_info?config_format=json"]
    version = load(server).info.details["server"]["version"]
    assert version.startswith("⟨U+D83D⟩vvv") and len(version) < 400


def test_hostile_lines_of_a_batch_are_errors_of_their_items(provider, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.0)

    def verdict(line: dict, batch: dict) -> Any:
        number = int(line["custom_id"][3:])
        counts = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": float("inf")}}
        return {1: (200, counts), 2: (float("inf"), {}), 3: (400, {"error": {"message": HALF + "\x1b[31m no"}}), 4: ([4], {})}.get(number)

    server, _ = provider(verdict=verdict)
    model = load_model("openai:m", ModelOptions(server=ServerOptions(base_url=server.url, batch_api=True)))
    answered: dict = {}
    failed = model.answer_in_bulk({f"key{i}": ask(f"word {i}") for i in range(6)}, tmp_path / "b.jsonl", answered.update)
    assert {key: error.reason for key, error in failed.items()} == {
        "key1": "unusable answer",
        "key2": "the server fails on it",
        "key3": "refused by the server",
        "key4": "the server fails on it",
    }
    assert failed["key3"].detail == "HTTP 400:   [31m no"
    assert set(answered) == {"key0", "key5"}


def test_a_batch_api_of_another_shape_is_one_sentence(provider, tmp_path):
    server, made = provider()
    model = load_model("openai:m", ModelOptions(server=ServerOptions(base_url=server.url, batch_api=True, retries=0)))
    for page in ([1], {"data": [[]]}, {"data": [{"id": HALF}], "has_more": True}):
        made.after_create = lambda: (500, "")
        server.gets = lambda path, page=page: page
        with pytest.raises(MachineError, match="what is not a completion"):
            model.answer_in_bulk({"key": ask("word")}, tmp_path / "b.jsonl", lambda answers: None)


SCORED = {  # a reply that scores, with `odd` in the place of a log-probability, and who reads it
    "completions": (
        lambda odd: {"choices": [{"logprobs": {"token_logprobs": [None, odd], "top_logprobs": [None, {"a": -1.0}]}}]},
        scoring.completions_request("m", [([1], [2])])[2],
    ),
    "generate": (
        lambda odd: [{"meta_info": {"input_token_logprobs": [[odd, 2, None]], "input_top_logprobs": [[[-1.0, 2, None]]]}}],
        scoring.generate_request("m", [([1], [2])])[2],
    ),
    "chat": (
        lambda odd: {"prompt_logprobs": [{"2": {"logprob": odd, "rank": 1}}], "prompt_token_ids": [2]},
        lambda reply: scoring._read_chat_scores(reply, [2]),
    ),
}


@pytest.mark.parametrize("way", SCORED)
@pytest.mark.parametrize("odd", [False, True, "-1", [], None])
def test_a_log_probability_that_is_no_number_is_no_score(serve, way, odd):
    reply, read = SCORED[way]
    server = serve(lambda path, body: reply(odd))
    with pytest.raises(UnavailableError, match="log-probabilities are missing"):
        Client(ServerOptions(base_url=server.url, retries=0)).post("/x", {}, read)


@pytest.mark.parametrize("places", [[{}], {"0": {}}, [None], []])
@pytest.mark.parametrize("tokens", [None, [2]])
def test_a_place_without_tokens_is_an_answer_of_another_shape(serve, places, tokens):
    server = serve(lambda path, body: {"prompt_logprobs": places})
    with pytest.raises(UnavailableError, match="what is not a completion"):
        Client(ServerOptions(base_url=server.url, retries=0)).post("/x", {}, lambda reply: scoring._read_chat_scores(reply, tokens))
