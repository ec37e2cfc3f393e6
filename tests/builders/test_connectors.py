from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from builders.connectors import connect, template
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Question

Make = Callable[..., Question]


def test_none_changes_nothing(small_lab: Benchmark) -> None:
    assert connect(small_lab.dialogues, small_lab.questions, "none", 0) == list(small_lab.dialogues)


def test_a_template_precedes_every_turn_but_the_first(small_lab: Benchmark) -> None:
    connected = connect(small_lab.dialogues, small_lab.questions, "template", 0)
    for plain, dialogue in zip(small_lab.dialogues, connected, strict=True):
        assert (plain.id, plain.turns) == (dialogue.id, dialogue.turns)
        assert len(dialogue.connectors) == len(dialogue.turns)
        assert dialogue.connectors[0] == ""
        assert all(dialogue.connectors[1:])


def test_dialogues_that_share_turns_share_connectors(small_lab: Benchmark) -> None:
    sentences = defaultdict(set)
    for dialogue in connect(small_lab.dialogues, small_lab.questions, "template", 0):
        for n in range(1, len(dialogue.turns) + 1):
            sentences[dialogue.turns[:n]].add(dialogue.connectors[:n])
    assert all(len(connectors) == 1 for connectors in sentences.values())


def test_a_template_fits_the_modalities_and_the_language(question: Make) -> None:
    text, seen = question("t"), question("v", images=(b"x",))
    assert "picture" in template(text, seen, 0)
    assert "picture" not in template(text, text, 0)
    assert "图片" in template(text, question("z", images=(b"x",), language="zh-Hans"), 0)
    assert template(text, question("tr", language="tr"), 0).isascii()  # no Turkish sentences: English ones


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict]]:
    """The requests that a local server of the API has received."""
    requests: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(body | {"path": self.path, "key": self.headers["Authorization"]})
            reply = json.dumps({"choices": [{"message": {"content": f" Let us\n go on ({len(requests)}). "}}]}).encode()
            self.send_response(500 if body["model"] == "broken" else 200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("IIT_BENCH_CONNECTOR_MODEL", "some-model")
    yield requests
    server.shutdown()
    server.server_close()


def test_an_llm_gets_one_request_per_pair_of_turns_and_its_sentence_is_one_line(small_lab: Benchmark, api: list[dict]) -> None:
    group = [dialogue for dialogue in small_lab.dialogues if dialogue.group == small_lab.dialogues[0].group]
    connected = connect(group, small_lab.questions, "openai", 0)
    pairs = {pair for dialogue in group for pair in zip(dialogue.turns, dialogue.turns[1:], strict=False)}
    assert len(api) == len(pairs)
    assert {(request["path"], request["key"], request["model"]) for request in api} == {
        ("/v1/chat/completions", "Bearer key", "some-model")
    }
    assert all(sentence.startswith("Let us go on (") for dialogue in connected for sentence in dialogue.connectors[1:])


def test_an_llm_that_fails_or_has_no_key_is_one_sentence(small_lab: Benchmark, api: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    long = [dialogue for dialogue in small_lab.dialogues if len(dialogue.turns) > 1]
    monkeypatch.setenv("IIT_BENCH_CONNECTOR_MODEL", "broken")
    with pytest.raises(UserError, match=r"--connector openai got no sentence from http.* 500"):
        connect(long, small_lab.questions, "openai", 0)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        connect(long, small_lab.questions, "openai", 0)


def test_an_unknown_connector_is_refused(small_lab: Benchmark) -> None:
    with pytest.raises(UserError, match="unknown connector 'llm'"):
        connect(small_lab.dialogues, small_lab.questions, "llm", 0)
