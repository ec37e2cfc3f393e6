"""Images processed once by themselves: what is held, what is made again, and what words may not do."""

from __future__ import annotations

import pytest
import torch

from iit_bench.errors import ItemError
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.image_parts import Bounded
from iit_bench.models.huggingface.load import load
from iit_bench.types import Image, Message

REPLIES = ("the red circle", "Paris")


def test_a_bounded_dictionary_forgets_what_was_used_longest_ago():
    held: Bounded[str] = Bounded(10)
    for key in ("a", "b"):
        held.put(key, key, 4)
    assert held.get("a") == "a"  # used last now
    held.put("c", "c", 4)
    assert [held.get(key) for key in ("a", "b", "c")] == ["a", None, "c"]
    held.put("huge", "huge", 11)
    assert held.get("huge") is None
    assert held.pop("a") == "a"
    assert (held.held, held.get("a")) == (4, None)


@pytest.fixture(scope="module")
def model(tiny_llava):
    return load(f"hf:{tiny_llava}", ModelOptions(device="cpu"))


def scores(model, *chats):
    requests = [ScoreRequest(chat, REPLIES) for chat in chats]
    return [one.logprobs for one in model.score_paths(requests, [model.paths(request) for request in requests])]


def test_pixels_and_features_that_were_let_go_are_made_again(model, make_image):
    chat = (Message("user", (make_image(31), "What is this?")),)
    (first,) = scores(model, chat)
    features, parts = model.chats.features, model.chats.parts
    (part,) = parts.of(chat[0].images)
    assert parts._pixels.get(part.key) is None  # dropped once there are features
    before = features.computed
    assert scores(model, chat) == [first]
    assert features.computed == before
    features._held.pop(part.key)
    assert scores(model, chat) == [first]
    assert features.computed == before + 1


def test_an_unreadable_image_is_an_error_of_its_request_only(model, make_image):
    with pytest.raises(ItemError, match="unreadable image"):
        model.paths(ScoreRequest((Message("user", (Image(b"\x89PNG\r\n\x1a\n not really"), "?")),), REPLIES))
    assert model.paths(ScoreRequest((Message("user", (make_image(32), "?")),), REPLIES))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "gemma3", "qwen2_vl", "idefics3"])
def test_names_of_marks_in_words_stay_words(family_model, family_folder, make_image, family):
    model = family_model(family)
    plain = load(f"hf:{family_folder(family)}", ModelOptions(device="cpu", way="plain"))
    words = f"Is {model.chats.parts.mark} or {model.tokenizer.eos_token} a word?"
    chats = [(Message("user", (make_image(33, 56), words)),), (Message("user", (words,)),)]
    for one, chat in zip(scores(model, *chats), chats, strict=True):
        assert one == pytest.approx(plain.score([ScoreRequest(chat, REPLIES)])[0].logprobs, abs=1e-4)


def test_a_row_keeps_an_image_that_a_chat_shows_twice_in_both_places(model, make_image):
    image = make_image(34)
    twice = (Message("user", (image, " and ", image, ": equal?")),)
    (path,) = model.paths(ScoreRequest(twice, REPLIES))
    symbols = torch.tensor(path.prompt)
    columns = symbols[symbols < 0]
    assert torch.equal(*columns.reshape(2, -1))
    assert path.parts[0] is path.parts[1]
