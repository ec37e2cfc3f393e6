"""Greedy replies of checkpoints whose generation_config.json asks for something else, against a loop of full passes."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from iit_bench.errors import UserError
from iit_bench.models.huggingface.generation import LENGTHS, end_tokens, generation_record, greedy_settings, loading_settings

pytestmark = pytest.mark.oracle

PROMPT = [7, 8, 9, 10, 9, 10]
OTHER = [
    {"repetition_penalty": 1.8},
    {"no_repeat_ngram_size": 1},
    {"guidance_scale": 3.0},
    {"do_sample": True, "temperature": 5.0, "top_p": 0.9, "top_k": 3},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_return_sequences": 3},  # from_pretrained itself refuses it
    {"do_sample": True, "num_return_sequences": 3},
    {"stop_strings": ["e"]},
    {"return_dict_in_generate": True, "output_scores": True},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"dola_layers": "low"},
    {"watermarking_config": {"bias": 9.0}},
    {"token_healing": True},
    {"max_time": 1e-6},
    {"forced_eos_token_id": 1},
    {"sequence_bias": [[[31], -100.0], [[256], 100.0]]},
    {"exponential_decay_length_penalty": [1, 9.0]},
    {"min_length": 50},
    {"max_length": 3},
    {"max_new_tokens": 3},
    {"repetition_penalty": 1.05, "a_custom_entry": 3},
]


@pytest.fixture(scope="module")
def plain(save_tiny):
    return save_tiny("llama")


def loaded(plain, tmp_path, entries):
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return folder, AutoModelForCausalLM.from_pretrained(folder, **loading_settings(folder)).eval()


@torch.no_grad()
def most_likely(model, count: int) -> list[int]:
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


@pytest.mark.parametrize("entries", OTHER, ids=lambda entries: "+".join(entries))
def test_greedy_obeys_nothing_but_the_logits(plain, tmp_path, tiny, entries):
    folder, model = loaded(plain, tmp_path, entries)
    output = model.generate(input_ids=torch.tensor([PROMPT]), max_new_tokens=8, pad_token_id=0, **greedy_settings(model))
    assert output[0, len(PROMPT) :].tolist() == most_likely(model, 8)
    record = generation_record(folder, model, tiny.tokenizer())
    kept = {name: value for name, value in entries.items() if name not in LENGTHS}
    assert record.get("greedy_without", {}) == kept


def test_end_tokens_and_bans_of_the_checkpoint_are_kept(plain, tmp_path, tiny):
    first, second = most_likely(AutoModelForCausalLM.from_pretrained(plain), 2)
    folder, model = loaded(plain, tmp_path, {"eos_token_id": [second, 1]})
    output = model.generate(input_ids=torch.tensor([PROMPT]), max_new_tokens=8, pad_token_id=0, **greedy_settings(model))
    assert output[0, len(PROMPT) :].tolist() == [first, second]
    assert end_tokens(model, tiny.tokenizer()) == [second, 1]
    assert generation_record(folder, model, tiny.tokenizer()) == {"end_tokens": [second, 1]}
    folder, model = loaded(folder, tmp_path / "banned", {"suppress_tokens": [first], "eos_token_id": 1})
    output = model.generate(input_ids=torch.tensor([PROMPT]), max_new_tokens=1, pad_token_id=0, **greedy_settings(model))
    assert output[0, -1] != first


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read"), ("[]", "no JSON object"), ('{"early_stopping": 3}', "refused")])
def test_damaged_generation_config_is_one_sentence(plain, tmp_path, text, message):
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        loading_settings(folder)
