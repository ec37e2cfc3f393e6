"""Models whose forward takes no features: their tower answers equal images from memory, with the scores of whole passes."""

from __future__ import annotations

import pytest

from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.types import Message

pytestmark = pytest.mark.slow

REPLIES = ("the red circle", "Paris")


def requests(make_image) -> list[ScoreRequest]:
    red, blue = make_image(21, 56), make_image(22, 80)
    parts = [
        (red, "What is this?"),
        (red, "What colour?"),
        (blue, red, "Which is red?"),
        (blue, red, "Which is blue?"),
        (red, red, "Equal?"),
    ]
    return [ScoreRequest((Message("user", own),), REPLIES) for own in parts]


@pytest.mark.parametrize(
    ("family", "once", "passes"), [("mllama", "each image", 2), ("phi4_multimodal", "each set of images", 3)], ids=["mllama", "phi4"]
)
def test_the_tower_reads_nothing_twice(family_model, family_folder, make_image, family, once, passes):
    model, asked = family_model(family), requests(make_image)
    assert model.info.details["images"]["tower"] == once
    before = model.tower.computed
    found = [one.logprobs for one in model.score(asked)]
    assert model.tower.computed - before == passes
    plain = load(f"hf:{family_folder(family)}", ModelOptions(device="cpu", way="plain"))
    assert plain.tower is None
    for one, other in zip(found, plain.score(asked), strict=True):
        assert one == pytest.approx(other.logprobs, abs=1e-4)


def test_the_plain_engine_leaves_the_tower_alone(family_folder, make_image):
    model = load(f"hf:{family_folder('mllama')}", ModelOptions(device="cpu", way="plain"))
    calls = []
    hook = model.model.model.vision_model.register_forward_hook(lambda *_: calls.append(1))
    model.score(requests(make_image)[:1])
    hook.remove()
    assert len(calls) == 1 + sum(tokens > 1 for tokens in model.score(requests(make_image)[:1])[0].tokens)
