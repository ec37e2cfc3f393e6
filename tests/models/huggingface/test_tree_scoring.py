"""Jobs of chats and raw texts through the engine, as rows of a tree where the model allows it; every reply against a plain pass.

The oracle is transformers' own forward over one row of prompt and reply, without a cache, a mask or padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits, Request
from iit_bench.engine.run import answer
from iit_bench.models.contract import ModelOptions, RollingRequest, ScoreRequest, TextScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.token_trees import build_row
from iit_bench.types import Message

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

ORIGINAL = 48  # tokens at which "longrope" and "dynamic" change their frequencies; jobs are on both sides
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LONGROPE |= {"original_max_position_embeddings": ORIGINAL}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
MIXED = {"sliding_window": 8, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]}
# name -> family of transformers, entries of its configuration, how its rows are run
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("llama", {}, "tree"),
    "gemma3_text": ("gemma3_text", MIXED, "tree"),
    "mistral with a window": ("mistral", {"sliding_window": 8}, "tree"),
    "phi3 longrope": ("phi3", {"original_max_position_embeddings": ORIGINAL, "rope_parameters": LONGROPE}, "tree"),
    "llama dynamic": ("llama", {"max_position_embeddings": ORIGINAL, "rope_parameters": DYNAMIC}, "tree"),
    "roberta": ("roberta", {"is_decoder": True, "type_vocab_size": 1}, "tree"),
    "gpt_neo": ("gpt_neo", {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8}, "plain"),
    "rwkv": ("rwkv", {"attention_hidden_size": 32, "context_length": 256}, "plain"),
}
REPLIES = ("Paris", "x", "the square is blue", "no")
TURNS = ("Is it red?", "yes", "The circle is red, the square is blue. What colour?", "blue", "Paris or France?", "Paris", "yes or no?")


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, save_tiny: Callable[..., Path]) -> Any:
    family, more, way = MODELS[request.param]
    opened = load(f"hf:{save_tiny(family, **more)}", ModelOptions(device="cpu", dtype="float32"))
    assert opened.way == opened.info.details["rows"]["way"] == way
    return opened


def chats(longest: int | None) -> list[ScoreRequest]:
    """Histories that are beginnings of one another, and siblings of them."""
    found = []
    for count in (1, 3, 5, 7):
        for last in ("", " And the circle?"):
            turns = [*TURNS[: count - 1], TURNS[count - 1] + last]
            messages = tuple(Message(("user", "assistant")[i % 2], (text,)) for i, text in enumerate(turns))
            found.append(ScoreRequest(messages, REPLIES))
    return found if longest is None else found[:2]


def logprob(model: Any, prompt: list[int], reply: list[int]) -> float:
    """A pass over one token comes first: rope type "dynamic" keeps the frequencies of longer rows before it."""
    ids = prompt + reply
    with torch.no_grad():
        model.model(torch.tensor([ids[:1]]), use_cache=False)
        logprobs = model.model(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    return sum(float(logprobs[i - 1, ids[i]]) for i in range(len(prompt), len(ids)))


def answered(model: Any, requests: Sequence[Request], folder: Path, tokens: int) -> list[Any]:
    limits = BatchLimits(rows=256, tokens=4096, row_tokens=tokens, way=model.way)
    with ResponseLog(folder / "responses.jsonl") as log:
        return list(answer(model, requests, log, limits).answers)


@pytest.mark.parametrize("tokens", [1, 10**6], ids=["small rows", "one row"])
def test_chats_are_scored_as_plain_passes_score_them(model: Any, tmp_path: Path, tokens: int) -> None:
    requests = chats(model.info.max_context if "dynamic" in str(model.model.config.to_dict()) else None)
    for request, result in zip(requests, answered(model, requests, tmp_path, tokens), strict=True):
        prompt = model.tokenizer.encode(model.render(request.messages))
        expected = [logprob(model, prompt, model.tokenizer.encode(reply)) for reply in REPLIES]
        assert result.logprobs == pytest.approx(expected, abs=1e-4)


def test_raw_texts_with_examples_are_scored_as_plain_passes_score_them(model: Any, tmp_path: Path) -> None:
    """A header of examples that all requests share, with different questions after it; one text is cut to the context."""
    header = "Paris is the capital of France. yes\n\n"
    contexts = ["The circle", header + "The circle is", header + "The square is", header + "The square is blue, the", "red " * 200]
    requests = [TextScoreRequest(context, (" red", " blue, the square", " no")) for context in contexts]
    for request, result in zip(requests, answered(model, requests, tmp_path, 10**6), strict=True):
        for (before, after), found in zip(model._pairs(request), result.logprobs, strict=True):
            assert len(before) + len(after) <= model.context_limit + 1
            assert found == pytest.approx(logprob(model, before, after), abs=1e-4)


def test_rolling_texts_are_scored_window_by_window(model: Any, tmp_path: Path) -> None:
    requests = [RollingRequest("The circle is red, the square is blue. " * count) for count in (1, 3, 20)]
    for request, result in zip(requests, answered(model, requests, tmp_path, 10**6), strict=True):
        expected = sum(logprob(model, before, after) for before, after in model._windows(request.text))
        assert result.logprobs[0] == pytest.approx(expected, abs=1e-3)


def test_continuations_of_one_context_are_one_path(save_tiny: Callable[..., Path]) -> None:
    model: Any = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu"))
    (path,) = model.paths(TextScoreRequest("The circle is", (" red", " blue", " no")))
    assert len(path.replies) == 3 and len(build_row([path])) < 3 * len(path.prompt)


def test_a_family_that_is_not_listed_says_so_in_its_record(save_tiny: Callable[..., Path]) -> None:
    model = load(f"hf:{save_tiny('gpt_neo', **MODELS['gpt_neo'][1])}", ModelOptions(device="cpu"))
    assert "gpt_neo is not listed" in model.info.details["rows"]["refused"]["tree"]
    plain = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu", way="plain"))
    assert plain.info.details["rows"]["refused"] == {"tree": "--engine plain"}
