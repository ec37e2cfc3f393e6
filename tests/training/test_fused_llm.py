"""The base LLM's loss, its layers computed as few nodes, is that of transformers' own model, and so are its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.training import batches, chat
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

pytestmark = pytest.mark.slow


@pytest.mark.oracle
def test_loss_and_gradients_are_those_of_transformers(tiny: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = make_task(load_recipe("lab-base", [*tiny["lab-base"], "data.turns=[1, 2, 3]"]).recipe)
    rows = [row for step in range(3) for row in task.rows(step)]
    batch = batches.collate(rows, task.tokenizer.pad_token_id)
    assert not batch.mask.all()
    expected = task.module(batch.ids, attention_mask=batch.mask, labels=batch.labels).loss
    expected.backward()
    expected_gradients = {name: parameter.grad.clone() for name, parameter in task.module.named_parameters()}
    task.module.zero_grad()

    def refused(*_: Any) -> None:
        raise AssertionError("this layer was to be fused")

    monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", refused)
    found = task.loss(rows) / task.weight(rows)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    largest = max(float(tensor.norm()) for tensor in expected_gradients.values())
    for name, parameter in task.module.named_parameters():
        assert float((parameter.grad - expected_gradients[name]).norm()) <= 1e-6 * largest, name


METHODS: dict[str, tuple[str, ...]] = {
    "LLaVA-style": (),
    "Wings": (),
    "without router": ("model.router=false", "optim.lr.router=0"),
    "visual learner": ("model.textual=false", "model.router=false", "optim.lr.textual=0", "optim.lr.router=0"),
}


def gradients(task: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    task.module.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in task.module.named_parameters() if parameter.grad is not None}


def without_images(row: chat.Row, mark: int) -> chat.Row:
    kept = [place for place, token in enumerate(row.ids) if token != mark]
    return chat.Row([row.ids[place] for place in kept], [row.labels[place] for place in kept], ())


@pytest.mark.parametrize("kinds", ["one image", "several images, and text"])
@pytest.mark.parametrize("method", METHODS)
def test_rows_with_images_without_padding_have_the_models_loss(
    method: str, kinds: str, tiny: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = "lab-llava-stage2" if method == "LLaVA-style" else "lab-wings-stage2"
    recipe = load_recipe(stage, [*tiny[stage], *METHODS[method], "data.turns=[1, 2, 3]"]).recipe
    task: Any = make_task(recipe)
    torch.manual_seed(0)
    for name, parameter in task.module.named_parameters():
        if "_pool" in name or "reweight" in name:  # fresh learners would add nothing
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    rows = [row for step in range(3) for row in task.rows(step)]
    if kinds != "one image":
        short = [min(rows, key=task.size)] * 2
        double = chat.Row(short[0].ids + short[1].ids, short[0].labels + short[1].labels, short[0].images + short[1].images)
        texts = [without_images(row, task.module.config.image_token_id) for row in rows[:4]]
        rows = [*rows[:6], double, *texts]
    assert task.packs()
    assert len(task.blocks(rows)) > 3
    monkeypatch.setattr(task, "packs", lambda: False)
    expected = task.loss(rows)
    expected_gradients = gradients(task, expected)
    monkeypatch.undo()

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("this pass was to be without padding")

    monkeypatch.setattr(WingsForConditionalGeneration, "forward", refused)
    found = task.loss(rows)
    found_gradients = gradients(task, found)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert found_gradients.keys() == expected_gradients.keys()
    largest = max(float(tensor.norm()) for tensor in expected_gradients.values())
    for name, gradient in found_gradients.items():
        assert float((gradient - expected_gradients[name]).norm()) <= 1e-6 * largest, name
