"""Chats with images as rows of one tree: scores of whole plain passes, each token once, each image once through the tower."""

from __future__ import annotations

import pytest
import tiny_vlms
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from iit_bench.images import decode_item
from iit_bench.models.contract import ScoreRequest, TextScoreRequest
from iit_bench.token_trees import build_row
from iit_bench.types import Message

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

IN_TREES = [family.name for family in tiny_vlms.FAMILIES if family.images and family.tree]
REPLIES = ("the red circle", "Paris", "a blue square and a green one", "the red square")


def job(make_image) -> list[ScoreRequest]:
    """Nested histories, chats of 0 to 3 images, images that several chats share, and one that a chat shows twice."""
    red, blue, green = make_image(1, 56), make_image(2, 80), make_image(3, 64)
    text = (Message("user", ("What is the capital of France?",)),)
    picture = (Message("user", (red, "\nWhat colour?")),)
    answered = (*picture, Message("assistant", ("red",)))
    chats = [
        text,
        (*text, Message("assistant", ("Paris",)), Message("user", ("yes or no?",))),
        picture,
        (*answered, Message("user", ("yes or no?",))),
        (*answered, Message("user", (red, blue, "Which is blue?"))),
        (Message("user", (red, " or ", blue, " or ", green, "?")),),
        (Message("user", (red, "\nWhat shape?")),),
        (*text, Message("assistant", ("Paris",)), Message("user", (green, "\nWhat colour?"))),
    ]
    return [ScoreRequest(chat, REPLIES) for chat in chats]


@pytest.fixture(scope="module", params=IN_TREES)
def model(request, family_model):
    found = family_model(request.param)
    assert found.way == "tree", found.info.details
    return found


class Alone:
    """The same checkpoint as transformers loads it: whole passes over what its own processor makes of a chat with its reply."""

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()

    @torch.no_grad()
    def score(self, messages, reply, tokens):
        as_part = {True: lambda part: {"type": "text", "text": part}, False: lambda part: {"type": "image"}}
        turns = [{"role": one.role, "content": [as_part[isinstance(p, str)](p) for p in one.parts]} for one in messages]
        turns.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
        text = self.processor.apply_chat_template(turns, tokenize=False).rpartition(reply)[0] + reply
        images = [decode_item(image) for message in messages for image in message.images]
        bos = self.processor.tokenizer.bos_token
        adds = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        inputs = dict(self.processor(text=[text], images=[images] if images else None, return_tensors="pt", **adds))
        ids = inputs["input_ids"][0]
        logprobs = self.model(**inputs, use_cache=False).logits[0].double().log_softmax(-1)
        return float(sum(logprobs[i - 1, ids[i]] for i in range(len(ids) - tokens, len(ids))))


def test_scores_of_rows_equal_whole_passes(model, family_folder, make_image, request):
    alone = Alone(family_folder(request.node.callspec.params["model"]))
    requests = job(make_image)
    for one, result in zip(requests, model.score_paths(requests, [model.paths(each) for each in requests]), strict=True):
        for reply, got, tokens in zip(one.continuations, result.logprobs, result.tokens, strict=True):
            assert got == pytest.approx(alone.score(one.messages, reply, tokens), abs=1e-4), (one.messages, reply)


def test_rows_hold_every_token_once_and_the_tower_sees_every_image_once(model, make_image, request):
    """Shared images are shared columns: a row of the whole job has the nodes that a set of all beginnings has."""
    requests = job(lambda seed, size: make_image(seed + 10, size))
    paths = [one for each in requests for one in model.paths(each)]
    beginnings = {tuple(branch[: i + 1].tolist()) for one in paths for branch in one.branches() for i in range(len(branch))}
    assert len(build_row(paths)) == len(beginnings)
    before, positions = model.chats.features.computed, []
    layers = model.model.get_decoder().layers
    hook = layers[0].register_forward_pre_hook(
        lambda _, given, named: positions.append((given or [named["hidden_states"]])[0]), with_kwargs=True
    )
    model.score_paths(requests, [model.paths(each) for each in requests])
    hook.remove()
    assert sum(one.shape[0] * one.shape[1] for one in positions) == len(beginnings)
    forms = 5 if model.chats.parts.company else 3  # two of the three images are seen alone and in company
    assert model.chats.features.computed - before == forms


def test_raw_text_goes_the_same_way(model):
    requests = [TextScoreRequest("The capital of France", (" is Paris", " is red")), TextScoreRequest("The capital", (" of France",))]
    plain = model.score_text(requests)
    rows = model.score_paths(requests, [model.paths(each) for each in requests])
    for one, other in zip(plain, rows, strict=True):
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert other.tokens == one.tokens
