"""The base LLM's loss, its layers computed as few nodes, is that of transformers' own model, and so are its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from iit_bench.models.wings.decoder import WingsDecoderLayer
from iit_bench.training import chat
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

pytestmark = pytest.mark.slow


@pytest.mark.oracle
def test_loss_and_gradients_are_those_of_transformers(tiny: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = make_task(load_recipe("lab-base", [*tiny["lab-base"], "data.turns=[1, 2, 3]"]).recipe)
    rows = [row for step in range(3) for row in task.rows(step)]
    batch = chat.collate(rows, task.tokenizer.pad_token_id)
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


def test_rows_with_images_without_padding_have_the_models_loss(tiny: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = make_task(load_recipe("lab-llava-stage2", [*tiny["lab-llava-stage2"], "data.turns=[1, 2, 3]"]).recipe)
    rows = [row for step in range(3) for row in task.rows(step)]
    assert len(task.blocks(rows)) > 3
    monkeypatch.setattr(task, "packs", lambda: False)
    expected = task.loss(rows)
    expected.backward()
    expected_gradients = {name: parameter.grad.clone() for name, parameter in task.module.named_parameters() if parameter.grad is not None}
    task.module.zero_grad()
    monkeypatch.undo()

    def refused(*_: Any) -> None:
        raise AssertionError("this pass was to be without padding")

    monkeypatch.setattr(WingsDecoderLayer, "forward", refused)
    found = task.loss(rows)
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    largest = max(float(tensor.norm()) for tensor in expected_gradients.values())
    for name, parameter in task.module.named_parameters():
        if parameter.grad is not None:
            assert float((parameter.grad - expected_gradients[name]).norm()) <= 1e-6 * largest, name


@pytest.mark.parametrize("stage", ["lab-wings-stage1", "lab-wings-stage2"])
def test_rows_of_learners_are_padded(stage: str, tiny: dict[str, tuple[str, ...]]) -> None:
    task: Any = make_task(load_recipe(stage, tiny[stage]).recipe)
    assert not task.packs()
