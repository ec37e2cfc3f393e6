"""A layer computed as few nodes has the output and the gradients of transformers' own; what cannot be computed so is left as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from transformers.models.llama import modeling_llama

from iit_bench.models.wings import fused_layer, step
from iit_bench.models.wings.lorra import rotary_table, rotate
from tests.models.wings.test_training_passes import CASES, batch_of, gradients


def refused(*_: Any) -> None:
    raise AssertionError("this layer was to be fused")


@pytest.mark.oracle
def test_loss_and_gradients_are_those_of_transformers(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model without learners, on text: its last layer too, of which only what is labelled is read."""
    model = kit.build("llama", learners=[], router=False)
    own = modeling_llama.LlamaForCausalLM(model.config.text_config)
    own.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in own.state_dict()})
    ids = torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :4] = labels[0, 5] = -100
    expected = own(ids, labels=labels).loss
    expected.backward()
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", refused)
    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", refused)
    found = model(ids, labels=labels).loss
    found.backward()
    torch.testing.assert_close(found, expected)
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("side", ["right", "inside"])
@pytest.mark.parametrize("fields", CASES[:-1], ids=str)
def test_loss_and_gradients_are_those_of_layers_as_they_are(
    fields: dict[str, Any], side: str, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kit.build("smollm", **fields)
    batch, labels = batch_of(kit, model, side)
    with monkeypatch.context() as fused:
        fused.setattr(modeling_llama.LlamaMLP, "forward", refused)
        found = model(**batch.inputs, labels=labels).loss
        found_gradients = gradients(model, found)
    monkeypatch.setattr(fused_layer, "fits", lambda *_: False)
    monkeypatch.setattr(fused_layer, "learner_query", lambda *_: None)
    expected = model(**batch.inputs, labels=labels).loss
    torch.testing.assert_close(found, expected)
    expected_gradients = gradients(model, expected)
    assert set(found_gradients) == set(expected_gradients)
    for name, tensor in expected_gradients.items():
        torch.testing.assert_close(found_gradients[name], tensor, atol=2e-6, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("layouts", [("ttIttttIttt", "tItttt", "ttttt"), ("tIttt", "tIttttt")], ids=str)
def test_queries_before_all_images_may_be_computed_and_set_to_zero(
    layouts: tuple[str, ...], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = kit.build("smollm")
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(layouts)])
    labels = batch.input_ids.masked_fill((batch.attention_mask == 0) | (batch.input_ids == 47), -100)
    found = []
    for most in (1, 1000):
        monkeypatch.setattr(step, "MORE", most)
        loss = model(**batch.inputs, labels=labels).loss
        found.append({"loss": loss.detach(), **gradients(model, loss)})
    assert set(found[0]) == set(found[1])
    for name, tensor in found[1].items():
        torch.testing.assert_close(found[0][name], tensor, atol=2e-6, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.oracle
@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_gradients_are_finite_differences(read: bool, routed: bool, kit: Any) -> None:
    model = kit.build("llama", text_config=kit.text_config("llama", hidden_size=8)).double()
    layer = model.model.layers[0]
    torch.manual_seed(0)
    states = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    angle = torch.rand(2, 3, 1, dtype=torch.float64).expand(-1, -1, 2)
    columns = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True) if routed else None
    chosen = torch.tensor([[2, 0], [4, 5]]) if read else None
    weights = [parameter for name, parameter in layer.named_parameters() if "_proj.weight" in name or "layernorm" in name]

    def both(states: torch.Tensor, columns: torch.Tensor | None, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rotary, width = (angle.cos(), angle.sin()), 6 if routed else 0
        more = {"read": chosen, "router_columns": columns, "extra_width": width}
        return *fused_layer.queries_keys_values(layer, states, rotary, **more), fused_layer.feed_forward(layer, states)

    assert torch.autograd.gradcheck(both, (states, columns, *weights), fast_mode=True)


def with_adapter(layer: Any) -> None:
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["up_proj"]), layer)


UNFIT: dict[str, Callable[[Any], Any]] = {
    "an adapter": with_adapter,
    "a hook": lambda layer: layer.mlp.gate_proj.register_forward_hook(lambda *_: None),
    "dropout": lambda layer: setattr(layer.train().self_attn, "attention_dropout", 0.1),
    "recomputed": lambda layer: setattr(layer, "gradient_checkpointing", True),
    "another dtype": lambda layer: layer.mlp.down_proj.half(),
    "offloaded": lambda layer: layer.self_attn.o_proj.to("meta"),
    "another forward": lambda layer: setattr(layer.mlp, "forward", layer.mlp.forward),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_is_not_a_plain_llama_is_left_as_it_is(what: str, kit: Any) -> None:
    layer, states = kit.build("llama").model.layers[0], torch.zeros(1, 2, 32)
    assert fused_layer.fits(layer, states)
    with torch.no_grad():
        assert not fused_layer.fits(layer, states)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused_layer.fits(layer, states)
    UNFIT[what](layer)
    assert not fused_layer.fits(layer, states)


@pytest.mark.parametrize("kind", ["smollm3", "qwen2", "qwen3", "mistral"])
def test_decoders_of_other_families_are_left_as_they_are(kind: str, kit: Any) -> None:
    assert not any(fused_layer.fits(layer, torch.zeros(1, 2, 32)) for layer in kit.build(kind).model.layers)


@pytest.mark.oracle
def test_gradients_of_a_learners_query_are_finite_differences(kit: Any) -> None:
    learner = kit.build("llama", text_config=kit.text_config("llama", hidden_size=8)).double().model.layers[0].attn_pool
    torch.manual_seed(0)
    states = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    rotary = rotary_table(torch.tensor([[0, 1, 2], [4, 5, 7]]), 2, 500.0, torch.float64)

    def query(states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return fused_layer.learner_query(learner.q_proj, states, rotary)

    expected = rotate((states + learner.q_proj[0](states) @ learner.q_proj[1].weight.t()).unflatten(-1, (4, 2)), rotary)
    torch.testing.assert_close(query(states), expected)
    assert torch.autograd.gradcheck(query, (states, *learner.q_proj.parameters()), fast_mode=True)
    learner.q_proj[0].register_forward_hook(lambda *_: None)
    assert query(states) is None
