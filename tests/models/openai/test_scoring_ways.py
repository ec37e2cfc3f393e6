"""Servers that score in other ways: SGLang's /generate, chats with images behind vLLM's prompt_logprobs; and the facts of servers.

Each server computes with a real tiny model; the scores are those of the same model under `hf:`.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any

import pytest
import torch
from PIL import Image as PillowImage

from iit_bench.cli import main
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import ModelOptions, RollingRequest, ScoreRequest, TextScoreRequest
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run
from iit_bench.types import Message

CHAT = (Message("user", ("What is the capital of France?",)), Message("assistant", ("Paris",)), Message("user", ("And the colour?",)))
REPLIES = ("red", "the square is blue", "yes no", "Paris is the capital of France.")
SGLANG_INFO = {"version": "0.5.9", "tp_size": 2, "dp_size": 4, "enable_deterministic_inference": True, "api_key": "secret", "x": {}}


def same(ours: Any, theirs: Any) -> bool:
    return (ours.tokens, ours.greedy, ours.prompt_tokens) == (theirs.tokens, theirs.greedy, theirs.prompt_tokens) and ours.logprobs == (
        pytest.approx(theirs.logprobs, abs=1e-4)
    )


class Sglang:
    """SGLang's /generate over the model of a /completions, which gives no log-probabilities of prompts."""

    def __init__(self, completions: Any) -> None:
        self.completions, self.positions = completions, 0

    def __call__(self, path: str, body: dict) -> Any:
        if path != "/generate":
            return self.completions(path, body)
        with self.completions.lock, torch.inference_mode():
            return [self._answer(row, start) for row, start in zip(body["input_ids"], body["logprob_start_len"], strict=True)]

    def _answer(self, row: list[int], start: int) -> dict:
        scores = self.completions.model(torch.tensor([row])).logits[0].log_softmax(-1)
        own: list[Any] = [[None, row[start], None]]
        tops: list[Any] = [None]
        for i in range(start + 1, len(row)):
            value, token = scores[i - 1].max(-1)
            own.append([float(scores[i - 1, row[i]]), row[i], None])
            tops.append([[float(value), int(token), None]])
        self.positions += len(own) - 1
        meta = {"prompt_tokens": len(row), "completion_tokens": 1, "input_token_logprobs": own, "input_top_logprobs": tops}
        return {"text": "", "meta_info": meta}


class ImageChats:
    """vLLM's /chat/completions over a model of transformers that sees: prompt_logprobs, continue_final_message, return_token_ids."""

    def __init__(self, folder: Any, *, token_ids: bool = True, other_template: bool = False) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.token_ids, self.lock = token_ids, threading.Lock()
        if other_template:
            self.processor.chat_template = self.processor.chat_template.replace("{{ p.text }}", "{{ p.text }} ")

    def __call__(self, path: str, body: dict) -> Any:
        if path == "/v1/completions":
            return self._completions(body)
        images, turns = [], []
        for turn in body["messages"]:
            parts = [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
            images += [_picture(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
            turns.append({"role": turn["role"], "content": [_part(part) for part in parts]})
        how = {name: body[name] for name in ("add_generation_prompt", "continue_final_message") if name in body}
        text = self.processor.apply_chat_template(turns, tokenize=False, **({"add_generation_prompt": True} | how))
        with self.lock, torch.inference_mode():
            inputs = self.processor(text=text, images=images or None, return_tensors="pt", add_special_tokens=False)
            scores = self.model(**inputs).logits[0].log_softmax(-1)
        row = inputs["input_ids"][0].tolist()
        reply: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "length"}]}
        reply |= {"usage": {"prompt_tokens": len(row), "completion_tokens": 1}, "system_fingerprint": "vllm-0.32.0-tp2-dp4-0a1b2c3d"}
        if body.get("prompt_logprobs") is not None:
            reply["prompt_logprobs"] = [None, *(_place(scores[i], row[i + 1]) for i in range(len(row) - 1))]
        if self.token_ids and body.get("return_token_ids"):
            reply["prompt_token_ids"] = row
        return reply

    def _completions(self, body: dict) -> Any:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        choices = []
        for index, row in enumerate(prompts):
            with self.lock, torch.inference_mode():
                scores = self.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)
            own = [None, *(float(scores[i, token]) for i, token in enumerate(row[1:]))]
            tops = [None, *({"best": float(scores[i].max())} for i in range(len(row) - 1))]
            choices.append({"index": index, "text": "", "logprobs": {"token_logprobs": own, "top_logprobs": tops}})
        return {"choices": choices, "usage": {}}


