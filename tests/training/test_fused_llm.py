"""The base LLM's loss, its layers computed as few nodes, is that of transformers' own model, and so are its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

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
