"""Servers on loopback: one that replies what a test sets, and one that computes with a real tiny model as vLLM's /completions does."""

from __future__ import annotations

import email
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.openai import client as openai_client
from iit_bench.server_options import ServerOptions

Script = Callable[[str, dict], Any]  # (path, body) -> body of a 200, or (status, body[, headers]); None cuts the connection


class Torn(bytes):
    """A body whose last byte never comes."""


class Server(ThreadingHTTPServer):
    """Answers what `script` says, and GET requests from `pages`; `seen` holds what it was asked: (path, body, headers)."""

    daemon_threads = True

    def __init__(self, script: Script, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script, self.seen, self.lock = script, [], threading.Lock()
        self.pages: dict[str, Any] = {}  # path -> JSON, or bytes as they are
        self.gets: Callable[[str], Any] = self.pages.get  # the page of any path
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def bodies(self, path: str = "/v1/chat/completions") -> list[dict]:
        return [body for at, body, _ in self.seen if at == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that gave up waiting, is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        body = json.loads(raw) if kind == "application/json" else {"form": b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw}
        with self.server.lock:
            self.server.seen.append((self.path, body, dict(self.headers)))
        found = self.server.script(self.path, body)
        if found is None:
            self.close_connection = True
            return
        status, content, *more = found if isinstance(found, tuple) else (200, found)
        data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (more[0] if more else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) + (isinstance(content, Torn))))
        self.end_headers()
        self.close_connection |= isinstance(content, Torn)
        self.wfile.write(data)

    def do_GET(self) -> None:
        page = self.server.gets(self.path)
        if page is None:
            self.send_error(404)
            return
        data = page if isinstance(page, bytes) else json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: Any) -> None:
        pass


def chat_reply(text: str | None, prompt: int = 20, reply: int = 2) -> dict:
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def content_of(body: dict) -> tuple[str, int]:
    """Text of a chat's last turn, and the number of images in the chat."""
    images = sum(part["type"] == "image_url" for turn in body["messages"] if isinstance(turn["content"], list) for part in turn["content"])
    last = body["messages"][-1]["content"]
    return last if isinstance(last, str) else "".join(part.get("text", "") for part in last), images


def parrot(path: str, body: dict) -> Any:
    """Replies with the last word; images are 64 tokens each."""
    text, images = content_of(body)
    return chat_reply(text.split()[-1], prompt=len(text.split()) + 64 * images)


class Completions:
    """vLLM's /completions over a model of transformers: prompts of token ids or text, echo with log-probabilities, greedy replies."""

    def __init__(self, folder, takes_tokens: bool = True, logprobs: bool = True) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.takes_tokens, self.logprobs, self.lock = takes_tokens, logprobs, threading.Lock()

    def __call__(self, path: str, body: dict):
        if path != "/v1/completions":
            return 404, {"error": {"message": "text only"}}
        prompt = body["prompt"]
        if not isinstance(prompt, str) and not self.takes_tokens:
            return 400, {"detail": "prompt must be a string."}
        several = isinstance(prompt, list) and isinstance(prompt[0], list)
        with self.lock, torch.inference_mode():
            choices = [self._choice(i, one, body) for i, one in enumerate(prompt if several else [prompt])]
        usage = {"prompt_tokens": sum(one.pop("prompt") for one in choices), "completion_tokens": sum(one.pop("new") for one in choices)}
        return {"choices": choices[::-1], "usage": usage}  # in no order: each has its index

    def _choice(self, index: int, prompt, body: dict) -> dict:
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        row = list(ids)
        for _ in range(body["max_tokens"]):
            row.append(int(self.model(torch.tensor([row])).logits[0, -1].argmax()))
            if row[-1] == self.tokenizer.eos_token_id:
                break
        shown = row if body.get("echo") else row[len(ids) :]
        end = [self.tokenizer.eos_token_id] if shown[-1:] == [self.tokenizer.eos_token_id] and not body.get("echo") else []
        text = self.tokenizer.decode(shown[: len(shown) - len(end)], skip_special_tokens=body.get("skip_special_tokens", True))
        choice = {"index": index, "text": text, "prompt": len(ids), "new": len(row) - len(ids)}
        if body.get("logprobs") is not None:
            choice["logprobs"] = self._logprobs(row) if self.logprobs else None
        return choice

    def _logprobs(self, row: list[int]) -> dict:
        scores = self.model(torch.tensor([row])).logits[0].log_softmax(-1)
        own = [None, *(float(scores[i, token]) for i, token in enumerate(row[1:]))]
        best = [None, *({"best": float(scores[i].max()), "own": float(scores[i, token])} for i, token in enumerate(row[1:]))]
        return {"token_logprobs": own, "top_logprobs": best}


