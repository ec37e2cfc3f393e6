"""`hf:` multimodal models: a tiny real LLaVA with its real processor, against plain forward passes."""

from __future__ import annotations

import pytest
import torch

from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Image, Message


@pytest.fixture(scope="module")
def model(tiny_llava):
    return load(f"hf:{tiny_llava}", ModelOptions(device="cpu"))


def dialogue(make_image) -> tuple[Message, ...]:
    return (
        Message("user", (make_image(1), "\nWhat colour is the circle?")),
        Message("assistant", ("red",)),
        Message("user", ("Look: ", make_image(2), " What is the capital of France?")),
    )


def test_scores_equal_one_plain_pass_per_reply(model, make_image):
    messages = dialogue(make_image)
    replies = ("Paris", "red square")
    result = model.score([ScoreRequest(messages, replies)])[0]
    text, images = model.render(messages)
    assert text.count("<image>") == len(images) == 2
    prompt = model.processor(text=[text], images=images, return_tensors="pt")["input_ids"].shape[1]
    assert result.prompt_tokens == prompt
    for reply, got in zip(replies, result.logprobs, strict=True):
        inputs = model.processor(text=[text + reply], images=images, return_tensors="pt")
        with torch.no_grad():
            logprobs = model.model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        expected = sum(float(logprobs[i - 1, ids[i]]) for i in range(prompt, len(ids)))
        assert got == pytest.approx(expected, abs=1e-4)


def test_each_image_matters(model, make_image):
    messages = dialogue(make_image)
    changed = (messages[0], messages[1], Message("user", ("Look: ", make_image(3), " What is the capital of France?")))
    a, b = model.score([ScoreRequest(messages, ("Paris", "red")), ScoreRequest(changed, ("Paris", "red"))])
    assert a.logprobs != pytest.approx(b.logprobs, abs=1e-4)


def test_text_only_chat_needs_no_image(model):
    result = model.score([ScoreRequest((Message("user", ("yes or no?",)),), ("yes", "no"))])[0]
    assert len(result.logprobs) == 2
    assert model.generate([GenerateRequest((Message("user", ("yes or no?",)),), 3)])[0].new_tokens <= 3


def test_unreadable_image_is_an_error_of_the_item(model):
    broken = Image(b"\x89PNG\r\n\x1a\n not really")
    with pytest.raises(ItemError, match="unreadable image"):
        model.request_tokens(ScoreRequest((Message("user", (broken, "?")),), ("a", "b")))
