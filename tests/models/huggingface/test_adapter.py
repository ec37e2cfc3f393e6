"""`hf:` text models against lm-eval's own HFLM and against plain forward passes."""

from __future__ import annotations

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = pytest.mark.oracle

CHATS = [
    ("What is the capital of France?",),
    ("The circle is red, the square is blue. What colour is the circle?",),
    ("yes or no?", "yes", "Paris is the capital of France. What is the capital?"),
    ("Hm",),
]
REPLIES = ("Paris", "red", "the square is blue", "x", "yes no maybe Paris")


def requests() -> list[ScoreRequest]:
    roles = ("user", "assistant")
    chats = [tuple(Message(roles[i % 2], (text,)) for i, text in enumerate(turns)) for turns in CHATS]
    return [ScoreRequest(chat, REPLIES[: 2 + i]) for i, chat in enumerate(chats)]


FAMILIES = [
    ("llama", {}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 16}),
    ("mistral", {"sliding_window": 8}),  # no plain cache: prompt and reply in one piece
    ("gpt_neox", {"num_key_value_heads": 4}),
]


@pytest.mark.parametrize(("family", "more"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_loglikelihoods_equal_lm_eval_hflm(save_tiny, tiny, family, more):
    # lm-eval scores white space at the end of a prompt with the reply, so this template ends without any
    folder = save_tiny(family, chat_template=tiny.chat_template.replace("|>\n", "|>"), **more)
    model = load(f"hf:{folder}", ModelOptions(device="cpu"))
    ours = model.score(requests())
    peer = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    for request, result in zip(requests(), ours, strict=True):
        prompt = model.render(request.messages)
        asked = [Instance("loglikelihood", {}, (prompt, reply), i, metadata=("t", 0, 1)) for i, reply in enumerate(request.continuations)]
        for reply, (logprob, greedy), got, said in zip(
            request.continuations, peer.loglikelihood(asked, disable_tqdm=True), result.logprobs, result.greedy, strict=True
        ):
            assert got == pytest.approx(logprob, abs=1e-4), reply
            assert said == greedy


def test_batch_company_changes_nothing_but_rounding(save_tiny):
    model = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu"))
    together = model.score(requests())
    for request, result in zip(requests(), together, strict=True):
        alone = model.score([request])[0]
        assert alone.logprobs == pytest.approx(result.logprobs, abs=1e-5)
        assert alone.tokens == result.tokens


def test_without_chat_template_the_plain_form_is_used(save_tiny):
    model = load(f"hf:{save_tiny('llama', chat_template=None)}", ModelOptions(device="cpu"))
    turns = requests()[2].messages
    assert model.render(turns) == (
        "Question: yes or no?\nAnswer: yes\n\nQuestion: Paris is the capital of France. What is the capital?\nAnswer:"
    )


def test_greedy_reply_equals_a_loop_of_full_passes(save_tiny):
    model = load(f"hf:{save_tiny('qwen2')}", ModelOptions(device="cpu"))
    asked = [GenerateRequest(request.messages, max_new_tokens=6) for request in requests()]
    for request, reply in zip(asked, model.generate(asked), strict=True):
        ids = model.tokenizer.encode(model.render(request.messages))
        start = len(ids)
        while len(ids) < start + 6:
            with torch.no_grad():
                token = int(model.model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == model.tokenizer.eos_token_id:
                break
            ids.append(token)
        assert reply.text == model.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        assert reply.new_tokens == len(ids) - start


def test_request_tokens_counts_the_longest_row(save_tiny):
    model = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu"))
    request = requests()[3]
    prompt = model.render(request.messages)
    longest = max(len(model.tokenizer.encode(prompt + reply)) for reply in request.continuations)
    assert model.request_tokens(request) == longest


def test_template_that_refuses_a_turn_is_an_error_of_the_item(save_tiny):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}{{ messages[-1].content }}"
    model = load(f"hf:{save_tiny('llama', chat_template=template)}", ModelOptions(device="cpu"))
    chat = (Message("system", ("Be brief.",)), Message("user", ("Hm",)))
    with pytest.raises(ItemError, match="no system turn here"):
        model.request_tokens(ScoreRequest(chat, ("a", "b")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "needs one checkpoint"),
        ("hf:not/there/at/all", "neither a folder nor available"),
        ("hf:{empty}", r"no \*.safetensors"),
    ],
)
def test_bad_checkpoint_is_one_sentence(tmp_path, monkeypatch, name, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message):
        load(name.format(empty=tmp_path), ModelOptions(device="cpu"))


def test_truncated_weights_are_one_sentence(save_tiny, tmp_path):
    folder = save_tiny("llama")
    weights = folder / "model.safetensors"
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / weights.name).write_bytes(weights.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot be read"):
        load(f"hf:{tmp_path}", ModelOptions(device="cpu"))


def test_missing_weights_are_refused_not_drawn_at_random(save_tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_tiny("llama")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weight, 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        load(f"hf:{tmp_path}", ModelOptions(device="cpu"))
