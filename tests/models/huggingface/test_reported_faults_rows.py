"""Families whose scores of a row depend on what is beside it, or whose cache cannot be continued: each is scored as if alone.

The oracle is a plain float32 pass over one row of prompt and reply, without a cache or padding; for replies, a loop of such passes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest, TextScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = pytest.mark.oracle

ORIGINAL = 48  # tokens at which "longrope" and "dynamic" change their frequencies; the chats below are on both sides
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
HYBRID = ["linear_attention", "full_attention"]
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
# name -> family of transformers, entries of its configuration, how its replies are scored, what was wrong
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    # factors were chosen by the longest row of a batch, and a cache was continued across the border
    "phi3 longrope": (
        "phi3",
        {
            "original_max_position_embeddings": ORIGINAL,
            "rope_parameters": LONGROPE | {"original_max_position_embeddings": ORIGINAL},
        },
        "cache",
    ),
    "llama dynamic": ("llama", {"max_position_embeddings": ORIGINAL, "rope_parameters": DYNAMIC}, "cache"),
    # padding entered the state
    "rwkv": ("rwkv", {"attention_hidden_size": 32, "context_length": 256}, "single rows"),
    "recurrent_gemma": (
        "recurrent_gemma",
        {"lru_width": 32, "attention_window_size": 16, "block_types": ("recurrent", "attention"), "head_dim": 8},
        "single rows",
    ),
    # a cache with states was continued by several tokens
    "mamba": ("mamba", {"state_size": 8}, "single rows"),
    "falcon_mamba": ("falcon_mamba", {"state_size": 8}, "single rows"),
    "jamba": ("jamba", {"mamba_dt_rank": 4, "use_mamba_kernels": False, "attn_layer_period": 2, "attn_layer_offset": 1}, "single rows"),
    "bamba": ("bamba", {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}, "single rows"),
    "qwen3_next": ("qwen3_next", LINEAR | EXPERTS | {"layer_types": HYBRID}, "single rows"),
    # keys of linear layers are None: TypeError
    "minimax": ("minimax", {"num_local_experts": 2, "head_dim": 8, "layer_types": HYBRID}, "single rows"),
    # positions count from the pad id
    "roberta": ("roberta", {"is_decoder": True, "type_vocab_size": 1}, "single rows"),
    # windows
    "gemma3_text": (
        "gemma3_text",
        {"sliding_window": 8, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
        "padded rows",
    ),
}
# how many tokens a copy of a prompt's cache takes at once, of models that run no rows of a tree; else each row is read whole
FORKS = dict.fromkeys(["mamba", "falcon_mamba", "jamba", "minimax"], "single tokens")
FORKS |= dict.fromkeys(["rwkv", "bamba", "qwen3_next"], "several tokens")
TURNS = [
    ("Hm",),
    ("What is the capital of France?",),
    ("The circle is red, the square is blue. What colour is the circle?", "red", "And the square? yes or no, or maybe blue?"),
]
REPLIES = ("Paris", "x", "the square is blue", "no")


def chats() -> list[tuple[Message, ...]]:
    return [tuple(Message(("user", "assistant")[i % 2], (text,)) for i, text in enumerate(turns)) for turns in TURNS]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, save_tiny: Callable[..., Path]) -> Any:
    family, more, _ = FAMILIES[request.param]
    opened = load(f"hf:{save_tiny(family, **more)}", ModelOptions(device="cpu", dtype="float32"))
    opened.family = request.param
    return opened


def plain_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of one row alone. A pass over one token comes first: rope type "dynamic" keeps the frequencies of longer rows before it."""
    with torch.no_grad():
        model.model(torch.tensor([ids[:1]]), use_cache=False)
        return model.model(torch.tensor([ids]), use_cache=False).logits[0].float()


def plain_score(model: Any, prompt: list[int], reply: list[int]) -> float:
    ids = prompt + reply
    logprobs = plain_logits(model, ids).log_softmax(-1)
    return sum(float(logprobs[i - 1, ids[i]]) for i in range(len(prompt), len(ids)))


@pytest.mark.slow
def test_replies_are_scored_as_if_each_row_were_alone(model):
    """All chats in one batch, shortest and longest together; FAMILIES says what went wrong in each."""
    lengths = []
    for chat, result in zip(chats(), model.score([ScoreRequest(chat, REPLIES) for chat in chats()]), strict=True):
        prompt = model.tokenizer.encode(model.render(chat))
        for reply, logprob in zip(REPLIES, result.logprobs, strict=True):
            own = model.tokenizer.encode(reply)
            lengths.append(len(prompt) + len(own))
            assert logprob == pytest.approx(plain_score(model, prompt, own), abs=1e-4), (chat, reply)
    assert min(lengths) < ORIGINAL < max(lengths)
    assert model.info.details.get("rows", {}).get("scoring") == FAMILIES[model.family][2]


