from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from builders.connectors import make_connect, template
from builders.dialogues import Dialogues
from builders.histories import Group, trie
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Question

Make = Callable[..., Question]


def connected(bench: Benchmark, connector: str, groups: int | None = None) -> list[Dialogue]:
    """The dialogues of a benchmark's first groups, made anew with a connector."""
    of_group: dict[str, dict[str, str]] = defaultdict(dict)
    for dialogue in bench.dialogues:
        of_group[dialogue.group].update({dialogue.tier[: i + 1]: turn for i, turn in enumerate(dialogue.turns[:-1])})
    made = []
    for target, turns in list(of_group.items())[:groups]:
        nodes = trie(bench.tiers, bench.questions[target].modality)
        made.append(Group(bench.questions[target], tuple(bench.questions[turns[node]] for node in nodes)))
    return list(Dialogues(made, bench.tiers, make_connect(connector, 0)))


def test_none_changes_nothing(small_lab: Benchmark) -> None:
    assert connected(small_lab, "none") == list(small_lab.dialogues)


def test_a_template_precedes_every_turn_but_the_first(small_lab: Benchmark) -> None:
    for plain, dialogue in zip(small_lab.dialogues, connected(small_lab, "template"), strict=True):
        assert (plain.id, plain.turns) == (dialogue.id, dialogue.turns)
        assert len(dialogue.connectors) == len(dialogue.turns)
        assert dialogue.connectors[0] == ""
        assert all(dialogue.connectors[1:])


def test_dialogues_that_share_turns_share_connectors(small_lab: Benchmark) -> None:
    sentences = defaultdict(set)
    for dialogue in connected(small_lab, "template"):
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
    group = connected(small_lab, "openai", groups=1)
    pairs = {pair for dialogue in group for pair in zip(dialogue.turns, dialogue.turns[1:], strict=False)}
    assert len(api) == len(pairs) > 3
    assert {(request["path"], request["key"], request["model"]) for request in api} == {
        ("/v1/chat/completions", "Bearer key", "some-model")
    }
    assert all(sentence.startswith("Let us go on (") for dialogue in group for sentence in dialogue.connectors[1:])


def test_an_llm_that_fails_or_has_no_key_is_one_sentence(small_lab: Benchmark, api: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IIT_BENCH_CONNECTOR_MODEL", "broken")
    with pytest.raises(UserError, match=r"--connector openai got no sentence from http.* 500"):
        connected(small_lab, "openai")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        connected(small_lab, "openai")


def test_an_unknown_connector_is_refused(small_lab: Benchmark) -> None:
    with pytest.raises(UserError, match="unknown connector 'llm'"):
        connected(small_lab, "llm")
