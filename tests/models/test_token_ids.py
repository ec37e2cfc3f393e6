"""A tokenizer with more ids than the model's embedding has rows: what is written with them is an item's error, before any pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from iit_bench.errors import ItemError
from iit_bench.models.contract import (
    GenerateRequest,
    Model,
    ModelOptions,
    RollingRequest,
    ScoreRequest,
    TextGenerateRequest,
    TextScoreRequest,
    as_text_model,
)
from iit_bench.models.load import load_model
from iit_bench.types import Image, Message

WORD = "zebra"  # a token of its own, whose id is beyond the embedding


def beyond(folder: Path, target: Path, processor: bool = False) -> Path:
    """A copy of a checkpoint whose tokenizer has one token more than its embedding has rows."""
    from transformers import AutoProcessor, AutoTokenizer

    shutil.copytree(folder, target)
    renderer = (AutoProcessor if processor else AutoTokenizer).from_pretrained(target)
    (renderer.tokenizer if processor else renderer).add_tokens([WORD])
    renderer.save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def folders(save_tiny: Callable[..., Path], tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("beyond")
    assets = Path(__file__).parents[2] / "iit_bench/assets/models"
    return {
        "causal": beyond(save_tiny("llama"), root / "causal"),
        "image-text": beyond(tiny_llava, root / "image-text", processor=True),
        "wings": beyond(assets / "wings", root / "wings"),
    }


Way = Literal["auto", "plain"]
LOADED: dict[tuple[str, Way], Model] = {}
CASES = [(name, way) for name in ("causal", "image-text", "wings") for way in ("auto", "plain")]
REFUSED = rf"^token beyond the embedding: the tokenizer writes token id \d+ \('{WORD}'\), and the model's embedding has \d+ rows; use"


@pytest.fixture(params=CASES, ids=[f"{name}, {way}" for name, way in CASES])
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Model:
    name, way = request.param
    if (name, way) not in LOADED:
        checkpoint = str(folders[name]) if name == "wings" else None
        options = ModelOptions(checkpoint=checkpoint, device="cpu", dtype="float32", way=way)
        LOADED[name, way] = load_model("wings" if checkpoint else f"hf:{folders[name]}", options)
    return LOADED[name, way]


def chat(text: str, *images: Image) -> tuple[Message, ...]:
    return (Message("user", (*images, text)),)


def test_a_token_without_a_row_is_the_error_of_its_item(model: Model, make_image: Callable[[int], Image]) -> None:
    """Each request is refused where the engine measures it, and where it would be asked: torch is not reached."""
    picture = [make_image(1)] if model.capabilities.takes_images else []
    refused = [
        ScoreRequest(chat(f"What is a {WORD}?"), ("yes", "no")),
        ScoreRequest(chat("What is it?"), ("yes", f"a {WORD}")),
        ScoreRequest(chat(f"Is it a {WORD}?", *picture), ("yes", "no")),
    ]
    for asked in refused:
        for ask in (model.request_tokens, lambda one: model.score([one]), *([model.paths] if model.way == "tree" else [])):
            with pytest.raises(ItemError, match=REFUSED):
                ask(asked)
    written = GenerateRequest(chat(f"What is a {WORD}?", *picture), max_new_tokens=2)
    for ask in (model.request_tokens, lambda one: model.generate([one])):
        with pytest.raises(ItemError, match=REFUSED):
            ask(written)


def test_so_it_is_in_raw_text(model: Model) -> None:
    text = as_text_model(model)
    pairs = [TextScoreRequest(f"A {WORD}", (" is",)), TextScoreRequest("It is a", (f" {WORD}",)), TextScoreRequest("", (f"the {WORD}",))]
    asks = [(one, text.score_text) for one in pairs]
    asks += [(RollingRequest(f"One {WORD} and one more"), text.score_rolling)]
    asks += [(TextGenerateRequest(f"The {WORD}", max_new_tokens=2), text.generate_text)]
    for asked, answer in asks:
        for ask in (text.text_tokens, lambda one, answer=answer: answer([one])):
            with pytest.raises(ItemError, match=REFUSED):
                ask(asked)


def test_other_items_are_answered(model: Model, make_image: Callable[[int], Image]) -> None:
    picture = [make_image(1)] if model.capabilities.takes_images else []
    asked = ScoreRequest(chat("What is it?", *picture), ("yes", "no"))
    assert model.request_tokens(asked) > 4
    (result,) = model.score([asked])
    assert all(logprob < 0 for logprob in result.logprobs)
    assert len(model.generate([GenerateRequest(asked.messages, max_new_tokens=2)])) == 1
