"""`openai:` without a tokenizer: chats to /chat/completions. What is sent, what comes back, and a sentence for each way it can go wrong."""

from __future__ import annotations

import base64
import io
import re
import threading

import pytest
from PIL import Image as PillowImage

from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import GenerateRequest, ScoreRequest, TextGenerateRequest, TextScoreRequest
from iit_bench.types import Image, Message


def ask(*parts, **more) -> GenerateRequest:
    return GenerateRequest((Message("user", parts),), **more)


# ---------------------------------------------------------------- what is sent


def test_chat_goes_out_in_reading_order_with_images_as_data_urls(serve, load, make_image):
    server, image = serve(), make_image(1)
    model = load(server)
    chat = (
        Message("system", ("Be brief.",)),
        Message("user", (image, "\nWhich?")),
        Message("assistant", ("red",)),
        Message("user", ("And now?",)),
    )
    model.generate([GenerateRequest(chat, 7)])
    body = server.bodies()[-1]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0)
    system, first, reply, last = body["messages"]
    assert (system, reply, last) == tuple(
        {"role": role, "content": text} for role, text in (("system", "Be brief."), ("assistant", "red"), ("user", "And now?"))
    )
    picture, text = first["content"]
    media, _, data = picture["image_url"]["url"].partition(";base64,")
    assert (media, base64.b64decode(data)) == ("data:image/png", image.data)
    assert text == {"type": "text", "text": "\nWhich?"}


def test_image_of_a_format_that_servers_may_not_read_is_sent_as_the_same_picture_in_png(serve, load):
    server, sink = serve(), io.BytesIO()
    PillowImage.radial_gradient("L").convert("RGB").save(sink, "TIFF")
    load(server).generate([ask(Image(sink.getvalue()), "x")])
    media, _, data = server.bodies()[-1]["messages"][0]["content"][0]["image_url"]["url"].partition(";base64,")
    sent = PillowImage.open(io.BytesIO(base64.b64decode(data)))
    assert (media, sent.format) == ("data:image/png", "PNG")
    assert sent.tobytes() == PillowImage.open(sink).tobytes()


