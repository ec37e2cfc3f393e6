"""Fields of `data` that make controls of a visual stage, whatever its method: no images, or text of the base LLM's training between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

SOURCES = "data.sources={easyvqa: 1, digits: 3}"


def task_of(inputs: dict[str, Path], *overrides: str) -> Any:
    start = (f"inputs.model={inputs['llava-stage1']}", "optim.batch=30", *overrides)
    recipe: Any = load_recipe("lab-llava-stage2", start).recipe
    return make_task(recipe)


@pytest.mark.slow
def test_without_images_the_same_questions_have_the_same_labels(inputs: dict[str, Path]) -> None:
    shown, control = task_of(inputs, SOURCES), task_of(inputs, SOURCES, "data.without_images=true")
    mark = shown.tokenizer.convert_tokens_to_ids("<image>")
    rows, without = [*shown.rows(3), *shown.held_out()[:5]], [*control.rows(3), *control.held_out()[:5]]
    assert len(rows) == len(without) and any(len(row.images) > 3 for row in rows)  # pairs of pictures in several turns
    for row, other in zip(rows, without, strict=True):
        text = shown.tokenizer.decode([token for token in row.ids if token != mark])
        assert text.replace("<|user|>\n", "<|user|>") == shown.tokenizer.decode(other.ids)  # the line between image and question goes too
        assert [label for label in row.labels if label != -100] == [label for label in other.labels if label != -100]
        assert row.images and not other.images
    control.loss(without).backward()
    projector, llm = (control.groups[name] for name in ("projector", "llm"))
    assert all(parameter.grad is None for parameter in projector) and all(parameter.grad is not None for parameter in llm)


@pytest.mark.slow
def test_any_method_replays_as_method_replay_does(inputs: dict[str, Path]) -> None:
    asked = "share: 0.5, sources: {facts: 1}"
    by_method = task_of(inputs, f"method={{name: replay, {asked}}}")
    by_data = task_of(inputs, "method={name: lora, rank: 2}", "optim.lr={adapter: 1e-3, projector: 1e-3}", f"data.replay={{{asked}}}")
    rows = by_data.rows(5)
    assert rows == by_method.rows(5)
    assert 0 < sum(len(row.images) for row in rows) < 30
    with torch.no_grad():
        assert by_data.loss(rows) == pytest.approx(float(by_method.loss(rows)), rel=1e-5)  # the adapter is a difference of 0 yet


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        ("lab-llava-stage1", ["data.without_images=true"], "leaves nothing to train.*llm, textual or adapter"),
        ("lab-base", ["data.without_images=true"], "a base LLM sees text only"),
        ("lab-base", ["data.replay={share: 0.1}"], "a base LLM sees text only"),
        ("lab-llava-stage2", ["data.without_images=true", "data.mixture=[{source: 'lab:easyvqa'}]"], "without_images is for data without"),
        ("lab-llava-stage2", ["data.replay={share: 0.1}", "data.mixture=[{source: 'lab:easyvqa'}]"], "replay is for data without"),
        ("lab-llava-stage2", ["data.replay={share: 0.1}", "method={name: replay}"], "both say what is replayed"),
        ("lab-llava-stage2", ["data.replay={share: 1}"], "'share'.*below 1"),
        ("lab-llava-stage2", ["data.replay={share: 0.1, sources: {easyvqa: 1}}"], "no 'easyvqa'"),
    ],
)
def test_a_wrong_control_is_one_sentence(recipe: str, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_recipe(recipe, overrides)
    assert "\n" not in str(caught.value)
