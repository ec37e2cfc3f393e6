"""Replies to several chats at once equal replies to each by itself, for every family of docs/families.md with images."""

from __future__ import annotations

import pytest
import tiny_vlms
import torch

from iit_bench.models.contract import GenerateRequest, TextGenerateRequest
from iit_bench.models.huggingface.chat_rows import ChatRows
from iit_bench.types import Message

pytestmark = [pytest.mark.slow]

FAMILIES = [family.name for family in tiny_vlms.FAMILIES if family.images]
BY_THEMSELVES = {"phi4_multimodal"}  # its tower attends forwards only where all patches of a call are seen
ALIKE = {"mllama"}  # tokens before the first image attend to all images of the batch, filled up ones included
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


@pytest.mark.parametrize("name", FAMILIES)
def test_how_chats_are_continued_is_recorded(family_model, name):
    expected = "none" if name in BY_THEMSELVES else "alike" if name in ALIKE else "any"
    record = family_model(name).info.details["generation"]
    assert record["together"] == expected
    assert bool(record["refused"]) == (expected != "any")


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
    assert set(rows.refused) == {"any", "alike"}


def test_rows_whose_columns_count_are_padded_up_to_the_first_border_only(family_model, make_image):
    """Llama 4 scales attention by a token's column: padding of one chat would change another's reply."""
    rows = family_model("llama4").chat_rows
    assert rows.pads(rows.widest)
    assert not rows.pads(rows.widest + 1)
    with torch.inference_mode():
        assert rows.parts([rows.make("What is this?", [])] * 2, rows.widest) == [[0], [1]]