@pytest.mark.parametrize("damage", [lambda data: b"no picture", lambda data: data[: len(data) // 2]])
def test_unreadable_image_is_an_error_of_its_item_and_is_never_sent(serve, load, make_image, damage):
    server = serve()
    model = load(server)
    before = len(server.seen)
    with pytest.raises(ItemError, match="unreadable image"):
        model.generate([ask(Image(damage(make_image(0).data)), "x")])
    assert len(server.seen) == before


def test_reply_and_counts_are_the_servers(serve, load, replies):
    server = serve()
    model = load(server)
    server.script = lambda path, body: replies.chat("  a red circle\n", prompt=31, reply=5)
    (found,) = model.generate([ask("x")])
    assert (found.text, found.prompt_tokens, found.new_tokens) == ("a red circle", 31, 5)


@pytest.mark.parametrize(
    ("message", "text"), [({"content": None}, ""), ({"content": ""}, ""), ({"content": None, "refusal": "I will not."}, "I will not.")]
)
def test_reply_without_words_is_an_empty_one(serve, load, message, text):
    server = serve()
    model = load(server)
    server.script = lambda path, body: {"choices": [{"message": message}]}
    (found,) = model.generate([ask("x")])
    assert (found.text, found.prompt_tokens) == (text, 0)


# ---------------------------------------------------------------- what is tried out at the start


@pytest.mark.parametrize(
    ("refused", "sent"),
    [(("max_tokens",), {"max_completion_tokens": 7, "temperature": 0}), (("max_tokens", "temperature"), {"max_completion_tokens": 7})],
)
def test_server_that_names_the_length_otherwise_is_asked_its_way(serve, load, replies, refused, sent):
    def script(path, body):
        wrong = [name for name in refused if name in body]
        return (400, {"error": {"message": f"Unsupported parameter: {wrong[0]}"}}) if wrong else replies.parrot(path, body)

    server = serve(script)
    model = load(server)
    assert model.generate([ask("say yes", max_new_tokens=7)])[0].text == "yes"
    body = server.bodies()[-1]
    assert {name: body[name] for name in body if name not in ("model", "messages")} == sent
    assert model.info.details["length limit"] == "max_completion_tokens"


def test_images_are_taken_where_they_make_the_prompt_longer(serve, load):
    model = load(serve())
    assert model.info.accepts_images and model.info.details["images"] == "taken"


def test_images_that_the_server_refuses_or_drops_in_silence_are_not_taken(serve, load, replies):
    def refuses(path, body):
        return (400, {"error": "m is not a multimodal model"}) if replies.content(body)[1] else replies.parrot(path, body)

    def drops(path, body):
        return replies.chat("yes", prompt=len(replies.content(body)[0]))

    def fails(path, body):
        return (500, "image input is not supported") if replies.content(body)[1] else replies.parrot(path, body)

    found = [load(serve(script)).info for script in (refuses, drops, fails)]
    assert not any(info.accepts_images for info in found)
    assert [info.details["images"].split(" ")[0] for info in found] == ["refused", "dropped:", "not"]
    assert load(serve(drops), blind=True).info.accepts_images  # nothing of them is left to drop


# ---------------------------------------------------------------- at the start: one sentence, and no traceback


START = {
    "wrong key": ((401, {"error": {"message": "bad key"}}), "rejects requests (HTTP 401: bad key); put a valid key into $OPENAI_API_KEY"),
    "no money": ((402, {"error": {"message": "no credits"}}), "rejects requests (HTTP 402: no credits); check your account"),
    "wrong name": ((404, {"error": {"message": "no model m"}}), "(HTTP 404: no model m); check the name 'm', and that --base-url"),
    "moved": ((308, ""), "rejects requests (HTTP 308: Permanent Redirect); give the address that it names"),
    "no template": ((400, {"error": "no chat template"}), "(HTTP 400: no chat template); a model without chat template needs"),
    "out of order": ((500, "ouch"), "is unavailable: HTTP 500: ouch (2 tries); check its log"),
    "a web page": ((200, "<html>hello"), "it answers what is not a completion"),
    "cut off": ((200, '{"choices": [{"mess'), "it answers what is not a completion"),
    "another protocol": ((200, {"answer": "yes"}), "it answers what is not a completion ('choices')"),
    "hangs up": (None, "is unavailable: it does not answer (Server disconnected without sending a response)"),
}  # fmt: skip


@pytest.mark.parametrize("case", START)
def test_server_that_cannot_be_used_is_reported_in_one_sentence_at_the_start(serve, load, case):
    reply, message = START[case]
    with pytest.raises(UserError, match=re.escape(message)) as found:
        load(serve(lambda path, body: reply))
    assert "\n" not in str(found.value)


def test_server_that_is_still_loading_is_waited_for(serve, load, replies):
    left = [1, 2]
    model = load(serve(lambda path, body: (503, "loading") if left and left.pop() else replies.parrot(path, body)), retries=3)
    assert model.generate([ask("say yes")])[0].text == "yes"


def test_server_that_is_unavailable_is_reported_at_once(load):
    with pytest.raises(
        UserError, match=r"127.0.0.1:9/v1 is unavailable: .*\(Connection refused\) \(1 try\); start it, or check --base-url"
    ):
        load("http://127.0.0.1:9/v1", retries=9)


# ---------------------------------------------------------------- in the middle of a run


def broken(serve, load, replies, reply, everything=False):
    """A model whose server answers `reply` to the word "bad", or to everything, from now on."""
    server = serve()
    model = load(server)
    server.script = lambda path, body: reply if everything or "bad" in replies.content(body)[0] else replies.parrot(path, body)
    return model


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        ((400, {"error": {"message": "no"}}), "refused by the server", "HTTP 400: no"),
        ((400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), "context overflow", "HTTP 400: too long"),
        ((403, {"error": {"message": "flagged"}}), "refused by the server", "HTTP 403: flagged"),
        ((500, "a bug"), "the server fails on it", "HTTP 500: a bug"),
        ((200, "garbage"), "the server fails on it", "not a completion"),
        ((200, '{"choices": [{"mess'), "the server fails on it", "not a completion"),
        (None, "the server fails on it", "Server disconnected without sending a response"),
    ],
)
def test_what_the_server_cannot_do_for_one_item_is_an_error_of_that_item(serve, load, replies, reply, reason, detail):
    model = broken(serve, load, replies, reply)
    with pytest.raises(ItemError) as found:
        model.generate([ask("bad")])
    assert found.value.reason == reason and detail in found.value.detail
    assert model.generate([ask("say yes")])[0].text == "yes"


def test_server_that_was_away_for_longer_than_the_tries_is_no_error_of_the_item(serve, load, replies):
    server = serve()
    model = load(server)
    left = [1, 2]
    server.script = lambda path, body: (500, "restarting") if left and left.pop() else replies.parrot(path, body)
    assert model.generate([ask("say yes")])[0].text == "yes"  # two tries fail, then it lives, then a last try


@pytest.mark.parametrize("reply", [(500, "down"), (200, "<html>maintenance"), None])
def test_server_that_answers_nobody_is_an_error_of_the_machine(serve, load, replies, reply):
    model = broken(serve, load, replies, reply, everything=True)
    with pytest.raises(MachineError, match=r"the server at http://127.0.0.1:[0-9]+/v1 is unavailable"):
        model.generate([ask("say yes")])


@pytest.mark.parametrize("status", [429, 503])
def test_server_that_is_too_busy_for_a_long_question_alone_is_an_error_of_the_machine(serve, load, replies, status):
    model = broken(serve, load, replies, (status, "too many tokens a minute"))
    with pytest.raises(MachineError, match=rf"is too busy: HTTP {status}: too many tokens a minute \(2 tries\)"):
        model.generate([ask("bad")])


@pytest.mark.slow
def test_question_on_which_the_server_never_comes_back_is_an_error_of_its_item(serve, load, replies):
    never = threading.Event()
    server = serve()
    model = load(server, timeout=2, retries=0)
    server.script = lambda path, body: never.wait(60) if "bad" in replies.content(body)[0] else replies.parrot(path, body)
    with pytest.raises(ItemError, match="the server fails on it: it does not answer in time; give more with --timeout"):
        model.generate([ask("bad")])
    never.set()


def test_server_that_is_busy_at_the_start_is_not_taken_for_one_without_images(serve, load, replies):
    busy = [1]
    script = lambda path, body: (429, "") if replies.content(body)[1] and busy and busy.pop() else replies.parrot(path, body)  # noqa: E731
    assert load(serve(script)).info.accepts_images
    with pytest.raises(UserError, match="is unavailable: HTTP 429"):
        load(serve(lambda path, body: (429, "") if replies.content(body)[1] else replies.parrot(path, body)))


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_server_that_rejects_every_request_by_now_is_reported_as_it_is(serve, load, replies, status):
    model = broken(serve, load, replies, (status, "go away"), everything=True)
    with pytest.raises(UserError, match=rf"rejects requests \(HTTP {status}: go away\)"):
        model.generate([ask("say yes")])


# ---------------------------------------------------------------- what such a model cannot do


def test_scores_are_not_available_from_a_chat(serve, load):
    model = load(serve())
    assert not model.capabilities.scores
    needs = "needs --tokenizer .* and a server that returns the log-probabilities of given tokens"
    with pytest.raises(UserError, match=needs):
        model.score([ScoreRequest((Message("user", ("x",)),), ("a", "b"))])
    with pytest.raises(UserError, match=needs):
        model.text_tokens(TextScoreRequest("x", ("a", "b")))


def test_raw_text_goes_to_completions_and_a_rendered_chat_to_chat_completions(serve, load, replies):
    def script(path, body):
        return {"choices": [{"text": " yes\nQ: and"}]} if path.endswith("/v1/completions") else replies.chat("no\nQ: but")

    server = serve(script)
    model = load(server)
    how = {"until": ("\nQ:", "B", "C", "D", "E"), "max_new_tokens": 9, "settings": (("do_sample", False),)}
    assert model.generate_text([TextGenerateRequest("Q: is it?", **how)])[0].text == " yes"
    assert server.bodies("/v1/completions")[-1] == {
        "model": "m", "prompt": "Q: is it?", "max_tokens": 9, "temperature": 0, "stop": ["\nQ:", "B", "C", "D"],
    }  # fmt: skip
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "Is it?"}]
    assert model.generate_text([TextGenerateRequest(model.render_text(chat), **how)])[0].text == "no"
    assert server.bodies()[-1]["messages"] == chat
    with pytest.raises(UserError, match="begins the reply itself"):
        model.render_text(chat, add_generation_prompt=False)