def _part(part: dict) -> dict:
    return {"type": "image"} if part["type"] == "image_url" else part


def _picture(url: str) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def _place(scores: torch.Tensor, token: int) -> dict:
    best = int(scores.argmax())
    entries = {token: int((scores > scores[token]).sum()) + 1} | ({} if best == token else {best: 1})
    return {str(one): {"logprob": float(scores[one]), "rank": rank, "decoded_token": "?"} for one, rank in entries.items()}


@pytest.fixture(scope="module")
def folder(save_tiny):
    return save_tiny("llama", max_position_embeddings=512)


@pytest.fixture(scope="module")
def hf(folder):
    return load_model(f"hf:{folder}", ModelOptions(device="cpu"))


@pytest.fixture(scope="module")
def llava(tiny_llava):
    return load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))


@pytest.fixture
def sglang(serve, completions_of, folder):
    """A running server, and its script."""
    script = Sglang(completions_of(folder, logprobs=False))
    server = serve(script)
    server.pages["/get_server_info"] = SGLANG_INFO
    return server, script


# ---------------------------------------------------------------- SGLang


def test_sglang_scores_chats_and_raw_texts_like_the_same_model_here(sglang, load, folder, hf):
    server, _ = sglang
    model = load(server, tokenizer=str(folder))
    assert model.capabilities.scores and model.info.details["scored by"] == "generate"
    request = ScoreRequest(CHAT, REPLIES)
    assert same(model.score([request])[0], hf.score([request])[0])
    for text in (TextScoreRequest("What is the capital", (" of France?", " of the circle")), TextScoreRequest("", ("yes", "no maybe"))):
        assert same(model.score_text([text])[0], hf.score_text([text])[0])
    rolling = RollingRequest("Paris is the capital of France.")
    assert same(model.score_rolling([rolling])[0], hf.score_rolling([rolling])[0])


def test_sglang_is_asked_for_the_log_probabilities_of_the_replies_only(sglang, load, folder):
    server, script = sglang
    model = load(server, tokenizer=str(folder))
    before = script.positions
    (scored,) = model.score([ScoreRequest(CHAT, REPLIES)])
    assert script.positions - before == sum(scored.tokens)


def test_sglang_that_answers_for_other_tokens_is_not_believed(serve, load, completions_of, folder):
    script = Sglang(completions_of(folder, logprobs=False))

    def shifted(path, body):
        return script(path, {**body, "input_ids": [[*row[:-1], row[-1] ^ 1] for row in body["input_ids"]]} if path == "/generate" else body)

    model = load(serve(shifted), tokenizer=str(folder))
    assert not model.capabilities.scores


# ---------------------------------------------------------------- vLLM, with images


@pytest.mark.parametrize("token_ids", [True, False], ids=["token ids returned", "older server"])
def test_replies_to_images_have_the_scores_of_the_same_model_here(serve, load, tiny_llava, llava, make_image, token_ids):
    model = load(serve(ImageChats(tiny_llava, token_ids=token_ids)), tokenizer=str(tiny_llava))
    assert model.capabilities.takes_images and model.capabilities.scores_images
    one = (Message("user", (make_image(1), "What is the capital of France?")),)
    two = (*one, Message("assistant", ("red",)), Message("user", ("And here?", make_image(2))))
    for messages in (one, two, CHAT):
        request = ScoreRequest(messages, REPLIES)
        assert same(model.score([request])[0], llava.score([request])[0])


