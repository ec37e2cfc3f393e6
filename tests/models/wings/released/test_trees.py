"""Mode `released`: text in rows of a tree, which is exact for it; images plainly (docs/spec/wings.md#c6-caching-in-released)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PILImage

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.images import encode
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.wings.load import load
from iit_bench.types import Image, Message


@pytest.fixture
def wings(qwen: Path) -> Any:
    return load("wings", ModelOptions(checkpoint=str(qwen), device="cpu"))


def requests() -> list[ScoreRequest]:
    told = (Message("user", ("2 + 2?",)), Message("assistant", ("4",)))
    look = Message("user", (Image(encode(PILImage.new("RGB", (20, 30), (200, 40, 40)))), "\nHue?"))
    chats = [told[:1], (*told, Message("user", ("And 3?",))), (look,), (*told, look), (*told, *told, Message("user", ("And 3?",)))]
    return [ScoreRequest(chat, ("red", "dark green", "4")) for chat in chats]


def test_text_goes_through_trees_and_images_plainly_with_equal_scores(wings: Any, tmp_path: Path) -> None:
    assert wings.way == "tree"
    assert [len(wings.paths(request)) for request in requests()] == [1, 1, 0, 0, 1]
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        found = answer(wings, requests(), log, BatchLimits.for_model(wings.info, None, "tree")).answers
    for one, other in zip(found, wings.score(requests()), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert (one.tokens, one.greedy, one.prompt_tokens) == (other.tokens, other.greedy, other.prompt_tokens)


def test_every_position_of_text_is_computed_once(wings: Any, tmp_path: Path) -> None:
    asked = [request for request in requests() if wings.paths(request)]
    positions: list[int] = []
    wings.model.model.layers[0].register_forward_hook(lambda _, inputs, output: positions.append(output.shape[:2].numel()))
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        answer(wings, asked, log, BatchLimits.for_model(wings.info, None, "tree"))
    branches = [branch.tolist() for request in asked for path in wings.paths(request) for branch in path.branches()]
    assert sum(positions) == len({tuple(branch[: i + 1]) for branch in branches for i in range(len(branch))})


def test_a_tree_with_images_or_beyond_the_limit_is_refused(wings: Any) -> None:
    ends = torch.tensor([[2, 2]])
    with pytest.raises(ValueError, match="no cache for images"):
        wings.model(torch.tensor([[1, 2]]), ends=ends, image_features=torch.zeros(1, 9, wings.model.config.vision_hidden_size))
    limit = wings.model._released_limit()
    long, siblings = torch.ones(1, limit + 1, dtype=torch.long), torch.arange(1, limit + 2)[None]
    with pytest.raises(ValueError, match=f"a cache for {limit} tokens"):
        wings.model(long, ends=torch.full_like(long, limit + 1))
    assert wings.model(long, ends=siblings).logits.shape[1] == limit + 1  # paths of one token each