def test_server_without_completions_is_reported_for_raw_text(serve, load, replies):
    server = serve(lambda path, body: (404, "no such path") if path.endswith("/v1/completions") else replies.parrot(path, body))
    with pytest.raises(UserError, match=r"does not continue raw text \(HTTP 404: no such path\); add --apply-chat-template"):
        load(server).generate_text([TextGenerateRequest("x")])


def test_settings_of_generation_are_sent_in_openais_names_or_refused(serve, load, replies):
    server = serve(lambda path, body: {"choices": [{"text": "x"}]} if path.endswith("/v1/completions") else replies.parrot(path, body))
    model = load(server)
    drawn = (("do_sample", True), ("temperature", 0.7), ("top_p", 0.9))
    model.generate_text([TextGenerateRequest("x", settings=drawn, repeat=3)])
    sent = server.bodies("/v1/completions")[-1]
    assert (sent["temperature"], sent["top_p"], sent["seed"]) == (0.7, 0.9, 3)
    with pytest.raises(UserError, match="temperature, top_p and seed only, not num_beams"):
        model.generate_text([TextGenerateRequest("x", settings=(("num_beams", 4),))])


@pytest.mark.parametrize("options", [{"checkpoint": "x"}, {"device": "cpu"}, {"dtype": "float16"}])
def test_what_only_the_server_can_decide_is_refused(options):
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.load import load_model

    with pytest.raises(UserError, match=f"runs on a server, .* leave out --{next(iter(options))}"):
        load_model("openai:m", ModelOptions(**options))


def test_address_and_price_of_a_model_that_runs_here_are_refused():
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.load import load_model
    from iit_bench.server_options import ServerOptions

    with pytest.raises(UserError, match="model 'random' runs here, not on a server; leave out --base-url, --price-in"):
        load_model("random", ModelOptions(server=ServerOptions(base_url="http://x/v1", price_in=1.0)))
