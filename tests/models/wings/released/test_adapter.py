"""An official checkpoint behind the model contract, in both modes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from iit_bench.cli import main
from iit_bench.errors import ItemError, UserError
from iit_bench.images import decode
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.wings.load import load
from iit_bench.models.wings.released.scripts import IMAGE_SLOT
from iit_bench.models.wings.vision import preprocess
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import load_run
from iit_bench.types import Image, Message


def picture(seed: int) -> Image:
    file = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 20 + seed, 3), dtype=np.uint8)).save(file, "PNG")
    return Image(file.getvalue())


LOOK = (Message("user", (picture(1), "\nHue?")),)
TEXT = (Message("user", ("2 <image>?",)),)
TOO_MANY = (*LOOK, Message("assistant", ("red",)), Message("user", (picture(2), "\nAnd it?")))


def naive_ids(tokenizer: Any, user: list[int]) -> list[int]:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    before = encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    return before + user + encode("<|im_end|>\n<|im_start|>assistant\n")


def test_the_attention_of_an_official_checkpoint_is_observed_over_the_expanded_row(qwen: Path) -> None:
    wings = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    request = GenerateRequest(LOOK, 1)
    curves = wings.observe_attention(request)
    assert sum(curves.tokens.values()) == wings.request_tokens(request) - 1 and curves.tokens["image"] == 9
    assert set(curves.router) == {"before", "image", "after"}  # in this mode text before the image uses the router too
    with pytest.raises(ItemError, match="several images"):
        wings.request_tokens(GenerateRequest(TOO_MANY, 1))


def test_an_official_checkpoint_is_evaluated_token_by_token(qwen: Path, chatml: Any) -> None:
    wings = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    assert (wings.info.name, wings.info.dtype, wings.info.max_context) == ("wings", "float32", 400)
    assert wings.info.details["mode"] == "released"
    requests = [ScoreRequest(LOOK, ("red", "green")), ScoreRequest(TEXT, ("four", "4"))]
    encode = chatml.encode
    hue = encode("\nHue?", add_special_tokens=False)
    two = encode("2 <image>?", add_special_tokens=False)
    rows = [naive_ids(chatml, [IMAGE_SLOT, *hue]), naive_ids(chatml, two)]  # the second image mark is text and stays text
    pixels = preprocess(decode(LOOK[0].images[0].data), wings.model.config)[None]
    for request, result, row in zip(requests, wings.score(requests), rows, strict=True):
        assert result.prompt_tokens == len(row) + (8 if request.messages is LOOK else 0)
        assert wings.request_tokens(request) >= result.prompt_tokens + max(result.tokens)
        for reply, logprob, tokens in zip(request.continuations, result.logprobs, result.tokens, strict=True):
            said = encode(reply, add_special_tokens=False)
            assert tokens == len(said)
            expected, ids = 0.0, row
            for token in said:
                with torch.no_grad():
                    logits = wings.model(torch.tensor([ids]), pixel_values=pixels if request.messages is LOOK else None).logits
                expected += float(logits[0, -1].log_softmax(-1)[token])
                ids = [*ids, token]
            assert logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("waiting", [(), ("model.layers.1", "model.vision_tower"), None], ids=["cpu", "parts on the disk", "auto"])
def test_an_official_checkpoint_on_several_devices_answers_like_on_one(qwen: Path, waiting: tuple[str, ...] | None) -> None:
    plain = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    parts = [f"model.{name}" for name, _ in plain.model.model.named_children() if name != "layers"]
    places = dict.fromkeys(["lm_head", *parts, *(f"model.layers.{i}" for i in range(len(plain.model.model.layers)))], "cpu")
    text = "auto" if waiting is None else json.dumps(places | dict.fromkeys(waiting, "disk"))
    model = load("wings", ModelOptions(checkpoint=str(qwen), device_map=text))
    assert any(weight.is_meta for weight in model.model.parameters()) == bool(waiting)
    for messages in (LOOK, TEXT):
        request = ScoreRequest(messages, ("red", "four"))
        assert model.score([request])[0].logprobs == pytest.approx(plain.score([request])[0].logprobs, abs=1e-6)
        asked = GenerateRequest(messages, 4)
        assert model.generate([asked])[0].text == plain.generate([asked])[0].text


def test_an_official_checkpoint_takes_its_attention_and_no_quantisation(qwen: Path) -> None:
    model = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu", attn_implementation="eager"))
    assert model.model.config._attn_implementation == "eager"
    plain = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    request = ScoreRequest(LOOK, ("red", "four"))
    assert model.score([request])[0].logprobs == pytest.approx(plain.score([request])[0].logprobs, abs=1e-4)
    with pytest.raises(UserError, match="whose weights are read as they are; leave out --quantization"):
        load("wings", ModelOptions(checkpoint=str(qwen), quantization="bnb-4bit"))
    with pytest.raises(UserError, match=r"does not support an attention implementation .*; use another --attn-implementation"):
        load("wings", ModelOptions(checkpoint=str(qwen), attn_implementation="flex_attention"))


def test_a_batch_scores_and_generates_as_its_requests_alone(qwen: Path) -> None:
    wings = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    scored = [ScoreRequest(LOOK, ("red", "green")), ScoreRequest(TEXT, ("four",)), ScoreRequest(LOOK[:1], ("blue",))]
    for request, result in zip(scored, wings.score(scored), strict=True):
        assert wings.score([request])[0].logprobs == pytest.approx(result.logprobs, abs=1e-4)
    asked = [GenerateRequest(TEXT, 4), GenerateRequest(LOOK, 6)]
    for request, result in zip(asked, wings.generate(asked), strict=True):
        assert wings.generate([request]) == [result]
        assert result.prompt_tokens + request.max_new_tokens == wings.request_tokens(request)


def test_a_short_text_is_continued_alike_beside_one_that_fills_the_context(qwen: Path) -> None:
    wings = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    long = (Message("user", ("x" * (wings.info.max_context - wings.request_tokens(GenerateRequest(TEXT, 2))),)),)
    asked = [GenerateRequest(long, 2), GenerateRequest(TEXT, 12)]
    assert wings.generate(asked)[1] == wings.generate(asked[1:])[0]


@pytest.mark.slow
def test_several_images_are_an_error_of_the_item(qwen: Path) -> None:
    wings = load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))
    with pytest.raises(ItemError, match="sees one image in a dialogue, this one has 2") as error:
        wings.request_tokens(ScoreRequest(TOO_MANY, ("red",)))
    assert error.value.reason == "several images"


def test_mode_strict_on_official_weights(qwen: Path, chatml: Any, tmp_path: Path) -> None:
    for file in qwen.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    fields = json.loads((qwen / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"mode": "strict"}))
    strict, released = (load("wings", ModelOptions(checkpoint=str(at), device="cpu")) for at in (tmp_path, qwen))
    assert strict.info.details["mode"] == "strict"
    assert len(strict.score([ScoreRequest(TOO_MANY, ("red", "no"))])[0].logprobs) == 2
    both = [model.score([ScoreRequest(TEXT, ("four", "4"))])[0].logprobs for model in (strict, released)]
    assert both[0] == pytest.approx(both[1], abs=1e-4)  # text without images is the same in both
    both = [model.score([ScoreRequest(LOOK, ("red", "no"))])[0].logprobs for model in (strict, released)]
    assert both[0] != pytest.approx(both[1], abs=1e-2)


def test_the_command_scores_an_official_checkpoint(qwen: Path, bench: Benchmark, tmp_path: Path) -> None:
    words = ["eval", "--model", "wings", "--checkpoint", str(qwen), "--bench", str(bench.path), "--out", str(tmp_path / "run")]
    assert main([*words, "--tiers", "T,V,VV", "--limit", "4", "--device", "cpu", "--quiet"]) == 1
    run = load_run(tmp_path / "run")
    assert run.run["model"]["details"]["mode"] == "released"
    outcomes = {tier: {one.outcome for one in run.predictions if one.tier == tier} for tier in ("T", "V", "VV")}
    assert outcomes["VV"] == {"error"} and {error["reason"] for error in run.errors} == {"several images"}
    assert "error" not in outcomes["T"] | outcomes["V"]
    scored = [one for one in run.predictions if one.tier != "VV"]
    assert scored and all(len(one.logprobs) == len(one.choices) for one in scored)
