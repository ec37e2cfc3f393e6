"""Prompts that begin alike are read once up to where they differ, and get the replies that each gets by itself."""

from __future__ import annotations

import pytest

from iit_bench.engine.plan import BatchLimits, plan_batches
from iit_bench.models.contract import GenerateRequest, ModelOptions, TextGenerateRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

HEADER = "Paris is the capital of France. The circle is red, the square is blue. " * 3
QUESTIONS = ("What is it?", "yes or no?", "Is the circle red, or is the square blue?", "Paris?", "maybe the square", "no")
WINDOW = {"sliding_window": 96, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = [("llama", {}), ("qwen2", {}), ("gpt_neox", {}), ("bloom", {"n_layer": 2, "n_head": 4}), ("gemma3_text", WINDOW)]


@pytest.fixture(scope="module")
def model(save_tiny):
    return load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu"))


def positions(model, ask):
    """What `ask` returns, and the positions that went through the model meanwhile, padding included."""
    seen = []
    hook = model.model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    try:
        return ask(), sum(seen)
    finally:
        hook.remove()


def texts(until=()):
    return [TextGenerateRequest(HEADER + question, max_new_tokens=5, until=until) for question in QUESTIONS]


@pytest.mark.parametrize(("family", "more"), FAMILIES)
def test_replies_after_a_common_header_equal_replies_one_at_a_time(save_tiny, family, more):
    model = load(f"hf:{save_tiny(family, **more)}", ModelOptions(device="cpu"))
    assert model.info.details["generation"] == {"together": "any", "shares_beginnings": True, "refused": {}}
    assert model.generate_text(texts()) == [model.generate_text([request])[0] for request in texts()]


def test_a_common_header_is_read_once(model):
    (alone, many), (together, few) = (
        positions(model, lambda: [model.generate_text([request])[0] for request in texts()]),
        positions(model, lambda: model.generate_text(texts())),
    )
    assert together == alone
    header = len(model.encode_text(HEADER))
    assert few <= many - 3 * header  # of five, less padding


def test_two_groups_of_chats_have_their_histories_read_once_each(model):
    first = (Message("user", (HEADER,)), Message("assistant", ("red",)))
    second = (Message("user", ("Once more: " + HEADER,)), Message("assistant", ("a blue square",)))
    chats = [(*history, Message("user", (question,))) for question in QUESTIONS for history in (first, second)]
    requests = [GenerateRequest(chat, 6) for chat in chats]
    (alone, many), (together, few) = (
        positions(model, lambda: [model.generate([request])[0] for request in requests]),
        positions(model, lambda: model.generate(requests)),
    )
    assert together == alone
    assert few < many / 2


def test_stop_strings_end_rows_that_share_their_beginning(model):
    whole = model.generate_text([texts()[0]])[0].text
    asked = texts(until=(whole[1:3],))
    assert model.generate_text(asked) == [model.generate_text([request])[0] for request in asked]


@pytest.mark.parametrize("settings", [{"num_beams": 2}, {"no_repeat_ngram_size": 2}])
def test_decoding_that_looks_at_whole_rows_shares_nothing(model, settings):
    asked = [TextGenerateRequest(one.context, max_new_tokens=5, settings=tuple(settings.items())) for one in texts()]
    together, read = positions(model, lambda: model.generate_text(asked))
    assert together == [model.generate_text([request])[0] for request in asked]
    assert read >= len(asked) * len(model.encode_text(HEADER))


def test_windows_that_padding_would_fill_are_not_reached(save_tiny):
    """Tokens see a number of columns back, and columns in the middle of a row hold padding."""
    model = load(f"hf:{save_tiny('gemma3_text', **WINDOW)}", ModelOptions(device="cpu"))
    longer = [TextGenerateRequest(HEADER * 2 + question, max_new_tokens=5) for question in QUESTIONS]
    assert model.generate_text(longer) == [model.generate_text([request])[0] for request in longer]


def test_engine_plain_shares_nothing(save_tiny):
    model = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu", way="plain"))
    assert model.info.details["generation"]["refused"] == {"shares_beginnings": "--engine plain"}
    _, read = positions(model, lambda: model.generate_text(texts()))
    assert read >= len(texts()) * len(model.encode_text(HEADER))


def test_positions_by_column_are_found_at_load(save_tiny):
    """MPT's attention bias counts columns, those of padding in the middle included."""
    shape = {"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2}
    model = load(f"hf:{save_tiny('mpt', **shape)}", ModelOptions(device="cpu"))
    assert not model.info.details["generation"]["shares_beginnings"]
    assert model.generate_text(texts()) == [model.generate_text([request])[0] for request in texts()]


def test_an_evaluation_asks_prompts_that_begin_alike_together(model):
    """In order of length, questions about two long texts would take turns, and each batch would read both."""
    histories = [(Message("user", (start + HEADER,)), Message("assistant", ("red",))) for start in ("yes yes ", "yes no ")]
    chats = [(*history, Message("user", ("no " * count,))) for count in range(1, 7) for history in histories]
    requests = [GenerateRequest(chat, 4) for chat in chats]
    prompts = {str(number): model.prompt(request) for number, request in enumerate(requests)}
    lengths = {key: len(prompt) + 4 for key, prompt in prompts.items()}
    batches = plan_batches(lengths, BatchLimits(6, 2**20), prompts)
    assert [sorted({int(key) % 2 for key in batch}) for batch in batches] in ([[0], [1]], [[1], [0]])

    def read(plan):
        return sum(positions(model, lambda batch=batch: model.generate([requests[int(key)] for key in batch]))[1] for batch in plan)

    assert read(batches) < read(plan_batches(lengths, BatchLimits(6, 2**20)))
