"""What a pass with labels leaves out or computes in another order changes neither its loss nor a gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from iit_bench.models.wings import modeling, step

KEPT = 0.2  # of the tokens are labelled
CASES = [
    {},
    {"router": False},
    {"learners": ["visual"], "router": False},
    {"learners": [], "router": False},
    {"learner_layers": [0]},
    {"learners": [], "router": False, "prefix_length": 3},
]


def batch_of(kit: Any, model: Any, side: str) -> tuple[Any, torch.Tensor]:
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(("ttIttttIttt", "Itttttt", "tttttttttt", "tttI"))]
    batch = kit.collate(rows, side)
    chosen = torch.rand(batch.input_ids.shape, generator=torch.Generator().manual_seed(3)) < KEPT
    return batch, batch.input_ids.masked_fill(~chosen | (batch.attention_mask == 0) | (batch.input_ids == 47), -100)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("side", ["right", "left", "inside"])
@pytest.mark.parametrize("fields", CASES, ids=str)
def test_loss_and_gradients_are_those_of_all_logits(fields: dict[str, Any], side: str, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kit.build("smollm", **fields)
    batch, labels = batch_of(kit, model, side)
    computed: list[int] = []
    model.model.layers[-1].mlp.register_forward_hook(lambda _module, inputs, _out: computed.append(inputs[0][..., 0].numel()))
    found = model(**batch.inputs, labels=labels).loss
    found_gradients = gradients(model, found)

    monkeypatch.setattr(modeling, "project_keys", lambda *_: None)
    monkeypatch.setattr(step, "TEXT_FIRST", 1)
    logits = model(**batch.inputs).logits
    pairs = [
        (logits[row, columns[n - 1]], labels[row, column])
        for row, columns in enumerate(batch.columns)
        for n, column in enumerate(columns)
        if n and labels[row, column] != -100
    ]
    assert computed == [len(pairs), labels.numel()]
    expected = functional.cross_entropy(torch.stack([one for one, _ in pairs]), torch.stack([label for _, label in pairs]))
    torch.testing.assert_close(found, expected)
    expected_gradients = gradients(model, expected)
    assert set(found_gradients) == set(expected_gradients)
    for name, tensor in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], tensor, atol=2e-6, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


def test_keys_of_all_layers_are_one_product(kit: Any) -> None:
    model = kit.build("llama")
    batch, labels = batch_of(kit, model, "right")
    calls: list[str] = []
    for layer in model.model.layers:
        layer.attn_pool.k_proj.register_forward_hook(lambda *_: calls.append("k"))
        layer.attn_t_pool.k_proj[0].register_forward_hook(lambda *_: calls.append("k"))
    model(**batch.inputs, labels=labels)
    assert not calls
    with torch.no_grad():
        model(**batch.inputs, labels=labels)
    assert calls  # without gradients the keys of one layer are in memory at a time


def test_a_pass_without_a_label_has_no_loss_to_read(kit: Any) -> None:
    model = kit.build("llama")
    batch, labels = batch_of(kit, model, "right")
    assert model(**batch.inputs, labels=torch.full_like(labels, -100)).loss.isnan()


def test_a_token_that_only_its_label_needs_may_be_left_out(kit: Any) -> None:
    model = kit.build("llama")
    batch, labels = batch_of(kit, model, "right")
    labels[:, -1] = torch.arange(10, 10 + len(labels))
    labels[batch.attention_mask == 0] = -100
    assert (labels[:, -1] != -100).any()
    expected = model(**batch.inputs, labels=labels).loss
    expected_gradients = gradients(model, expected)
    shorter = batch.inputs | {"input_ids": batch.input_ids[:, :-1], "attention_mask": batch.attention_mask[:, :-1]}
    found = model(**shorter, labels=labels).loss
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    for name, tensor in gradients(model, found).items():
        torch.testing.assert_close(tensor, expected_gradients[name], atol=2e-6, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