def test_server_whose_template_differs_from_the_tokenizers_fails_the_item(serve, load, tiny_llava, make_image):
    class Lower(ImageChats):
        """Reads every last turn in lower case, as a template of its own may."""

        def __call__(self, path: str, body: dict) -> Any:
            if "messages" in body and body.get("continue_final_message"):
                last = body["messages"][-1]
                body = {**body, "messages": [*body["messages"][:-1], {**last, "content": last["content"].lower()}]}
            return super().__call__(path, body)

    model = load(serve(Lower(tiny_llava)), tokenizer=str(tiny_llava))
    with pytest.raises(ItemError) as error:
        model.score([ScoreRequest((Message("user", (make_image(1), "Where?")),), ("Paris",))])
    assert error.value.reason == "the server reads the reply as other tokens"


def test_server_that_scores_no_images_says_what_it_lacks(serve, load, tiny_llava, make_image):
    script = ImageChats(tiny_llava)

    def without(path, body):
        return script(path, {name: value for name, value in body.items() if name != "prompt_logprobs"})

    model = load(serve(without), tokenizer=str(tiny_llava))
    assert model.capabilities.scores and model.capabilities.takes_images and not model.capabilities.scores_images
    with pytest.raises(UserError, match="does not return the log-probabilities of a chat with an image; it must take prompt_logprobs"):
        model.score([ScoreRequest((Message("user", (make_image(1), "Where?")),), ("Paris",))])


@pytest.mark.slow
def test_a_run_with_images_behind_a_server_has_the_scores_of_the_model_here(serve, tiny_llava, bench, tmp_path):
    url = serve(ImageChats(tiny_llava)).url
    ways = {"served": ["openai:m", "--base-url", url, "--tokenizer", str(tiny_llava)], "here": [f"hf:{tiny_llava}", "--device", "cpu"]}
    for name, way in ways.items():
        ask = ["--quiet", "--out", str(tmp_path / name), "--bench", str(bench.path), "--limit", "4", "--tiers", "T,V,TV,VV"]
        assert main(["eval", *ask, "--model", *way]) == 0
    served, here = load_run(tmp_path / "served"), load_run(tmp_path / "here")
    assert served.run["scoring"] == "loglikelihood" and len(served.predictions) == len(here.predictions) > 4
    for one, other in zip(served.predictions, here.predictions, strict=True):
        assert (one.dialogue, one.chosen, one.outcome) == (other.dialogue, other.chosen, other.outcome)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


# ---------------------------------------------------------------- what servers say of themselves


def test_facts_of_an_sglang_server_are_recorded_without_its_keys(sglang, load, folder):
    facts = load(sglang[0], tokenizer=str(folder)).info.details["server"]
    expected = {"software": "sglang", "version": "0.5.9", "tp_size": 2, "dp_size": 4, "enable_deterministic_inference": True}
    assert facts == expected
    assert "secret" not in json.dumps(facts)


def test_facts_of_a_vllm_server_are_recorded(serve, load, tiny_llava):
    server = serve(ImageChats(tiny_llava))
    server.pages["/version"] = {"version": "0.32.0"}
    parallel = {"tensor_parallel_size": 2, "data_parallel_size": 4, "rank": 0}
    config = {"parallel_config": parallel, "model_config": {"dtype": "torch.bfloat16", "hf_token": "secret"}}
    server.pages["/server_info?config_format=json"] = {
        "vllm_config": config,
        "vllm_env": {"VLLM_BATCH_INVARIANT": True, "VLLM_HOST_IP": ""},
    }
    assert load(server, tokenizer=str(tiny_llava)).info.details["server"] == {
        "software": "vllm",
        "version": "0.32.0",
        "dtype": "torch.bfloat16",
        "tensor_parallel_size": 2,
        "data_parallel_size": 4,
        "VLLM_BATCH_INVARIANT": True,
        "system_fingerprint": "vllm-0.32.0-tp2-dp4-0a1b2c3d",
    }


@pytest.mark.parametrize("page", [b"<html>", [1, 2], {"version": {"x": 1}}, {"vllm_config": "a text"}, {"tp_size": [1]}])
def test_a_server_that_says_something_else_is_no_error(serve, load, page):
    server = serve()
    server.pages |= dict.fromkeys(("/version", "/get_server_info", "/server_info?config_format=json"), page)
    facts = load(server).info.details.get("server", {})
    assert all(isinstance(value, str) for value in facts.values())
