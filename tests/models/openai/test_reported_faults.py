"""Reported faults of models behind servers: one test per fault, against servers on loopback that answer as the named ones do."""

from __future__ import annotations

import re

import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.openai.client import MALFORMED
from iit_bench.models.openai.encoding import read_chat
from iit_bench.models.rendering import template_sha256
from iit_bench.server_options import ServerOptions
from iit_bench.storage.runs import load_run
from iit_bench.types import Message
from tests import scripted_model
from tests.scripted_model import save_scripted

ASKED = (Message("user", ("say Paris",)),)
THOUGHT = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Which? "}]},
    {"type": "text", "text": "Par"},
    {"type": "text", "text": "is"},
]
HIDDEN = {"completion_tokens_details": {"reasoning_tokens": 9}}


def message(finish: str = "stop", usage: dict | None = None, **fields) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 12} | (usage or {})}


# ---------------------------------------------------------------- reasoning


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # vLLM, DeepSeek, SGLang; OpenRouter; vLLM of today, which sends both
        (message(content="Paris", reasoning_content="Which?"), ("Paris", "Which?", "stop", False)),
        (message(content="Paris", reasoning="Which?"), ("Paris", "Which?", "stop", False)),
        (message(content="Paris", reasoning="Which?", reasoning_content="Which?"), ("Paris", "Which?", "stop", False)),
        (message(content="Paris", reasoning_details=[{"type": "reasoning.text", "text": "Which?"}]), ("Paris", "Which?", "stop", False)),
        # Mistral's list of parts; a list of text parts
        (message(content=THOUGHT), ("Paris", "Which?", "stop", False)),
        (message(content=[{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]), ("Paris", "", "stop", False)),
        # cut inside the reasoning, shown or only counted
        (message("length", content=None, reasoning_content="Which"), ("", "Which", "length", True)),
        (message("length", content="", usage=HIDDEN), ("", "", "length", True)),
        (message(content="Paris", usage=HIDDEN), ("Paris", "", "stop", False)),
        # no reasoning at all
        (message("content_filter", content=None, refusal="No."), ("No.", "", "content_filter", False)),
        (message(content=None), ("", "", "stop", False)),
    ],
)  # fmt: skip
def test_a_servers_reasoning_is_no_part_of_the_reply(reply, expected):
    """Reasoning fields were dropped, a content of parts ended the run, and a reply cut in its reasoning looked like an empty one."""
    result = read_chat(reply)
    assert (result.text, result.reasoning, result.finish_reason, result.unfinished_reasoning) == expected
    assert (result.prompt_tokens, result.new_tokens) == (5, 12)


@pytest.mark.parametrize("content", [7, [7], [{"type": "text", "text": 7}]])
def test_a_content_that_is_no_text_is_an_answer_of_another_shape(content):
    """What is neither a text nor parts of text is an error of the server, not of the program."""
    with pytest.raises(MALFORMED):
        read_chat(message(content=content))


def test_reasoning_in_the_text_is_split_off_and_has_a_budget(serve, load):
    """A server without a parser for reasoning leaves it in the content; both limits are sent as one, which is all that servers take."""
    server = serve(lambda path, body: message(content="<think>Which?</think>\n\nParis"))
    model = load(server)
    assert model.capabilities.reasons
    (result,) = model.generate([GenerateRequest(ASKED, 3, 40)])
    assert (result.text, result.reasoning) == ("Paris", "Which?")
    assert server.bodies()[-1]["max_tokens"] == 43


def test_whether_a_server_reasons_is_found_out(serve, load, replies):
    """Thinking models behind servers were cut at 32 tokens by default: what the probe returns decides the default budget."""
    assert load(serve(lambda path, body: message("length", content=None, reasoning_content="Okay"))).capabilities.reasons
    assert load(serve(lambda path, body: message("length", content="", usage=HIDDEN))).capabilities.reasons
    assert not load(serve()).capabilities.reasons


# ---------------------------------------------------------------- template arguments


def test_template_arguments_are_sent_with_every_chat(serve):
    """`enable_thinking=false` could not be sent; it goes out as vLLM, SGLang and llama.cpp take it, and into every key."""
    server = serve()
    options = ModelOptions(server=ServerOptions(base_url=server.url), chat_template_kwargs={"enable_thinking": False})
    model = load_model("openai:m", options)
    model.generate([GenerateRequest(ASKED)])
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in server.bodies())
    assert model.info.settings == {"chat_template_kwargs": {"enable_thinking": False}}


