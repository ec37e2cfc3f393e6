"""Images processed once by themselves: what is held, what is made again, and what words may not do."""

from __future__ import annotations

import gc
import io
import weakref

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from transformers import Gemma3Processor

from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.huggingface import image_parts
from iit_bench.models.huggingface.image_parts import Bounded, ImageParts
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


def test_files_of_images_are_let_go_beyond_a_bound(model, make_image, monkeypatch):
    """Every image that a run had shown was kept as long as its model."""
    monkeypatch.setattr(image_parts, "PARTS_HELD", 10_000, raising=False)  # files of two or three of these images
    own = model.chats.parts
    parts = ImageParts(model.processor, model.words, mark=own.mark, column=own.column, reads=["pixel_values"], company=False)
    images = [make_image(seed) for seed in range(40, 48)]
    shown = [weakref.ref(image) for image in images]
    assert [part.image for part in parts.of(images)] == images
    last = parts.of(images[-1:])[0]
    assert parts.of(images[-1:])[0] is last  # within the bound: not made again
    images.clear()
    gc.collect()
    assert [image() is not None for image in shown] == [False] * 5 + [True] * 3


def test_an_image_that_was_let_go_is_made_again_with_equal_scores(model, make_image):
    chat = (Message("user", (make_image(35), "What is this?")),)
    (first,) = scores(model, chat)
    parts = model.chats.parts
    (part,) = parts.of(chat[0].images)
    computed = model.chats.features.computed
    parts._parts.pop(part.key)
    assert scores(model, chat) == [first]
    (again,) = parts.of(chat[0].images)
    assert again is not part
    assert (again.key, again.tokens, again.columns, again.around) == (part.key, part.tokens, part.columns, part.around)
    assert model.chats.features.computed == computed  # its features were found by its key


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


# ---------------------------------------------------------------- images whose size changes the words around them

CROPS = {  # what transformers' processor class has where a checkpoint names none
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}


def picture(seed: int, width: int, height: int) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return Image(buffer.getvalue())


def shown(width: int, height: int) -> list[tuple[Message, ...]]:
    """Chats of small images and one out of which crops are cut: by itself, between small ones, in a history."""
    small, large = picture(1, 60, 60), picture(2, width, height)
    first = Message("user", (large, "What is this?"))
    return [
        (Message("user", (small, "What is this?")),),
        (first,),
        (Message("user", (small, " or ", large, " or ", small, "?")),),
        (first, Message("assistant", ("red",)), Message("user", (large, "yes or no?"))),
    ]


def both(folder, settings):
    """The model as it is loaded, and one whose chats are processed whole."""
    return [load(f"hf:{folder}", ModelOptions(device="cpu", processor_kwargs=settings, way=way)) for way in ("auto", "plain")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "size"),
    [(CROPS, (1024, 256)), (CROPS, (300, 800)), (CROPS | {"pan_and_scan_min_crop_size": 400}, (1000, 400))],
    ids=["wide", "tall", "larger than the images of the check"],
)
def test_words_around_an_image_may_depend_on_its_size(family_folder, settings, size):
    """Gemma 3 introduces the crops of a long image; the words of the first image of all were expected around every one."""
    model, plain = both(family_folder("gemma3"), settings)
    assert model.way == "tree", model.info.details
    chats = shown(*size)
    for one, chat in zip(scores(model, *chats), chats, strict=True):
        request = ScoreRequest(chat, REPLIES)
        assert one == pytest.approx(plain.score([request])[0].logprobs, abs=1e-4)
        assert model.request_tokens(request) == plain.request_tokens(request)
    requests = [GenerateRequest(chat, 4) for chat in chats]
    assert model.generate(requests) == [plain.generate([request])[0] for request in requests]


@pytest.mark.slow
def test_chats_are_processed_whole_where_words_of_large_images_depend_on_the_chat(family_folder, monkeypatch):
    """A processor that numbers the images it cuts: images of 200 pixels do not show it, the large one of the check at load does."""
    written = Gemma3Processor.replace_image_token

    def numbered(self, image_inputs, image_idx, **more):
        return written(self, image_inputs, image_idx, **more).replace("the original image", f"image {image_idx + 1}")

    monkeypatch.setattr(Gemma3Processor, "replace_image_token", numbered)
    model, plain = both(family_folder("gemma3"), CROPS)
    assert model.info.details["images"]["tokens_of"] == "the whole chat"
    for chat in shown(1024, 256):
        request = ScoreRequest(chat, REPLIES)
        assert model.score([request])[0].logprobs == pytest.approx(plain.score([request])[0].logprobs, abs=1e-4)


def test_an_image_without_places_of_features_names_the_way_that_reads_it(model, make_image):
    own = model.chats.parts
    other = model.tokenizer.convert_tokens_to_ids("a")
    parts = ImageParts(model.processor, model.words, mark=own.mark, column=other, reads=["pixel_values"], company=False)
    with pytest.raises(ItemError, match=r"image not processed by itself: .*; --engine plain processes it with its chat"):
        parts.of([make_image(36)])