@pytest.mark.slow
def test_raw_texts_are_scored_as_if_each_row_were_alone(model):
    """The same for lm-eval's requests: one long context and one short one in a batch."""
    texts = ["The circle is", " ".join(TURNS[2][:1] * 2)][: 1 + ("dynamic" not in model.family)]  # longer ones are cut to its context
    batch = [TextScoreRequest(text, (" red", " blue, the square", " no")) for text in texts]
    for request, result in zip(batch, model.score_text(batch), strict=True):
        prompt = model.tokenizer.encode(request.context)
        for reply, logprob in zip(request.continuations, result.logprobs, strict=True):
            assert logprob == pytest.approx(plain_score(model, prompt, model.tokenizer.encode(reply)), abs=1e-4), reply


@pytest.mark.slow
def test_greedy_replies_are_those_of_plain_passes(model):
    """Prompts of unequal length in one batch; the cache of a row is not continued across a border of its frequencies."""
    asks = [GenerateRequest(chat, max_new_tokens=12) for chat in chats()]
    if not model.capabilities.generates:
        assert model.family == "roberta"  # transformers' own generate counts its positions from 0
        with pytest.raises(UserError, match="cannot generate"):
            model.generate(asks)
        return
    for ask, reply in zip(asks, model.generate(asks), strict=True):
        ids = model.tokenizer.encode(model.render(ask.messages))
        start = len(ids)
        while len(ids) < start + 12:
            token = int(plain_logits(model, ids)[-1].argmax())
            if token == model.tokenizer.eos_token_id:
                break
            ids.append(token)
        assert reply.text == model.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@pytest.fixture(scope="module")
def longrope_llava(tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """A LLaVA whose language model is a Phi-3 with long-RoPE."""
    import shutil

    from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration

    folder = tmp_path_factory.mktemp("longrope") / "llava"
    shutil.copytree(tiny_llava, folder)
    config = LlavaConfig.from_pretrained(tiny_llava)
    family, more, _ = FAMILIES["phi3 longrope"]
    text = AutoConfig.for_model(family, **tiny.sizes(tiny.tokenizer(), **more))
    torch.manual_seed(0)
    whole = LlavaConfig(
        vision_config=config.vision_config,
        text_config=text,
        image_token_index=config.image_token_index,
        image_seq_length=config.image_seq_length,
    )
    LlavaForConditionalGeneration(whole).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_chat_with_images_is_scored_in_one_piece_across_a_border_of_frequencies(longrope_llava, make_image):
    """The first token of a reply was scored with short factors, the others with long ones, and a cache was continued across the border."""
    model = load(f"hf:{longrope_llava}", ModelOptions(device="cpu", dtype="float32"))
    for count in range(20, 30):  # prompts on both sides of the border, and just before it
        chat = (Message("user", (make_image(1), "red " * count)),)
        (result,) = model.score([ScoreRequest(chat, REPLIES)])
        text, images = model.render(chat)
        inputs = model.processor(text=[text], images=images, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        for reply, logprob in zip(REPLIES, result.logprobs, strict=True):
            whole = model.processor(text=[text + reply], images=images, return_tensors="pt")
            with torch.no_grad():
                logprobs = model.model(**whole, use_cache=False).logits[0].log_softmax(-1)
            ids = whole["input_ids"][0]
            assert logprob == pytest.approx(sum(float(logprobs[i - 1, ids[i]]) for i in range(length, len(ids))), abs=1e-5), (count, reply)


@pytest.mark.slow
def test_replies_continue_a_copy_of_their_prompts_cache_where_that_is_right(model):
    """Each prompt goes through the model once, by as many tokens at once as its cache takes; FAMILIES has what was silently wrong."""
    seen: list[int] = []
    handle = model.model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    chat = chats()[1]
    model.score([ScoreRequest(chat, REPLIES)])
    handle.remove()
    forks = model.info.details["rows"].get("forks", "")
    assert forks == FORKS.get(model.family, "")
    if forks:
        assert seen.count(len(model.tokenizer.encode(model.render(chat)))) == 1 and max(seen[1:]) < 30
