"""Faults that users of text models reported, one test each: the docstring says what was wrong and what is right.

The oracle is a plain pass of the model over one row, without a cache, or lm-eval's own HFLM.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest, TextScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = pytest.mark.oracle

QUESTION = "What is the capital of France?"
ASK = (Message("user", (QUESTION,)),)
REPLIES = ("Paris", "red", "yes no maybe", "B")
COLON = "{% for m in messages %}{{ m.role | upper }}: {{ m.content }} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
FULL_WIDTH = "{% for m in messages %}{{ m.role }}：{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant：{% endif %}"


def open_model(folder: Path) -> Any:
    return load(f"hf:{folder}", ModelOptions(device="cpu", dtype="float32"))


def plain_score(model: Any, prompt: list[int], reply: list[int]) -> float:
    """Log-probability of the reply's tokens in one pass over one row."""
    ids = torch.tensor([[*prompt, *reply]])
    with torch.no_grad():
        logprobs = model.model(ids, use_cache=False).logits[0].float().log_softmax(-1)
    return sum(float(logprobs[i - 1, ids[0, i]]) for i in range(len(prompt), ids.shape[1]))


def whole_chat(model: Any, reply: str) -> tuple[list[int], list[int]]:
    """Tokens of the chat with the reply in it as transformers writes it, up to the reply's last letter, cut before its first."""
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": reply}]
    text = model.tokenizer.apply_chat_template(turns, tokenize=False)
    start = text.rindex(reply)
    whole = model.tokenizer(text[: start + len(reply)], return_offsets_mapping=True, add_special_tokens=False)
    cut = next(i for i, (_, end) in enumerate(whole["offset_mapping"]) if end > start)
    return whole["input_ids"][:cut], whole["input_ids"][cut:]


def edit_json(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.fixture
def appends_end(save_tiny: Callable[..., Path]) -> tuple[Path, Path]:
    """A folder, and one of the same model whose tokenizer appends the end of text."""
    plain, appending = save_tiny("llama"), save_tiny("llama")
    backend = Tokenizer.from_file(str(appending / "tokenizer.json"))
    end = backend.token_to_id("<|end|>")
    backend.post_processor = TemplateProcessing(single="$A:0 <|end|>:0", special_tokens=[("<|end|>", end)])
    backend.save(str(appending / "tokenizer.json"))
    return plain, appending


# ---------------------------------------------------------------- the border of prompt and reply


def test_tokenizer_that_appends_an_end_token_scores_as_one_that_does_not(appends_end):
    """The prompt held the end of text and a reply lost its first token (single letters tied); it is dropped and recorded."""
    plain, appending = map(open_model, appends_end)
    assert appending.info.settings == {"end_tokens_dropped": ["<|end|>"]}
    ask = [ScoreRequest(ASK, ("A", "B", "C", "Paris"))]
    assert appending.score(ask) == plain.score(ask)
    assert len(set(plain.score(ask)[0].logprobs)) == 4
    told = [GenerateRequest(ASK, max_new_tokens=4)]
    assert appending.generate(told) == plain.generate(told)


def test_text_suite_scores_such_a_tokenizer_as_lm_eval_scores_the_plain_one(appends_end):
    """lm-eval's own rule, on a tokenizer that appends nothing: with the end token it scores the wrong tokens."""
    plain, appending = appends_end
    result = open_model(appending).score_text([TextScoreRequest("The circle is", (" red", " blue"))])[0]
    peer = HFLM(pretrained=str(plain), device="cpu", dtype="float32", batch_size=1)
    asked = [Instance("loglikelihood", {}, ("The circle is", reply), i, metadata=("t", 0, 1)) for i, reply in enumerate((" red", " blue"))]
    assert result.logprobs == pytest.approx([logprob for logprob, _ in peer.loglikelihood(asked, disable_tqdm=True)], abs=1e-4)


@pytest.mark.parametrize("template", [COLON, None], ids=["colon", "plain"])
def test_template_that_ends_without_white_space_scores_replies_as_history_reads(save_tiny, template):
    """ "ASSISTANT:" was followed by "Paris" where history reads "ASSISTANT: Paris"; the space is learned from the template."""
    model = open_model(save_tiny("llama", chat_template=template))
    result = model.score([ScoreRequest(ASK, REPLIES)])[0]
    chats = [whole_chat(model, reply) for reply in REPLIES]
    start = min(len(prompt) for prompt, _ in chats)  # the space is one token with some replies: it is scored with all of them, or with none
    for reply, (prompt, own), logprob in zip(REPLIES, chats, result.logprobs, strict=True):
        whole = [*prompt, *own]
        assert logprob == pytest.approx(plain_score(model, whole[:start], whole[start:]), abs=1e-5), reply
    assert model.info.settings == {"reply_delimiter": {"dropped": "", "added": " "}}


def test_line_break_at_the_prompts_end_is_not_scored_with_the_reply(save_tiny):
    """The line break after "<|assistant|>" counted to every reply; it is part of the prompt."""
    model = open_model(save_tiny("llama"))
    result = model.score([ScoreRequest(ASK, REPLIES)])[0]
    for reply, logprob, tokens in zip(REPLIES, result.logprobs, result.tokens, strict=True):
        prompt, own = whole_chat(model, reply)
        assert model.tokenizer.decode(prompt).endswith("<|assistant|>\n") and tokens == len(own)
        assert logprob == pytest.approx(plain_score(model, prompt, own), abs=1e-5), reply
    assert model.info.settings == {}


def test_reply_that_would_share_a_token_with_the_prompt_is_tokenised_by_itself_and_counted(save_tiny):
    """ "：巴" as one token left the reply without its first letter; such a reply is tokenised by itself, and counted."""
    folder = save_tiny("llama", chat_template=FULL_WIDTH, vocab_size=340)
    join(folder / "tokenizer.json", "：巴")
    model = open_model(folder)
    tokenizer = model.tokenizer
    assert len(tokenizer.encode("：巴")) == 1
    prompt = tokenizer.encode(f"user：{QUESTION}\nassistant：")
    (result,) = model.score([ScoreRequest(ASK, ("巴黎", "黎巴"))])
    for reply, logprob in zip(("巴黎", "黎巴"), result.logprobs, strict=True):
        assert logprob == pytest.approx(plain_score(model, prompt, tokenizer.encode(reply)), abs=1e-5), reply
    assert (result.merged, result.prompt_tokens) == (1, len(prompt))


def join(file: Path, text: str) -> None:
    """Give a byte-level tokenizer one token for a text, and no borders between signs and letters."""
    pieces = Tokenizer.from_file(str(file)).encode(text).tokens
    stored = json.loads(file.read_text())
    stored["pre_tokenizer"]["use_regex"] = False
    model = stored["model"]
    for end in range(1, len(pieces)):
        model["merges"].append(["".join(pieces[:end]), pieces[end]])
        model["vocab"]["".join(pieces[: end + 1])] = len(model["vocab"])
    file.write_text(json.dumps(stored))


# ---------------------------------------------------------------- greedy decoding, special tokens

# What checkpoints ship in generation_config.json; each entry changed greedy replies or made `generate` raise.
SHIPPED = [
    {"repetition_penalty": 5.0},
    {"no_repeat_ngram_size": 1},
    {"guidance_scale": 3.0},
    {"do_sample": True, "temperature": 2.0, "top_k": 3},
    {"num_beams": 3, "num_return_sequences": 2},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"return_dict_in_generate": True, "output_scores": True},
    {"stop_strings": ["e"]},
]


