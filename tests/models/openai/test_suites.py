"""Whole runs through a server: all three suites, what run.json records of them, kills of the client, and what they refuse."""

from __future__ import annotations

import json
import os
import runpy
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.storage.runs import load_run

KEY = "sk-verysecret"
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def evaluate(tmp_path, bench):
    """evaluate(server, option, …) → exit code; writes tmp_path/run."""

    def call(server, *more: str, suite: str = "iit", out: str = "run") -> int:
        words = ["eval", "--model", "openai:m", "--base-url", server.url, "--suite", suite, "--out", str(tmp_path / out), "--quiet"]
        words += ["--bench", str(bench.path)] if suite == "iit" else []
        return main([*words, "--retries", "0", *more])

    return call


def questions_asked(server) -> list[str]:
    """Requests of the run itself, as text; the ones at the start hold another question."""
    return [json.dumps(body, sort_keys=True) for body in server.bodies() if "Answer with yes." not in json.dumps(body)]


# ---------------------------------------------------------------- iit


def test_run_records_how_it_was_scored_what_it_used_and_what_that_cost(serve, evaluate, replies, tmp_path, bench):
    server = serve(lambda path, body: replies.chat("red", prompt=100 + 64 * replies.content(body)[1], reply=3))
    assert evaluate(server, "--limit", "4", "--price-in", "2", "--price-out", "10", "--concurrency", "3") == 0
    found = load_run(tmp_path / "run")
    asked = questions_asked(server)
    assert len(set(asked)) == len(asked) == found.run["usage"]["answers"] > 20
    assert {one.tier for one in found.predictions} == set(bench.tiers)
    images = sum(text.count('"image_url": {') for text in asked)
    prompt, reply = 100 * len(asked) + 64 * images, 3 * len(asked)
    assert found.run["scoring"] == "generate" and found.run["arguments"]["scoring"] == "auto"
    assert found.run["usage"] == {
        "answers": len(asked), "prompt_tokens": prompt, "reply_tokens": reply, "answers_without_counts": 0,
        "cost": pytest.approx((2 * prompt + 10 * reply) / 1e6),
    }  # fmt: skip
    assert found.run["tokens"] == prompt + reply
    assert found.run["model"]["device"] == "server" and found.run["model"]["checkpoint"] == server.url
    assert f"--base-url {server.url}" in found.run["command"]


def test_run_is_repeated_from_its_run_json(serve, evaluate, tmp_path):
    server = serve()
    more = ("--limit", "1", "--history", "own", "--concurrency", "2", "--timeout", "60", "--price-in", "1.5", "--price-out", "0")
    assert evaluate(server, *more) == 0
    assert main(["eval", "--from", str(tmp_path / "run" / "run.json"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    first, again = load_run(tmp_path / "run"), load_run(tmp_path / "again")
    assert first.predictions == again.predictions and first.run["usage"] == again.run["usage"]
    options = {"base_url": server.url, "concurrency": 2, "timeout": 60.0, "price_in": 1.5, "price_out": 0.0, "retries": 0}
    assert options.items() <= again.run["arguments"].items()


def test_cost_is_not_guessed_where_the_server_does_not_count(serve, evaluate, replies, tmp_path):
    server = serve(lambda path, body: {"choices": [{"message": {"content": "red"}}]})
    assert evaluate(server, "--limit", "1", "--price-in", "2", "--price-out", "10") == 0
    usage = load_run(tmp_path / "run").run["usage"]
    assert (usage["cost"], usage["answers_without_counts"]) == (None, usage["answers"])


def test_key_is_in_no_file_and_no_message(serve, evaluate, replies, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    server = serve()
    server.script = lambda path, body: replies.parrot(path, body) if len(server.seen) % 2 else (400, f"what about {KEY}?")
    server.seen.append(("", {}, {"Authorization": f"Bearer {KEY}"}))  # so that the questions at the start are odd ones out
    evaluate(server, "--api-key-env", "MY_KEY", "--limit", "2")
    server.script = lambda path, body: (401, f"bad key {KEY}")
    assert evaluate(server, "--api-key-env", "MY_KEY", out="refused") == 2
    printed = capsys.readouterr()
    assert "put a valid key into $MY_KEY" in printed.err
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"what about ***?" in data for data in files)
    assert not any(KEY.encode() in data for data in (*files, printed.out.encode(), printed.err.encode()))
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, _, headers in server.seen)


def test_items_that_the_server_refuses_are_errors_and_the_rest_is_scored(serve, evaluate, replies, tmp_path):
    def script(path, body):
        return (400, {"error": "no shapes"}) if "shape" in replies.content(body)[0] else replies.parrot(path, body)

    assert evaluate(serve(script), "--limit", "6") == 1
    found = load_run(tmp_path / "run")
    refused = {error["dialogue"] for error in found.errors}
    assert {(error["kind"], error["reason"], error["detail"]) for error in found.errors} == {
        ("item", "refused by the server", "HTTP 400: no shapes")
    }
    assert refused == {one.dialogue for one in found.predictions if one.outcome == "error"}
    assert 0 < len(refused) < len(found.predictions)


def test_text_only_server_runs_the_text_tiers_or_everything_blind(serve, evaluate, replies, tmp_path, capsys):
    def script(path, body):
        return (400, {"error": "text only"}) if replies.content(body)[1] else replies.parrot(path, body)

    server = serve(script)
    assert evaluate(server, "--limit", "4") == 0
    found = load_run(tmp_path / "run")
    assert {one.tier for one in found.predictions} == {"T", "TT", "TTT"}
    assert {tier.acc.note for tier in found.results.tiers if "V" in tier.tier} == {"the model takes no images"}
    told = capsys.readouterr().err
    assert "answers: " in told and "reply tokens; images: refused (HTTP 400: text only)" in told
    assert evaluate(server, "--limit", "1", "--blind", out="blind") == 0
    assert len({one.tier for one in load_run(tmp_path / "blind").predictions}) == 7
    assert evaluate(server, "--tiers", "V", out="v") == 2
    assert "the model takes no images and every chosen tier has some" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--scoring", "loglikelihood"), "cannot score replies: that needs --tokenizer"),
        (("--checkpoint", "x"), "runs on a server, which got this option when it was started; leave out --checkpoint"),
        (("--concurrency", "0"), "--concurrency 0 is too low"),
        (("--batch-size", "4"), "makes its own batches; give --concurrency, not --batch-size"),
    ],
)
def test_what_a_server_cannot_do_is_refused_in_one_sentence(serve, evaluate, capsys, tmp_path, more, message):
    assert evaluate(serve(), *more) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert message in said
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- killed