class Provider:
    """The batch API of OpenAI over a script that answers single requests; a batch ends when it is looked at for the second time."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.paid: Counter[str] = Counter()  # how often an answer to a request was billed
        self.verdict: Any = lambda line, batch: None  # (status, body): instead of the answer; "expired": no answer in time
        self.status: Any = lambda batch: "completed"
        self.errors: Any = None  # of a failed batch
        self.looks = 2  # until a batch has ended
        self.lock = threading.RLock()
        self.after_create: Any = lambda: None

    def post(self, path: str, body: dict) -> Any:
        with self.lock:
            if path == "/v1/files":
                parts = {
                    part.get_param("name", header="content-disposition"): part for part in email.message_from_bytes(body["form"]).walk()
                }
                assert parts["purpose"].get_payload(decode=True).strip() == b"batch"
                return {"id": self._keep(parts["file"].get_payload(decode=True)), "object": "file"}
            if path == "/v1/batches":
                assert body["completion_window"] == "24h" and body["input_file_id"] in self.files
                name = f"batch-{len(self.batches)}"
                self.batches[name] = {**body, "id": name, "status": "validating", "looks": 0}
                return self.after_create() or self.batches[name]
            return self.answer(path, body)

    def get(self, path: str) -> Any:
        with self.lock:
            place, _, query = path.partition("?")
            if place == "/v1/batches":
                return self._page(dict(pair.split("=") for pair in query.split("&")))
            if place.startswith("/v1/batches/"):
                return self._look(self.batches[place.rpartition("/")[2]])
            if place.startswith("/v1/files/"):
                return self.files[place.split("/")[3]]
            return None

    def lines_of(self, batch: dict) -> list[dict]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _page(self, query: dict) -> dict:
        names = list(self.batches)[::-1]  # the newest first
        start = names.index(query["after"]) + 1 if "after" in query else 0
        page = names[start : start + 2]
        return {"data": [self.batches[name] for name in page], "has_more": start + 2 < len(names)}

    def _look(self, batch: dict) -> dict:
        batch["looks"] += 1
        if batch["looks"] < self.looks:
            return {**batch, "status": "in_progress"}
        if batch["status"] == "validating":
            self._end(batch)
        return batch

    def _end(self, batch: dict) -> None:
        batch["status"] = self.status(batch)
        if batch["status"] == "failed":
            batch["errors"] = {"data": self.errors}
            return
        good, bad = [], []
        for line in self.lines_of(batch):
            assert line["method"] == "POST" and line["url"] == batch["endpoint"]
            found = self.verdict(line, batch) or (200, self.answer(line["url"], line["body"]))
            if found == "expired":
                bad.append({"custom_id": line["custom_id"], "response": None, "error": {"code": "batch_expired", "message": "too late"}})
                continue
            status, body = found
            self.paid[line["custom_id"]] += status == 200
            answer = {"custom_id": line["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            (good if status == 200 else bad).append(answer)
        for name, lines in (("output_file_id", good[::-1]), ("error_file_id", bad)):  # answers come in any order
            batch[name] = self._keep("\n".join(map(json.dumps, lines)).encode()) if lines else None


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The first wait between tries is a millisecond, and no proxy of the machine is used for the loopback."""
    monkeypatch.setattr(openai_client, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """serve(script) → a running server."""
    servers = []

    def start(script: Script = parrot, port: int = 0) -> Server:
        servers.append(Server(script, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def load() -> Callable[..., Model]:
    """load(server, option=…) → the model "openai:m" behind it."""

    def call(server: Any, name: str = "m", blind: bool = False, **more: Any) -> Model:
        url = server if isinstance(server, str) else server.url
        return load_model(f"openai:{name}", ModelOptions(server=ServerOptions(base_url=url, **({"retries": 1} | more))), blind=blind)

    return call


@pytest.fixture(scope="session")
def replies() -> Any:
    """chat_reply, content_of, parrot and Torn, for scripts of tests."""
    from types import SimpleNamespace

    return SimpleNamespace(chat=chat_reply, content=content_of, parrot=parrot, torn=Torn)


@pytest.fixture(scope="session")
def completions_of() -> type[Completions]:
    """completions_of(folder) → a script: the model in `folder` behind vLLM's /completions."""
    return Completions


@pytest.fixture
def provider(serve) -> Any:
    """provider(**settings) → a server, and the Provider behind it."""

    def start(answer: Any = parrot, **settings: Any) -> tuple[Any, Provider]:
        made = Provider(answer)
        for name, value in settings.items():
            setattr(made, name, value)
        server = serve(made.post)
        server.gets = made.get
        return server, made

    return start
