"""Models that run no rows of a tree: each prompt goes through them once, whatever the number of its replies."""

from __future__ import annotations

import pytest

from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = pytest.mark.slow

REPLIES = ("the red circle", "Paris", "a blue square and a green one", "the red square")


@pytest.fixture(scope="module", params=["paligemma", "mllama", "llama4", "phi4_multimodal"])
def model(request, family_model):
    return family_model(request.param)


def counted(model, *requests):
    """Positions that go through the first decoder layer, per pass; and the result of the last request."""
    positions = []

    def count(_, given, named):
        hidden = (given or [named["hidden_states"]])[0]
        positions.append(hidden.shape[0] * hidden.shape[1])

    decoder = next(module for module in model.model.modules() if hasattr(module, "layers") and hasattr(module, "embed_tokens"))
    hook = decoder.layers[0].register_forward_pre_hook(count, with_kwargs=True)
    result = model.score(requests)[-1]
    hook.remove()
    return positions, result


def test_a_prompt_goes_through_the_model_once(model, make_image):
    request = ScoreRequest((Message("user", (make_image(1, 56), "What is this?")),), REPLIES)
    positions, result = counted(model, request)
    longer = [tokens - 1 for tokens in result.tokens if tokens > 1]
    assert positions == [result.prompt_tokens, len(longer) * max(longer)]
    assert set(model.info.details["rows"]["refused"]) == {"tree"}


def test_scores_are_those_of_the_plain_engine(model, family_folder, make_image, request):
    plain = load(f"hf:{family_folder(request.node.callspec.params['model'])}", ModelOptions(device="cpu", way="plain"))
    chat = (Message("user", (make_image(1, 56), make_image(2, 80), "Which is red?")),)
    one, other = (which.score([ScoreRequest(chat, REPLIES)])[0] for which in (model, plain))
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert one.greedy == other.greedy


def test_replies_past_a_window_are_scored_in_one_piece_with_their_prompt(family_folder, make_image):
    """The window of Llama 4's chunks is shorter than the prompt: what its cache holds then depends on where a chunk began."""
    model = load(f"hf:{family_folder('llama4')}", ModelOptions(device="cpu"))
    model.replies._window = 16
    request = ScoreRequest((Message("user", (make_image(1, 56), "What is this?")),), REPLIES)
    positions, result = counted(model, request)
    assert positions == [result.prompt_tokens, *(result.prompt_tokens + tokens - 1 for tokens in result.tokens if tokens > 1)]


def test_equal_chats_in_a_row_go_through_the_model_once_and_score_as_apart(model, make_image):
    """Bit for bit: what is asked beside a request changes nothing, so how a run's requests are put together needs no record."""
    chat, other = ((Message("user", (make_image(seed, 56), "What is this?")),) for seed in (1, 2))
    requests = [ScoreRequest(chat, REPLIES), ScoreRequest(chat, REPLIES[2:]), ScoreRequest(other, REPLIES[2:])]
    apart = {}
    for place in (2, 0, 2, 1, 2):  # never the chat before
        positions, apart[place] = counted(model, requests[place])
        assert positions[0] == apart[place].prompt_tokens
    assert model.score(requests) == [apart[0], apart[1], apart[2]]
    positions, _ = counted(model, *requests)
    assert positions.count(apart[0].prompt_tokens) == 2
