"""`openai:` with --tokenizer, a tiny Llama behind a server that echoes log-probabilities: the scores of the same model under `hf:`."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, RollingRequest, ScoreRequest, TextGenerateRequest, TextScoreRequest
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run
from iit_bench.types import Message

DATA = Path(__file__).parents[2] / "data"
CHAT = (
    Message("system", ("Answer.",)),
    Message("user", ("What is the capital of France?",)),
    Message("assistant", ("Paris",)),
    Message("user", ("And the colour of the circle?",)),
)
REPLIES = ("red", "the square is blue", "yes no", "Paris is the capital of France.")


@pytest.fixture(scope="module")
def folder(save_tiny):
    return save_tiny("llama", max_position_embeddings=512)


@pytest.fixture(scope="module")
def completions(completions_of, folder):
    return completions_of(folder)


@pytest.fixture(scope="module")
def hf(folder):
    return load_model(f"hf:{folder}", ModelOptions(device="cpu"))


@pytest.fixture
def model(serve, load, completions, folder):
    return load(serve(completions), tokenizer=str(folder))


def same(ours, theirs) -> bool:
    return (ours.tokens, ours.greedy, ours.prompt_tokens) == (theirs.tokens, theirs.greedy, theirs.prompt_tokens) and ours.logprobs == (
        pytest.approx(theirs.logprobs, abs=1e-4)
    )


def test_server_that_is_busy_as_it_is_shown_an_image_is_not_taken_for_one_without(serve, load, completions, replies, folder):
    def busy(path, body):
        if "messages" not in body:
            return completions(path, body)
        return (429, "") if replies.content(body)[1] else replies.parrot(path, body)

    with pytest.raises(UserError, match="is unavailable: HTTP 429"):
        load(serve(busy), tokenizer=str(folder))


# ---------------------------------------------------------------- equal to the same model in this process


def test_replies_to_chats_have_the_scores_of_the_same_model_in_this_process(model, hf):
    assert model.capabilities.scores and not model.capabilities.scores_images
    request = ScoreRequest(CHAT, REPLIES)
    (ours,), (theirs,) = model.score([request]), hf.score([request])
    assert same(ours, theirs)
    assert len(set(ours.tokens)) > 2
    assert model.request_tokens(request) == hf.request_tokens(request) + 1  # the one that a server generates
    assert model.info.chat_template_sha256 == hf.info.chat_template_sha256


def test_raw_texts_have_the_same_scores_continuations_and_windows(model, hf):
    long = "The circle is red, the square is blue. " * 40  # several windows
    asked = [TextScoreRequest("What is the capital", (" of France?", " of the circle")), TextScoreRequest("", ("yes", "no maybe"))]
    for request in asked:
        assert same(model.score_text([request])[0], hf.score_text([request])[0])
    short = RollingRequest("Paris is the capital of France.")
    assert same(model.score_rolling([short])[0], hf.score_rolling([short])[0])
    (ours,), (theirs,) = model.score_rolling([RollingRequest(long)]), hf.score_rolling([RollingRequest(long)])
    assert ours.tokens == theirs.tokens  # the same text in other windows: every token is scored once
    assert ours.logprobs[0] == pytest.approx(theirs.logprobs[0], rel=0.05)


def test_most_likely_continuation_is_reported_as_such(model, hf):
    contexts = [TextGenerateRequest(f"Number {i}", max_new_tokens=1) for i in range(30)]
    said = [one.text for one in hf.generate_text(contexts)]  # where its token is a text of its own, it is greedy
    asked = [TextScoreRequest(one.context, (text, "red")) for one, text in zip(contexts, said, strict=True) if text.isascii() and text]
    ours = model.score_text(asked)
    assert all(same(one, other) for one, other in zip(ours, hf.score_text(asked), strict=True))
    assert any(one.greedy == (True, False) for one in ours)


@pytest.mark.parametrize("takes_tokens", [True, False])
def test_replies_and_continuations_are_those_of_the_same_model(serve, load, completions_of, folder, hf, takes_tokens):
    model = load(serve(completions_of(folder, takes_tokens)), tokenizer=str(folder))
    assert model.capabilities.scores == takes_tokens
    request = GenerateRequest(CHAT, 9)
    (ours,), (theirs,) = model.generate([request]), hf.generate([request])
    assert (ours.text, ours.prompt_tokens) == (theirs.text, theirs.prompt_tokens) and ours.text
    text = TextGenerateRequest("The circle", until=(ours.text[2],), max_new_tokens=9, settings=(("do_sample", False),))
    assert model.generate_text([text])[0].text == hf.generate_text([text])[0].text


def test_context_that_does_not_fit_is_cut_on_the_left(model, completions, serve, load, folder):
    server = serve(completions)
    model = load(server, tokenizer=str(folder))
    assert model.context_limit == 512 - 2 or model.info.max_context is None
    request = TextScoreRequest("word " * 3000, (" yes",))
    model.score_text([request])
    (prompt,) = server.bodies("/v1/completions")[-1]["prompt"]
    assert len(prompt) <= model.context_limit + 1
    assert prompt[-3:] == (model.encode_text("word " * 3000 + " yes"))[-3:]


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def both_runs(serve, completions, folder, tmp_path):
    """both_runs(option, …) → the server; tmp_path/served and tmp_path/here are runs of the same model, behind it and in this process."""

    def call(*options: str):
        server = serve(completions)
        ways = {"served": ["openai:m", "--base-url", server.url, "--tokenizer", str(folder)], "here": [f"hf:{folder}", "--device", "cpu"]}
        for name, way in ways.items():
            assert main(["eval", "--quiet", "--out", str(tmp_path / name), *options, "--model", *way]) == 0
        return server

    return call


@pytest.mark.slow
def test_run_is_scored_like_that_of_the_same_model_in_this_process_and_counts_what_the_server_bills(
    both_runs, completions, bench, tmp_path
):
    server = both_runs("--bench", str(bench.path), "--limit", "8")
    served, here = load_run(tmp_path / "served"), load_run(tmp_path / "here")
    assert served.run["scoring"] == here.run["scoring"] == "loglikelihood"
    assert len(served.predictions) == len(here.predictions) >= 12
    for one, other in zip(served.predictions, here.predictions, strict=True):
        assert (one.dialogue, one.chosen, one.outcome, one.prompt_tokens) == (
            other.dialogue,
            other.chosen,
            other.outcome,
            other.prompt_tokens,
        )
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    bodies = [body for body in server.bodies("/v1/completions") if body["prompt"] != [completions.tokenizer.encode("Answer with yes.")]]
    billed = [completions("/v1/completions", body)["usage"] for body in bodies]
    usage = served.run["usage"]
    assert usage["prompt_tokens"] == sum(one["prompt_tokens"] for one in billed)
    assert usage["reply_tokens"] == sum(one["completion_tokens"] for one in billed)
    assert usage["answers"] == len(bodies)


@pytest.mark.slow
def test_text_suite_has_the_scores_of_the_same_model_in_this_process(both_runs, tmp_path):
    snapshots = tmp_path / "snapshots"
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](snapshots, 6)
    options = ("--suite", "text", "--tasks", "arc_easy,gsm8k", "--data-root", str(snapshots), "--limit", "4", "--num-fewshot", "1")
    both_runs(*options, "--max-new-tokens", "6", "--apply-chat-template")
    served, here = load_run(tmp_path / "served"), load_run(tmp_path / "here")
    assert len(served.items) > 8 and served.items == here.items
    assert [task.scores for task in served.results.tasks] == [task.scores for task in here.results.tasks]


@pytest.mark.slow
def test_scores_that_cannot_be_had_are_refused_in_one_sentence_and_auto_generates(
    serve, completions_of, replies, folder, bench, tmp_path, capsys
):
    def run(script, *more: str) -> int:
        words = ["eval", "--model", "openai:m", "--base-url", serve(script).url, "--tokenizer", str(folder), "--retries", "0", "--quiet"]
        return main([*words, "--bench", str(bench.path), "--limit", "4", "--out", str(tmp_path / "run"), *more])

    silent = completions_of(folder, logprobs=False)
    capsys.readouterr()  # bars of loading
    assert run(silent, "--scoring", "loglikelihood") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot score replies: the server does not return the log-probabilities of a prompt's tokens" in said
    assert said.endswith("or use --scoring generate")
    echoing = completions_of(folder)
    sees = lambda path, body: replies.parrot(path, body) if "chat" in path else echoing(path, body)  # noqa: E731
    assert run(sees, "--scoring", "loglikelihood") == 2
    assert "it scores only replies to text; leave out the tiers with images with --tiers" in capsys.readouterr().err
    assert run(sees, "--max-new-tokens", "2") == 0
    assert load_run(tmp_path / "run").run["scoring"] == "generate"
    assert run(sees, "--tiers", "T,TT", "--fresh") == 0
    assert load_run(tmp_path / "run").run["scoring"] == "loglikelihood"


# ---------------------------------------------------------------- what the server does not do


def test_server_without_logprobs_only_generates_and_records_what_it_would_need(serve, load, completions_of, folder):
    model = load(serve(completions_of(folder, logprobs=False)), tokenizer=str(folder))
    assert not model.capabilities.scores
    assert (
        "does not return the log-probabilities of a prompt's tokens; it must take token ids in /completions with echo and logprobs"
        in model.capabilities.why_not["scores"]
    )
    with pytest.raises(UserError, match="cannot score replies, which a task asks for"):
        model.text_tokens(TextScoreRequest("x", ("a",)))


@pytest.mark.parametrize("logprobs", [None, {}, {"token_logprobs": [None, -1.0], "top_logprobs": [None, {}]}, {"token_logprobs": "x"}])
def test_logprobs_of_another_shape_are_none(serve, load, folder, logprobs):
    server = serve(lambda path, body: {"choices": [{"index": 0, "text": "x", "logprobs": logprobs}]})
    assert not load(server, tokenizer=str(folder)).capabilities.scores


def test_logprobs_that_are_missing_later_are_an_error_of_the_item(serve, load, completions, folder):
    server = serve(completions)
    model = load(server, tokenizer=str(folder))

    def script(path, body):
        found = completions(path, body)
        if body.get("echo"):
            found["choices"][0]["logprobs"]["token_logprobs"][-2] = None
        return found

    server.script = script
    with pytest.raises(ItemError, match=r"the server fails on it.*log-probabilities are missing"):
        model.score([ScoreRequest(CHAT, REPLIES)])


def test_server_without_completions_is_reported_at_the_start(serve, load, replies, folder):
    server = serve(lambda path, body: replies.parrot(path, body) if "chat" in path else (404, {"error": "no such path"}))
    with pytest.raises(UserError, match=r"does not continue raw text \(HTTP 404: no such path\), which --tokenizer needs; leave it out"):
        load(server, tokenizer=str(folder))


def test_tokenizer_that_is_not_there_is_reported(serve, load):
    with pytest.raises(UserError, match=r"--tokenizer 'no/such/folder' cannot be loaded: .* give the model's folder or Hub id"):
        load(serve(), tokenizer="no/such/folder")


# ---------------------------------------------------------------- prompts


def test_model_without_chat_template_is_asked_in_the_plain_form(serve, load, completions_of, save_tiny):
    bare = save_tiny("llama", chat_template=None, max_position_embeddings=512)
    model = load(serve(completions_of(bare)), tokenizer=str(bare))
    theirs = load_model(f"hf:{bare}", ModelOptions(device="cpu"))
    assert model.render(CHAT) == theirs.render(CHAT)
    assert same(model.score([ScoreRequest(CHAT, REPLIES)])[0], theirs.score([ScoreRequest(CHAT, REPLIES)])[0])


def test_chats_with_images_go_to_chat_completions_and_cannot_be_scored(serve, load, completions, replies, folder, make_image):
    server = serve(lambda path, body: replies.parrot(path, body) if "chat" in path else completions(path, body))
    model = load(server, tokenizer=str(folder))
    assert model.info.accepts_images
    chat = (Message("user", (make_image(0), "\nIs it red or blue?")),)
    assert model.generate([GenerateRequest(chat)])[0].text == "blue?"
    with pytest.raises(UserError, match="cannot score replies"):
        model.score([ScoreRequest(chat, REPLIES)])
