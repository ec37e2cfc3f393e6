"""What holds on any device, seen on a CPU: decoding waits for no number, records move whole, torch.compile computes the same."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.layout import read_layout
from iit_bench.models.wings.state import Step
from iit_bench.models.wings.step import build_step

# Operations whose result the host must know before its next step: a device would be waited for.
WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "item",
    "equal",
    "masked_select",
    "unique",
    "bincount",
    "repeat_interleave.Tensor",
)


class Waits(TorchDispatchMode):
    """Records the operations that would wait for a device, and tensors made from numbers of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        mask_as_index = name.startswith("index.") and any(index is not None and index.dtype == torch.bool for index in args[1])
        if mask_as_index or any(name == waiting or name.startswith(f"{waiting}.") for waiting in WAITING):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_probe_sees_what_waits() -> None:
    x = torch.arange(4)
    with Waits() as waits:
        int(x[1]), bool((x > 2).any()), x[x > 2], x.nonzero(), torch.equal(x, x)
    assert len(waits.found) >= 5


@pytest.mark.parametrize("text", ["llama", "qwen3", "qwen2-window", "smollm3"])
@pytest.mark.parametrize("how", [{"num_beams": 1}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_no_pass_of_decoding_waits_for_the_device(text: str, how: dict[str, Any], kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kit.build(text)
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(("ttItt", "t", "II"))], "left")
    seen: list[list[str]] = []
    forward = type(model).forward

    @functools.wraps(forward)
    def watched(self: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        with Waits() as waits:
            output = forward(self, input_ids, **kwargs)
        seen.append(waits.found)
        return output

    monkeypatch.setattr(type(model), "forward", watched)
    model.generate(**batch.inputs, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0, **how)
    assert len(seen) == 5
    assert seen[0], "the prompt's layout is read by the host, so the probe must have seen something"
    assert seen[1:] == [[]] * 4


class Largest(TorchDispatchMode):
    """Records how many numbers the largest result of an operation has."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(result, torch.Tensor) and not str(func).startswith(("aten.view", "aten.expand")):
                self.found = max(self.found, result.numel())
        return results


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("gradient", [False, True], ids=["no gradient", "gradient"])
@pytest.mark.parametrize("mode, attention, builds", [("strict", "sdpa", False), ("released", "sdpa", False), ("released", "eager", True)])
def test_no_attention_matrix_is_built(mode: str, attention: str, builds: bool, gradient: bool, rows: int, kit: Any) -> None:
    """Masks have one number a pair of tokens; a matrix has one a pair and head."""
    model = kit.build(mode=mode, router_width=256)
    model.set_attn_implementation(attention)
    image = 1 if mode == "released" else model.config.image_token_length  # placeholders of an image
    text = torch.arange(116) % 40
    ids = torch.cat((text[:20], torch.full((image,), model.config.image_token_id), text[20:]))[None]
    n, heads = 120, model.config.text_config.num_attention_heads
    ids, features = ids.repeat(rows, 1), torch.randn(rows, model.config.image_token_length, 12)
    with Largest() as largest, torch.set_grad_enabled(gradient):
        assert model(ids, image_features=features).logits.shape[1] == n
    assert (largest.found >= rows * heads * n * n) == builds


@pytest.mark.parametrize("device", ["meta", torch.device("meta")], ids=["by name", "as a device"])
def test_a_step_moves_whole_and_once(device: Any, kit: Any) -> None:
    model = kit.build("qwen2-window")
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(("ttItt", "ItItttt"))], "left")
    features = model._project_images(None, batch.image_features)
    layout = read_layout(
        batch.input_ids,
        batch.attention_mask.bool(),
        image_token_id=model.config.image_token_id,
        image_token_length=4,
        n_images=3,
        past=None,
    )
    embeddings = model.model.embed_tokens(batch.input_ids)
    step = build_step(
        model.config,
        model.model.rotary_emb,
        windows=model._windows(),
        embeddings=embeddings,
        layout=layout,
        features=features,
        cache=WingsCache(),
    )
    there = step.to(device)
    assert step.to(device) is there
    assert step.to("cpu") is step
    tensors = list(_tensors(there))
    assert len(tensors) == len(list(_tensors(step))) > 10
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def _tensors(value: Any) -> Any:
    """All tensors of a record but its cache's, whose layers lie where the decoder's do."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif hasattr(value, "__dataclass_fields__"):
        hidden = ("cache", "bank", "_elsewhere") if isinstance(value, Step) else ("bank",)
        for name in value.__dataclass_fields__:
            if name not in hidden:
                yield from _tensors(getattr(value, name))


@pytest.mark.slow
def test_compiled_decoding_computes_the_same(kit: Any) -> None:
    """Backend "eager" runs what torch.compile traced as it is: graphs, guards and breaks are checked, not a code generator."""
    model = kit.build(text_config=kit.text_config("llama", num_hidden_layers=1))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", dynamic=True)
    batch = kit.collate([kit.make_row(model, "ttItttt", 0)])
    with torch.no_grad():
        expected = model(**batch.inputs).logits
        cache = WingsCache()
        parts = [model(batch.input_ids[:, :8], image_features=batch.image_features, past_key_values=cache).logits]
        parts += [compiled(batch.input_ids[:, column : column + 1], past_key_values=cache).logits for column in (8, 9)]
        torch.testing.assert_close(torch.cat(parts, dim=1), expected)
