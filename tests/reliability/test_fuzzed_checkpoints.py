"""A checkpoint's files beside its weights, changed at random: the model answers, or is refused in one sentence (docs/reliability.md).

Here a few changes a kind of model; `make torture` makes TORTURE times as many.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from iit_bench.models.contract import GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from iit_bench.types import Image, Message
from tests.edited_checkpoints import open_model
from tests.reliability.tally import Tally
from tests.reliability.test_fuzzed import Record, every, new_value

pytestmark = pytest.mark.slow
FILES = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


def answers(folder: Path, parts: tuple[Image | str, ...]) -> tuple[ScoreResult, GenerateResult]:
    """Scores and a reply of the model in a folder."""
    model = open_model(folder)
    chat = (Message("user", parts),)
    score, reply = ScoreRequest(chat, ("yes", "no")), GenerateRequest(chat, 2)
    for request in (score, reply):
        model.request_tokens(request)
    return model.score([score])[0], model.generate([reply])[0]


def are_sound(found: tuple[ScoreResult, GenerateResult]) -> bool:
    """Whether the answers can be true; scores that are no numbers become the item's error where they are logged."""
    score, reply = found
    return len(score.logprobs) == 2 and not any(one > 0 for one in score.logprobs if math.isfinite(one)) and reply.new_tokens <= 2


@pytest.mark.parametrize("kind", ["text", "image-text"])
def test_a_changed_file_of_a_checkpoint_is_read_or_refused(
    kind: str,
    save_tiny: Callable[..., Path],
    tiny_llava: Path,
    make_image: Callable[[int], Image],
    tmp_path: Path,
    record_property: Record,
) -> None:
    parts = ("yes or no?",) if kind == "text" else (make_image(1), "What is this?")
    tally, folder = Tally(f"fuzzed: checkpoints, {kind}", record_property), tmp_path / "checkpoint"
    shutil.copytree(save_tiny("llama") if kind == "text" else tiny_llava, folder)
    texts = {name: (folder / name).read_text() for name in FILES if (folder / name).exists()}
    assert are_sound(answers(folder, parts))

    def tried(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(texts)))
        (folder / name).write_text(json.dumps(new_value(data, json.loads(texts[name]))))
        try:
            tally.tried(lambda: answers(folder, parts), are_sound)
        finally:
            (folder / name).write_text(texts[name])

    every(6, tried)
