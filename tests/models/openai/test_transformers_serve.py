"""A real OpenAI-compatible server, `transformers serve`, with real tiny models: killed in the middle of a run and started again.

The server's own log shows what it was asked.
"""

from __future__ import annotations

import dataclasses
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.server_options import ServerOptions
from iit_bench.storage.runs import load_run
from iit_bench.types import Message
from tests import warm_processes

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

pytest.importorskip("uvicorn")
pytest.importorskip("openai")
PRELOAD = (*warm_processes.MODELS, "transformers.cli.transformers", "uvicorn", "fastapi")
LIMIT = "10"  # groups: 70 dialogues, some of them asked alike


class TransformersServe:
    """`transformers serve` on a port of its own; models are loaded by the folder that a request names."""

    def __init__(self, logs: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.logs, self.starts = f"http://127.0.0.1:{self.port}/v1", logs, 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", "--device", "cpu"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = warm_processes.start(command, stdout=log, stderr=log, preload=PRELOAD)
        for _ in range(1200):
            if self.process.poll() is not None:
                pytest.fail(f"transformers serve ended: {self.log.read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail("transformers serve did not start")

    @property
    def log(self) -> Path:
        return self.logs / f"serve-{self.starts}.log"

    def asked(self) -> int:
        """Requests that reached the server since it was started last."""
        return self.log.read_text().count("[Request received]")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[TransformersServe]:
    server = TransformersServe(tmp_path_factory.mktemp("serve"))
    yield server
    server.kill()


def evaluate(server: TransformersServe, model: Path, bench: Path, out: Path, *more: str) -> int:
    words = ["eval", "--model", f"openai:{model}", "--base-url", server.url, "--bench", str(bench), "--out", str(out)]
    return main([*words, "--limit", LIMIT, "--max-new-tokens", "4", "--quiet", *more])


def answers(run: Path) -> int:
    log = run / "responses.jsonl"
    return max(log.read_bytes().count(b"\n") - 1, 0) if log.exists() else 0


def test_replies_to_images_and_chats_are_those_of_the_same_model_in_this_process(server, tiny_llava, make_image):
    model = load_model(f"openai:{tiny_llava}", ModelOptions(server=ServerOptions(base_url=server.url)))
    assert model.info.accepts_images
    theirs = load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))
    first = (Message("user", (make_image(0), "\nWhich colour?")), Message("assistant", ("red",)))
    chats = [(*first, Message("user", (make_image(i), make_image(i + 1), "\nAnd these?"))) for i in range(3)]
    requests = [GenerateRequest(chat, 8) for chat in (*chats, (Message("user", ("What is the capital of France?",)),))]
    found = [(one.text, one.prompt_tokens, one.new_tokens) for one in model.generate(requests)]
    expected = [(one.text, one.prompt_tokens) for one in theirs.generate(requests)]
    assert [one[:2] for one in found] == expected
    assert len({text for text, _, _ in found}) > 1


def test_images_that_a_text_model_drops_in_silence_are_noticed(server, save_tiny):
    llama = save_tiny("llama", max_position_embeddings=512)
    info = load_model(f"openai:{llama}", ModelOptions(server=ServerOptions(base_url=server.url))).info
    assert not info.accepts_images and info.details["images"].startswith("dropped")


def test_model_without_chat_template_is_one_sentence_and_runs_with_its_tokenizer(server, save_tiny):
    bare = save_tiny("llama", chat_template=None, max_position_embeddings=512)
    options = ServerOptions(base_url=server.url, retries=0)
    with pytest.raises(UserError, match=r"is unavailable: .*; check its log; a model without chat template needs --tokenizer"):
        load_model(f"openai:{bare}", ModelOptions(server=options))
    model = load_model(f"openai:{bare}", ModelOptions(server=dataclasses.replace(options, tokenizer=str(bare))))
    assert (model.capabilities.scores, model.info.details["prompts"]) == (False, "text")
    theirs = load_model(f"hf:{bare}", ModelOptions(device="cpu"))
    chat = (Message("user", ("What is the capital of France?",)), Message("assistant", ("Paris",)), Message("user", ("Again?",)))
    (ours,), (expected,) = model.generate([GenerateRequest(chat, 8)]), theirs.generate([GenerateRequest(chat, 8)])
    assert (ours.text, ours.prompt_tokens) == (expected.text, expected.prompt_tokens) and ours.text


def test_server_killed_and_restarted_in_the_middle_loses_nothing_and_is_asked_nothing_twice(server, tiny_llava, bench, tmp_path, capsys):
    run = tmp_path / "run"

    def kill_soon() -> None:
        while answers(run) < 8:
            time.sleep(0.005)
        server.kill()

    killer = threading.Thread(target=kill_soon)
    killer.start()
    code = evaluate(server, tiny_llava, bench.path, run, "--concurrency", "2", "--retries", "0")
    killer.join()
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(said) == 1
    assert f"the server at {server.url} is unavailable" in said[0] and said[0].endswith(
        "answers so far are kept, repeat the command to resume"
    )
    kept = answers(run)
    before = (run / "responses.jsonl").read_bytes()
    server.start()
    assert evaluate(server, tiny_llava, bench.path, run, "--concurrency", "2", "--retries", "0") == 0
    log = (run / "responses.jsonl").read_bytes()
    assert log.startswith(before) and kept >= 8
    keys = [line.split(b'"key":')[1][:68] for line in log.splitlines()[1:]]
    assert len(set(keys)) == len(keys)
    assert server.asked() == len(keys) - kept + 2  # and the two questions at the start
    found = load_run(run)
    assert found.results.complete and found.run["resumed"] == 1 and found.errors == ()
    assert found.run["scoring"] == "generate"
    assert found.run["usage"]["answers"] == len(keys)
    assert all(one.prompt_tokens > 0 for one in found.predictions)
    whole = tmp_path / "whole"
    assert evaluate(server, tiny_llava, bench.path, whole) == 0
    assert load_run(whole).predictions == found.predictions
