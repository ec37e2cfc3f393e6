"""Replies to several chats at once equal replies to each by itself, for every family of docs/families.md with images."""

from __future__ import annotations

import pytest
import tiny_vlms
import torch

from iit_bench.models.contract import GenerateRequest, ModelOptions, TextGenerateRequest
from iit_bench.models.huggingface.chat_rows import ChatRows
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = [pytest.mark.slow]

FAMILIES = [family.name for family in tiny_vlms.FAMILIES if family.images]
BY_THEMSELVES = {"phi4_multimodal"}  # its tower attends forwards only where all patches of a call are seen
ALIKE = {"mllama"}  # tokens before the first image attend to all images of the batch, filled up ones included
# PaliGemma reads a whole prompt both ways; the windows of the tiny Gemma 3 are shorter than the check's chats.
NO_SHARING = BY_THEMSELVES | {"paligemma", "gemma3"}
NEW = 8


def chats(make_image):
    """One turn each, with 0 to 3 images of unequal sizes; two show equally many."""
    red, blue, green = make_image(1, 56), make_image(2, 80), make_image(3, 64)
    parts = [
        ("What is the capital of France?",),
        (red, "What is this?"),
        (blue, "And which colour has this one?"),
        (red, blue, "Which is red?"),
        (red, " or ", blue, " or ", green, "?"),
    ]
    return [GenerateRequest((Message("user", part),), NEW) for part in parts]


def questions(make_image):
    """Four about one image and a text, and two about another image and the text."""
    text = "The circle is red, the square is blue, and Paris is the capital of France. " * 4
    asked = ("What is it?", "yes or no?", "Which of the two is it?", "x", "And this?", "Where?")
    images = [make_image(1, 64)] * 4 + [make_image(2, 64)] * 2
    return [GenerateRequest((Message("user", (image, text + ask)),), NEW) for image, ask in zip(images, asked, strict=True)]


def positions(model, ask):
    """What `ask` returns, and the positions that went through the language model meanwhile, padding included."""
    seen = []
    hook = model.model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    try:
        return ask(), sum(seen)
    finally:
        hook.remove()


@pytest.fixture
def passes():
    """passes(model) → a list that gets an entry per pass through the model."""
    hooks = []

    def count(model):
        seen = []
        hooks.append(model.model.register_forward_hook(lambda *_: seen.append(1)))
        return seen

    yield count
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_replies_together_equal_replies_one_at_a_time(family_model, make_image, name):
    model = family_model(name)
    requests = chats(make_image)
    assert model.generate(requests) == [model.generate([request])[0] for request in requests]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NO_SHARING])
def test_questions_about_one_image_equal_questions_one_at_a_time(family_model, make_image, name):
    model = family_model(name)
    requests = questions(make_image)
    together, read = positions(model, lambda: model.generate(requests))
    alone, each = positions(model, lambda: [model.generate([request])[0] for request in requests])
    assert together == alone
    assert read < 0.7 * each or name in ALIKE  # which compares no pixels


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "smolvlm"])
def test_the_engine_is_told_which_chats_begin_alike(family_model, make_image, name):
    model = family_model(name)
    first, *_, last = (model.prompt(request) for request in questions(make_image))
    other = model.prompt(questions(make_image)[1])
    assert first[: len(first) // 2] == other[: len(first) // 2]
    assert first[0] != last[0]  # another image


def test_engine_plain_asks_chat_by_chat(family_folder, make_image, passes):
    model = load(f"hf:{family_folder('llava')}", ModelOptions(device="cpu", way="plain"))
    assert model.info.details["generation"]["together"] == "none"
    assert len(model.prompt(chats(make_image)[0])) == 0
    seen = passes(model)
    assert len(model.generate(chats(make_image))) == 5
    assert len(seen) > 5 * 2


@pytest.mark.parametrize("name", FAMILIES)
def test_how_chats_are_continued_is_recorded(family_model, name):
    expected = "none" if name in BY_THEMSELVES else "alike" if name in ALIKE else "any"
    record = family_model(name).info.details["generation"]
    assert record["together"] == expected
    assert record["shares_beginnings"] == (name not in NO_SHARING)
    assert bool(record["refused"]) == (expected != "any" or name in NO_SHARING)


@pytest.mark.parametrize(("name", "parts"), [("smolvlm", 1), ("mllama", 4), ("phi4_multimodal", 5)])
def test_chats_that_are_continued_together_share_their_passes(family_model, make_image, passes, name, parts):
    model = family_model(name)
    seen = passes(model)
    replies = model.generate(chats(make_image))
    assert parts * 1 <= len(seen) <= parts * NEW
    assert all(reply.new_tokens <= NEW for reply in replies)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3"])
def test_raw_texts_are_continued_together(family_model, passes, name):
    model = family_model(name)
    asked = [TextGenerateRequest(context, max_new_tokens=5, until=("\n\n",)) for context in ("The capital of France is", "yes", "a b c d")]
    alone = [model.generate_text([request])[0] for request in asked]
    seen = passes(model)
    assert model.generate_text(asked) == alone
    assert len(seen) <= 5


def test_a_model_whose_logits_change_in_company_is_asked_chat_by_chat(family_model):
    model = family_model("llava")

    def in_company(module, args, output):
        if output.logits.shape[0] > 1:
            output.logits = output.logits * 0.9
        return output

    hook = model.model.register_forward_hook(in_company)
    rows = ChatRows(model.model, model.processor, model.inputs, model._chat, model.chats, lambda length: False)
    hook.remove()
    assert rows.company == "none"
    assert set(rows.refused) == {"any", "alike", "shares_beginnings"}


def test_rows_whose_columns_count_are_padded_up_to_the_first_border_only(family_model, make_image):
    """Llama 4 scales attention by a token's column: padding of one chat would change another's reply."""
    rows = family_model("llama4").chat_rows
    assert rows.pads(rows.widest)
    assert not rows.pads(rows.widest + 1)
    with torch.inference_mode():
        assert rows.parts([rows.make("What is this?", [])] * 2, rows.widest) == [[0], [1]]