def test_a_server_that_takes_no_template_arguments_is_one_sentence(serve, replies):
    """OpenAI's own server rejects them: the sentence names the option, not the spelling of a limit."""

    def strict(path, body):
        return (400, {"error": "Unrecognized request argument"}) if "chat_template_kwargs" in body else replies.parrot(path, body)

    options = ModelOptions(server=ServerOptions(base_url=serve(strict).url), chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(UserError, match=r"rejects --chat-template-kwargs .*Unrecognized.*; leave it out"):
        load_model("openai:m", options)


# ---------------------------------------------------------------- images


@pytest.fixture
def failing(serve, replies):
    """A server that answers 500 to a chat with an image."""
    return serve(lambda path, body: (500, "cuda error") if replies.content(body)[1] else replies.parrot(path, body))


def test_a_server_that_fails_with_an_image_is_not_taken_for_one_without(failing, bench, tmp_path, capsys):
    """A fault of the server was filed as "takes no images": the run left out every visual tier and ended with 0."""
    command = [
        "eval",
        "--model",
        "openai:m",
        "--base-url",
        failing.url,
        "--retries",
        "0",
        "--bench",
        str(bench.path),
        "--limit",
        "2",
        "--quiet",
    ]
    assert main([*command, "--out", str(tmp_path / "all")]) == 2
    assert re.search("fails with a test image .*HTTP 500: cuda error.*; repair it, or leave images out", capsys.readouterr().err)
    assert not (tmp_path / "all" / "results.json").exists()
    assert main([*command, "--tiers", "T", "--out", str(tmp_path / "text")]) == 0
    assert main([*command, "--blind", "--out", str(tmp_path / "blind")]) == 0
    vqa = ["eval", "--suite", "vqa", "--tasks", "MMBench_DEV_EN", *command[1:7], "--out", str(tmp_path / "vqa")]
    assert main(vqa) == 2
    assert "fails with a test image" in capsys.readouterr().err


# ---------------------------------------------------------------- scoring


def test_a_fallback_to_generating_is_said(serve, completions_of, save_tiny, bench, tmp_path, capsys):
    """With --tokenizer, a server without log-probabilities was asked to generate without a word; the reason is shown and recorded."""
    folder = save_tiny("llama", max_position_embeddings=512)
    server = serve(completions_of(folder, logprobs=False))
    command = ["eval", "--model", "openai:m", "--base-url", server.url, "--tokenizer", str(folder), "--bench", str(bench.path)]
    assert main([*command, "--limit", "1", "--tiers", "T", "--quiet", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "are generated, since it cannot score given ones: the server does not return the log-probabilities" in said
    run = load_run(tmp_path / "run").run
    assert run["scoring"] == "generate" and run["scoring_fallback"] in said
    server.script = completions_of(folder)
    assert main([*command, "--limit", "1", "--tiers", "T", "--quiet", "--out", str(tmp_path / "scored")]) == 0
    assert load_run(tmp_path / "scored").run["scoring_fallback"] == "" and "cannot score" not in capsys.readouterr().err


# ---------------------------------------------------------------- with --tokenizer


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("template", ["THINKING", "OPENING"])
def test_a_token_servers_reasoning_is_that_of_the_same_model_here(serve, load, completions_of, tmp_path, template, special):
    """Reasoning was read as the answer, and its marks are left out of a server's text where they are special tokens."""
    script = ["<think>", "z", "q", "j", "</think>", "k", "Q", "x", "J", "v", "<|end|>"][template == "OPENING" :]  # letters that never merge
    folder = save_scripted(tmp_path / "model", script, getattr(scripted_model, template), special=special)
    served = load(serve(completions_of(folder)), tokenizer=str(folder))
    here = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
    assert served.capabilities.reasons and here.capabilities.reasons
    for limits in ((32, 0), (3, 20), (2, 2)):
        (ours,), (theirs,) = (model.generate([GenerateRequest(ASKED, *limits)]) for model in (served, here))
        parts = [(one.text, one.reasoning, one.unfinished_reasoning, one.finish_reason, one.reasoning_tokens) for one in (ours, theirs)]
        assert parts[0] == parts[1]


def test_a_token_servers_template_is_told_arguments_and_date(serve, load, completions_of, tmp_path):
    """With --tokenizer chats are rendered here: the template's arguments and clock are fixed as under `hf:`."""
    template = "{{ strftime_now('%Y') }}" + scripted_model.THINKING
    folder = save_scripted(tmp_path / "model", ["A", "<|end|>"], template)
    server = serve(completions_of(folder))
    given = {"chat_template_kwargs": {"enable_thinking": False}, "date": "1999-01-01"}
    served = load_model("openai:m", ModelOptions(server=ServerOptions(base_url=server.url, tokenizer=str(folder)), **given))
    here = load_model(f"hf:{folder}", ModelOptions(device="cpu", **given))
    assert served.render(ASKED) == here.render(ASKED) == "1999<|user|>say Paris<|end|><|assistant|><think></think>"
    assert served.info.settings == here.info.settings
    assert served.info.chat_template_sha256 == here.info.chat_template_sha256 == template_sha256(template)
