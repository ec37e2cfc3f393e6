"""One token a row at a time: the equations of `lorra` and `decoder` with the weights of learners and layers stacked.

A step of one token is little arithmetic behind many calls, so calls are what it costs. Learner keys and values do not depend on hidden
states: those of all layers come from one product. The two learners read the same h1: their products are batched
(docs/spec/wings.md#c4-learner-keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from iit_bench.models.wings.attention import attend_one
from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.lorra import rotate
from iit_bench.models.wings.state import Rotary, Stacked, StackedLayer, Step


def stack(layers: Sequence[Any], names: Sequence[str]) -> Stacked | None:
    """Stacked weights of the learners `names`; None where they are not all at hand on one device (offloaded, or on several GPUs)."""
    carrying = {layer.index: [layer.learner(name) for name in names] for layer in layers if layer.learner(names[0]) is not None}
    weights = [weight for learners in carrying.values() for learner in learners for weight in learner.parameters()]
    if len({weight.device for weight in weights}) != 1 or weights[0].is_meta:
        return None
    stacked = {index: _stack_layer(learners) for index, learners in carrying.items()}
    if "textual" not in names:
        return Stacked(names=tuple(names), layers=stacked)
    textual: list[Any] = [learners[list(names).index("textual")] for learners in carrying.values()]
    parts = [part for learner in textual for part in (learner.k_proj, learner.v_proj)]
    text_down, text_up = torch.cat([part[0].weight for part in parts]), torch.stack([part[1].weight.t() for part in parts])
    return Stacked(names=tuple(names), layers=stacked, text_down=text_down, text_up=text_up)


def use_stacked(step: Step, cache: WingsCache | None, layers: Sequence[Any], embeddings: torch.Tensor, heads: int) -> None:
    """Make `step` one for `learn` if it is a cached pass of one text token a row without gradients; appends its textual keys.

    embeddings: [B, 1, D]; heads: of a learner.
    """
    names = tuple(step.learners)
    if cache is None or not names or embeddings.shape[1] != 1 or torch.is_grad_enabled():
        return
    if names not in cache.stacked:
        cache.stacked[names] = stack(layers, names)
    stacked = cache.stacked[names]
    if stacked is None:
        return
    if "textual" in names:
        assert step.rotary is not None
        extend_text(stacked, cache, embeddings, step.rotary, heads)
        step.learners["textual"].new = None
    step.stacked = stacked


def _stack_layer(learners: Sequence[Any]) -> StackedLayer:
    return StackedLayer(
        query_down=torch.cat([learner.q_proj[0].weight for learner in learners]),
        query_up=torch.stack([learner.q_proj[1].weight.t() for learner in learners]),
        output_down=torch.stack([learner.o_proj[0].weight.t() for learner in learners]),
        output_up=torch.cat([learner.o_proj[1].weight for learner in learners], dim=1),
    )


def extend_text(stacked: Stacked, cache: WingsCache, embeddings: torch.Tensor, rotary: Rotary, heads: int) -> None:
    """Append one text token a row, [B, 1, D], to the textual learner's keys and values of all layers."""
    assert stacked.text_down is not None
    assert stacked.text_up is not None
    x = embeddings[:, 0]
    low = functional.linear(x, stacked.text_down).unflatten(1, (stacked.text_up.shape[0], -1)).transpose(0, 1)  # [2 L, B, r]
    whole = torch.baddbmm(x.expand(low.shape[0], -1, -1), low, stacked.text_up)  # x + B A x, [2 L, B, D]
    keys, values = whole.unflatten(2, (heads, 1, -1)).unflatten(0, (-1, 2)).unbind(1)  # [L, B, H, 1, d] each
    keys = rotate(keys, rotary)
    bank = cache.bank("textual")
    for place, index in enumerate(stacked.layers):
        bank.extend(index, keys[place], values[place])


def learn(stacked: Stacked, index: int, hidden: torch.Tensor, weights: torch.Tensor | None, step: Step) -> torch.Tensor:
    """h2 of one token a row (see `WingsDecoderLayer._learn`).

    hidden: h1 [B, 1, D]; weights: [B, 1, 2] of the visual and the textual learner, or None where only one takes part.
    """
    layer = stacked.layers[index]
    n, rank, size = layer.query_up.shape
    h = hidden[:, 0]
    low = functional.linear(h, layer.query_down).unflatten(1, (n, rank)).transpose(0, 1)  # [n, B, r]
    query = torch.baddbmm(h.expand(n, -1, -1), low, layer.query_up)  # h + B A h, [n, B, D]
    assert step.rotary is not None
    cos, sin = (table[:, 0] for table in step.rotary)  # [B, 1, d]
    query = rotate(query.unflatten(2, (-1, cos.shape[-1])), (cos, sin)).unsqueeze(3)  # [n, B, H, 1, d]
    found = []
    for place, name in enumerate(stacked.names):
        learner = step.learners[name]
        assert learner.bank is not None
        key, value = learner.bank.layer(index)
        found.append(attend_one(query[place], key, value, learner.mask, key.shape[-1] ** -0.5))
    attended = torch.cat(found).view(n, -1, size)
    low = attended @ layer.output_down  # [n, B, r]
    for place, name in enumerate(stacked.names):
        seen = step.learners[name].seen
        if seen is not None:
            low[place] *= seen[:, 0]
    if weights is not None:
        low = low * weights.permute(2, 0, 1)
    return hidden + functional.linear(low.transpose(0, 1).flatten(1), layer.output_up).unsqueeze(1)
