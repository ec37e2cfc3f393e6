"""What is read of a pass of Wings: router weights are the authors', and attention is that of the decoder's own matrices."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from transformers.models.llama.modeling_llama import eager_attention_forward

from iit_bench.models.wings.attention_probe import image_places, observe, watched_router
from iit_bench.types import KINDS

IMAGE = 47  # the placeholder of `kit`'s models
KEPT = Path(__file__).parents[2] / "data" / "wings_golden"
ROUTED = [folder.name for folder in sorted(KEPT.iterdir()) if (folder / "intermediates.safetensors").is_file()]


@pytest.fixture(scope="module")
def golden():
    spec = importlib.util.spec_from_file_location("wings_golden_probe", Path(__file__).with_name("golden.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.oracle
@pytest.mark.parametrize("name", ROUTED)
def test_router_weights_equal_the_golden_intermediates(golden, name):
    folder = golden.Folder(KEPT / name)
    expected = {part: tensor for part, tensor in folder.read("intermediates").items() if part.endswith("router_weights")}
    model, inputs = golden.golden_model(folder), folder.read("inputs")
    if "image_features" in inputs:
        golden._give_features(folder, model, inputs["image_features"])
    with torch.no_grad(), watched_router(model) as found:
        model(**golden._call(folder, inputs))
    assert sorted(found) == sorted(int(part.partition(".")[0].removeprefix("layer")) for part in expected)
    for part, tensor in expected.items():
        torch.testing.assert_close(found[int(part.partition(".")[0].removeprefix("layer"))], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.oracle
def test_curves_of_a_golden_prompt_are_the_means_of_its_router_weights(golden):
    folder = golden.Folder(KEPT / "wings_qwen2__image_mid")
    model, inputs, expected = golden.golden_model(folder), folder.read("inputs"), folder.read("intermediates")
    assert inputs["input_ids"].shape[0] == 1
    golden._give_features(folder, model, inputs["image_features"])
    curves = observe(model, inputs["input_ids"], inputs["patch_features"])
    slot = inputs["input_ids"][0].tolist().index(model.config.image_token_id)
    length = model.config.image_token_length
    for layer, at in zip(curves.router_layers, range(len(curves.router_layers)), strict=True):
        weights = expected[f"layer{layer}.router_weights"][0, :, 0]
        own = {"before": weights[:slot], "image": weights[slot : slot + length], "after": weights[slot + length :]}
        assert {kind: curves.router[kind][at] for kind in curves.router} == pytest.approx(
            {kind: float(part.mean()) for kind, part in own.items()}, abs=1e-5
        )
    assert curves.tokens == {"before": slot, "image": length, "between": 0, "after": len(weights) - slot - length}


def matrices(model, input_ids, features):
    """Every layer's own attention over what it was given, by transformers' eager function: [H, N, N] each."""
    found, windows = [], {id(layer.self_attn): layer.window for layer in model.model.layers}

    def enter(module, arguments, keywords, output):
        states, (cos, sin) = keywords["hidden_states"], keywords["position_embeddings"]
        n, shape = states.shape[1], (*states.shape[:-1], -1, module.head_dim)
        query, key, value = (getattr(module, f"{part}_proj")(states).view(shape).transpose(1, 2) for part in ("q", "k", "v"))
        query, key = turned(query, cos, sin), turned(key, cos, sin)
        causal = torch.full((n, n), torch.finfo(states.dtype).min).triu(1)
        if (window := windows[id(module)]) is not None:
            causal = causal + torch.full((n, n), torch.finfo(states.dtype).min).tril(-window)
        found.append(eager_attention_forward(module, query, key, value, causal[None, None], scaling=module.scaling)[1][0])

    handles = [layer.self_attn.register_forward_hook(enter, with_kwargs=True) for layer in model.model.layers]
    with torch.no_grad():
        model(input_ids, image_features=features)
    for handle in handles:
        handle.remove()
    return found


def turned(states, cos, sin):
    half = states.shape[-1] // 2
    return states * cos.unsqueeze(1) + torch.cat((-states[..., half:], states[..., :half]), dim=-1) * sin.unsqueeze(1)


@pytest.mark.oracle
@pytest.mark.parametrize("kind, length", [("llama", 40), ("qwen2", 40), ("mistral", 40), ("mistral", 200), ("qwen2-window", 40)])
def test_attention_equals_that_of_whole_matrices(kit, kind, length):
    """Beyond 128 queries a mask with a window is in blocks."""
    model = kit.build(kind, router_width=256)
    image = [IMAGE] * 4
    text = torch.randint(0, IMAGE, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    ids = torch.tensor([[*text[:9], *image, *text[9:14], *image, *text[14:]]])
    features = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(2))
    curves = observe(model, ids, features)
    places = [i for i, token in enumerate(ids[0].tolist()) if token == IMAGE]
    parts = {"before": range(9), "image": places, "between": range(13, 18), "after": range(22, ids.shape[1])}
    assert curves.tokens == {kind: len(own) for kind, own in parts.items()}
    for layer, matrix in zip(curves.layers, matrices(model, ids, features), strict=True):
        row = matrix[:, -1].mean(dim=0)
        for part in KINDS:
            assert curves.attention[part][layer] == pytest.approx(float(row[list(parts[part])].mean()), abs=1e-5)


def test_text_before_the_first_image_uses_no_router(kit):
    model = kit.build()
    ids = torch.tensor([[1, 2, 3, *[IMAGE] * 4, 4, 5]])
    curves = observe(model, ids, torch.randn(1, 4, 12))
    assert sorted(curves.router) == ["after", "image"] and curves.router_layers == (0, 1, 2)
    with watched_router(model) as found, torch.no_grad():
        model(ids, image_features=torch.randn(1, 4, 12))
    assert found[0][0, :, 0].isnan().tolist() == [True] * 3 + [False] * 6


def test_a_model_without_a_router_has_no_router_curves(kit):
    model = kit.build(learners=["visual"], router=False)
    curves = observe(model, torch.tensor([[1, 2, 3, *[IMAGE] * 4, 4, 5]]), torch.randn(1, 4, 12))
    assert curves.router == {} and curves.router_layers == ()


def test_places_of_a_slot_are_those_of_its_vectors(kit):
    model = kit.build(mode="released")
    assert image_places(model, torch.tensor([1, IMAGE, 2])).tolist() == [False, *[True] * 4, False]
