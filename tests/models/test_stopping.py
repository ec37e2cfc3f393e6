"""Stop strings end each row by itself: what other rows of the batch do changes neither its text nor its count of tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer

from iit_bench.models.contract import ModelOptions, TextGenerateRequest
from iit_bench.models.huggingface.load import load
from iit_bench.models.stopping import StopStrings

CONTEXTS = ("The capital of France is", "yes no maybe", "The circle is", "What")


@pytest.fixture(scope="module")
def folder(save_tiny):
    return save_tiny("llama")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_a_row_that_ends_early_is_as_long_as_by_itself(folder):
    """Padding behind it counted as new tokens."""
    model = load(f"hf:{folder}", ModelOptions(device="cpu"))
    whole = [model.generate_text([TextGenerateRequest(context, max_new_tokens=16)])[0].text for context in CONTEXTS]
    asked = [TextGenerateRequest(context, max_new_tokens=16, until=(whole[0][2:4],)) for context in CONTEXTS]
    alone = [model.generate_text([request])[0] for request in asked]
    assert alone[0].new_tokens < max(one.new_tokens for one in alone)
    assert model.generate_text(asked) == alone


def test_a_stop_string_is_seen_however_it_is_spelled(tokenizer):
    stop = "What is the capital"
    letters = [token for letter in stop for token in tokenizer.encode(letter)]
    assert len(letters) > 2 * len(tokenizer.encode(stop))
    criterion = StopStrings(tokenizer, [stop], 1)
    ended = [bool(criterion(torch.tensor([[7, 7, *letters[: count + 1]]]), None)[0]) for count in range(len(letters))]
    assert ended == [False] * (len(letters) - 1) + [True]
    assert criterion.ended == [len(letters)]


def test_a_stop_string_of_the_prompt_ends_nothing(tokenizer):
    prompt, new = tokenizer.encode("red\n\nblue\n"), tokenizer.encode("\nyes")
    criterion = StopStrings(tokenizer, ["\n\n"], 1)
    assert not any(criterion(torch.tensor([[*prompt, *new[: count + 1]]]), None)[0] for count in range(len(new)))