@pytest.mark.slow
def test_client_killed_at_any_moment_resumes_and_asks_nothing_twice_that_was_logged(serve, replies, bench, tmp_path):
    def script(path, body):
        time.sleep(0.01)
        return replies.parrot(path, body)

    server = serve(script)
    run = tmp_path / "run"
    log = run / "responses.jsonl"
    words = ["eval", "--model", "openai:m", "--base-url", server.url, "--bench", str(bench.path), "--quiet"]

    def start() -> int:
        if child := os.fork():
            return child
        os._exit(main([*words, "--out", str(run), "--concurrency", "4"]))

    answered = []
    for kill_at in (3, 15, 30, 45):
        child = start()
        while (log.read_bytes().count(b"\n") if log.exists() else 0) <= kill_at:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break  # it was through before the kill
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answered.append(log.read_bytes().count(b"\n") - 1)
    assert os.waitpid(start(), 0)[1] == 0
    found = load_run(run)
    keys = [json.loads(line)["key"] for line in log.read_bytes().splitlines()[1:]]
    assert len(set(keys)) == len(keys) == found.run["usage"]["answers"]
    assert answered == sorted(answered) and found.run["resumed"] == 4
    assert len({count for count in answered if count < len(keys)}) >= 2, f"no kill came in the middle: {answered} of {len(keys)}"
    # An answer that was under way when its asker died was never seen; each kill costs at most that many.
    asked = questions_asked(server)
    assert len(keys) <= len(asked) <= len(keys) + 4 * 5
    assert len(set(asked)) == len(keys)
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert load_run(tmp_path / "whole").predictions == found.predictions


# ---------------------------------------------------------------- text and vqa


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("text-snapshots")
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](root, 6)
    return root


@pytest.mark.slow
def test_text_suite_generates_as_chats_and_counts(serve, evaluate, replies, data_root, tmp_path):
    server = serve(lambda path, body: replies.chat("So the answer is 4. #### 4", prompt=50, reply=9))
    more = ("--tasks", "gsm8k", "--data-root", str(data_root), "--limit", "4", "--apply-chat-template", "--num-fewshot", "2")
    assert evaluate(server, *more, suite="text") == 0
    found = load_run(tmp_path / "run")
    asked = [body for body in server.bodies() if "Answer with yes." not in json.dumps(body)]
    assert len(asked) == 4 and found.run["usage"]["prompt_tokens"] == 200
    roles = [[turn["role"] for turn in body["messages"]] for body in asked]
    assert roles == [["user", "assistant"] * 2 + ["user"]] * 4
    assert all("Question:" in body["stop"] for body in asked)
    assert {item.reply for item in found.items} == {"So the answer is 4. #### 4"}


def test_text_suite_refuses_choices_before_anything_is_asked(serve, evaluate, data_root, capsys):
    server = serve()
    assert evaluate(server, "--tasks", "arc_easy,gsm8k", "--data-root", str(data_root), suite="text") == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("iit-bench:")]
    assert "cannot score replies, which task 'arc_easy' needs: that needs --tokenizer" in said
    assert questions_asked(server) == []


def test_all_suites_leave_out_what_a_chat_cannot_do_and_say_so(serve, evaluate, bench, data_root, tmp_path, capsys):
    server = serve()
    more = ("--bench", str(bench.path), "--tasks", "arc_easy", "--data-root", str(data_root), "--limit", "1")
    assert evaluate(server, *more, suite="all") == 0
    assert load_run(tmp_path / "run" / "iit").results.complete
    assert not (tmp_path / "run" / "text").exists()
    printed = capsys.readouterr()
    assert "cannot score replies, which task 'arc_easy' needs: that needs --tokenizer" in printed.out + printed.err


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_vqa_suite_asks_with_images(serve, evaluate, replies, tmp_path):
    if find_spec("vlmeval") is None:
        pytest.skip("VLMEvalKit is installed by hand (README)")
    server = serve()
    assert evaluate(server, "--tasks", "easyvqa", "--limit", "3", suite="vqa") == 0
    found = load_run(tmp_path / "run")
    assert found.results.tasks[0].scores["acc"].n == 3
    assert len(questions_asked(server)) == found.run["usage"]["answers"] >= 3
    assert all("data:image/png;base64," in text for text in questions_asked(server))


@pytest.mark.usefixtures("warm_workers")
def test_vqa_suite_records_how_it_found_out_that_a_server_takes_no_images(serve, evaluate, replies, capsys):
    if find_spec("vlmeval") is None:
        pytest.skip("VLMEvalKit is installed by hand (README)")
    server = serve(lambda path, body: replies.chat("red", prompt=7))
    assert evaluate(server, "--tasks", "easyvqa", suite="vqa") == 2
    said = "takes no images (dropped: a prompt has 7 tokens with an image, 7 without); add --blind to give it the text only"
    assert said in capsys.readouterr().err