@pytest.mark.parametrize("entries", SHIPPED, ids=lambda entries: next(iter(entries)))
def test_greedy_takes_the_most_likely_token_whatever_the_generation_config_says(save_tiny, entries):
    """Replies obeyed penalties and beams of generation_config.json, or could not be generated at all; greedy is the model's own argmax."""
    folder = save_tiny("llama")
    edit_json(folder / "generation_config.json", **entries)
    model = open_model(folder)
    ids = model.tokenizer.encode(model.render(ASK))
    start = len(ids)
    while len(ids) < start + 12:
        with torch.no_grad():
            ids.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    (reply,) = model.generate([GenerateRequest(ASK, max_new_tokens=12)])
    assert reply.text == model.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
    assert model.info.settings


def test_reply_ends_at_every_end_token_of_the_generation_config(save_tiny):
    """A second end token of generation_config.json, beside the tokenizer's, ends a reply and is not part of it."""
    folder = save_tiny("llama")
    ask = [GenerateRequest(ASK, max_new_tokens=8)]
    model = open_model(folder)
    (row,) = model.continue_tokens([model.tokenizer.encode(model.render(ASK))], 8)
    end = next(token for token in row if row.index(token) > 1)
    edit_json(folder / "generation_config.json", eos_token_id=[model.tokenizer.eos_token_id, end])
    (reply,) = open_model(folder).generate(ask)
    assert reply.text == model.tokenizer.decode(row[: row.index(end)], skip_special_tokens=True).strip()


def test_pad_token_outside_the_embedding_is_not_used(save_tiny):
    """A pad token that was added to the tokenizer but not to the weights was an IndexError for two prompts of unequal length."""
    folder = save_tiny("llama")
    plain = open_model(folder)
    asks = [ScoreRequest(ASK, REPLIES), ScoreRequest((Message("user", ("Hm",)),), REPLIES)]
    expected = plain.score(asks)
    tokenizer = plain.tokenizer
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model = open_model(folder)
    assert model.tokenizer.pad_token_id == model.model.get_input_embeddings().weight.shape[0]
    for ours, right in zip(model.score(asks), expected, strict=True):
        assert ours.logprobs == pytest.approx(right.logprobs, abs=1e-5)
    model.generate([GenerateRequest(ask.messages, max_new_tokens=3) for ask in asks])
