"""`hf:` multimodal models: a tiny real LLaVA with its real processor, against plain forward passes."""

from __future__ import annotations

import pytest
import torch

from iit_bench.errors import ItemError
from iit_bench.models.base import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.huggingface import load
from iit_bench.types import Image, Message


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tiny.tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, projection_dim=16
    )
    text = LlamaConfig(**tiny.sizes(tokenizer))
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token, image_seq_length=16)
    model = LlavaForConditionalGeneration(config)
    where = tmp_path_factory.mktemp("llava")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tiny.chat_template,
    )
    model.save_pretrained(where)
    processor.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def model(folder):
    return load(f"hf:{folder}", ModelOptions(device="cpu"))


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
    prompt = model.processor(text=[text.rstrip()], images=images, return_tensors="pt")["input_ids"].shape[1]
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
