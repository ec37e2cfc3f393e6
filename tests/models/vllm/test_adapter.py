"""`vllm:`, with a stand-in of vLLM's offline interface over transformers, for vLLM itself cannot be installed here.

The stand-in has the classes and fields that vLLM documents (LLM, SamplingParams, TokensPrompt, RequestOutput, Logprob) and nothing else;
the answers must be those of the same checkpoint under `hf:`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest
import torch

from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest, TextGenerateRequest, TextScoreRequest
from iit_bench.models.load import load_model
from iit_bench.types import Message


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int = 16
    prompt_logprobs: int | None = None
    detokenize: bool = True
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    top_p: float = 1.0


class LLM:
    """Draws image placeholders out, as vLLM does, by the checkpoint's own processor."""

    def __init__(self, model, dtype="auto", seed=0, trust_remote_code=False, limit_mm_per_prompt=None, mm_processor_kwargs=None):
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(model, **(mm_processor_kwargs or {}))
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        factory = AutoModelForImageTextToText if limit_mm_per_prompt else AutoModelForCausalLM
        self.model, self.limit = factory.from_pretrained(model).eval(), (limit_mm_per_prompt or {}).get("image", 0)
        length = self.model.config.get_text_config().max_position_embeddings
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=length, dtype=torch.float32))

    def generate(self, prompts, sampling_params, use_tqdm=True):
        each = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        return [self._one(prompt, params) for prompt, params in zip(prompts, each, strict=True)]

    @torch.inference_mode()
    def _one(self, prompt, params):
        images = prompt.get("multi_modal_data", {}).get("image", [])
        if len(images) > self.limit:
            raise ValueError(f"At most {self.limit} image(s) may be provided in one prompt.")
        inputs = {"input_ids": torch.tensor([prompt["prompt_token_ids"]])}
        if images:
            text = self.tokenizer.decode(prompt["prompt_token_ids"])
            inputs = dict(self.processor(text=[text], images=images, return_tensors="pt"))
        ids = inputs["input_ids"][0].tolist()
        scores = self.model(**inputs).logits[0].log_softmax(-1)
        told = [None] + [_logprobs(scores[i], token) for i, token in enumerate(ids[1:])]
        row = self.model.generate(**inputs, max_new_tokens=params.max_tokens, do_sample=False)[0, len(ids) :].tolist()
        text = self.tokenizer.decode(row, skip_special_tokens=True)
        said = SimpleNamespace(text=text, token_ids=row)
        return SimpleNamespace(prompt_token_ids=ids, prompt_logprobs=told if params.prompt_logprobs is not None else None, outputs=[said])


def _logprobs(scores, token):
    best = int(scores.argmax())
    rank = int((scores > scores[token]).sum()) + 1
    return {best: SimpleNamespace(logprob=float(scores[best]), rank=1), token: SimpleNamespace(logprob=float(scores[token]), rank=rank)}


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)


CHAT = (Message("user", ("What is the capital of France?",)), Message("assistant", ("Paris",)), Message("user", ("And the colour?",)))
REPLIES = ("red", "the square is blue", "Paris is the capital of France.")


def same(ours, theirs) -> bool:
    return (ours.tokens, ours.greedy, ours.prompt_tokens) == (theirs.tokens, theirs.greedy, theirs.prompt_tokens) and ours.logprobs == (
        pytest.approx(theirs.logprobs, abs=1e-4)
    )


def test_text_model_answers_as_it_does_under_hf(vllm, save_tiny):
    folder = save_tiny("llama", max_position_embeddings=512)
    ours, theirs = (load_model(f"{kind}:{folder}", ModelOptions()) for kind in ("vllm", "hf"))
    said = theirs.generate([GenerateRequest(CHAT, 3)])[0].text
    request = ScoreRequest(CHAT, (*REPLIES, said))
    assert same(ours.score([request])[0], theirs.score([request])[0])
    assert ours.generate([GenerateRequest(CHAT, 7)])[0] == theirs.generate([GenerateRequest(CHAT, 7)])[0]
    text = TextScoreRequest("What is the capital", (" of France?", " of the circle"))
    assert same(ours.score_text([text])[0], theirs.score_text([text])[0])
    greedy = TextGenerateRequest("The circle", until=("e",), max_new_tokens=9, settings=(("do_sample", False),))
    assert ours.generate_text([greedy])[0].text == theirs.generate_text([greedy])[0].text
    drawn = TextGenerateRequest(
        "The circle", max_new_tokens=3, settings=(("do_sample", True), ("temperature", 0.7), ("top_p", 0.9)), repeat=4
    )
    how = ours._decoding(drawn)
    assert (how.temperature, how.top_p, how.seed) == (0.7, 0.9, 4)
    assert (ours.info.checkpoint_sha256, ours.info.accepts_images) == (theirs.info.checkpoint_sha256, False)


def test_images_are_scored_and_answered_as_under_hf(vllm, tiny_llava, make_image):
    ours, theirs = (load_model(f"{kind}:{tiny_llava}", ModelOptions()) for kind in ("vllm", "hf"))
    chat = (Message("user", (make_image(0), "\nWhich colour?")), *CHAT[1:])
    assert same(ours.score([ScoreRequest(chat, REPLIES)])[0], theirs.score([ScoreRequest(chat, REPLIES)])[0])
    assert ours.generate([GenerateRequest(chat, 7)])[0].text == theirs.generate([GenerateRequest(chat, 7)])[0].text
    with pytest.raises(ItemError, match="refused by vLLM: At most 8 image"):
        ours.generate([GenerateRequest((Message("user", (*(make_image(i) for i in range(9)), "x")),))])


def test_vllm_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"model 'vllm:x/y' needs vLLM, which cannot be imported .*; pip install vllm, or use hf:x/y"):
        load_model("vllm:x/y", ModelOptions())


@pytest.mark.parametrize(("option", "message"), [("device", "chooses its device itself"), ("checkpoint", "names its checkpoint already")])
def test_what_vllm_decides_itself_is_refused(vllm, option, message):
    with pytest.raises(UserError, match=message):
        load_model("vllm:x/y", ModelOptions(**{option: "cpu"}))
