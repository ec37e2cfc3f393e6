"""One token per row at a time: the equations of `lorra` and `decoder` with the weights of learners and layers stacked.

A pass of one token is little arithmetic in many calls, so its cost is the number of calls. Learner keys and values do not depend on hidden
states, so one product gives those of all layers; the two learners read the same h1, so their products are batched
(docs/spec/wings.md#c4-learner-keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from iit_bench.models.wings.attention import single_query_attention
from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.lorra import rotate
from iit_bench.models.wings.state import Rotary, StackedLayer, StackedWeights, Step


def use_stacked(step: Step, cache: WingsCache | None, layers: Sequence[Any], embeddings: torch.Tensor, *, num_heads: int) -> None:
    """Prepare `step` for `add_learners` if it is a cached pass of one text token per row without gradients; appends its textual keys.

    Args:
        step: changed in place.
        cache: of the passes before; keeps the stacked weights.
        layers: all decoder layers.
        embeddings: [B, N, D], input embeddings of this pass.
        num_heads: H of a learner.
    """
    names = tuple(step.learners)
    if cache is None or not names or embeddings.shape[1] != 1 or torch.is_grad_enabled():
        return
    if names not in cache.stacked:
        cache.stacked[names] = stack_weights(layers, names)
    stacked = cache.stacked[names]
    if stacked is None:
        return
    if "textual" in names:
        assert step.query_rotary is not None
        append_text_keys(stacked, cache, embeddings, step.query_rotary, num_heads=num_heads)
        step.learners["textual"].key_embeddings = None
    step.stacked = stacked


def stack_weights(layers: Sequence[Any], names: Sequence[str]) -> StackedWeights | None:
    """Stacked weights of the learners `names`; None if they are not all on one device (offloaded, or on several GPUs)."""
    carrying = {layer.index: [layer.learner(name) for name in names] for layer in layers if layer.learner(names[0]) is not None}
    weights = [weight for learners in carrying.values() for learner in learners for weight in learner.parameters()]
    if len({weight.device for weight in weights}) != 1 or weights[0].is_meta:
        return None
    stacked = {index: _stack_layer(learners) for index, learners in carrying.items()}
    if "textual" not in names:
        return StackedWeights(names=tuple(names), layers=stacked)
    textual: list[Any] = [learners[list(names).index("textual")] for learners in carrying.values()]
    projections = [projection for learner in textual for projection in (learner.k_proj, learner.v_proj)]
    return StackedWeights(
        names=tuple(names),
        layers=stacked,
        text_down=torch.cat([projection[0].weight for projection in projections]),
        text_up=torch.stack([projection[1].weight.t() for projection in projections]),
    )


def _stack_layer(learners: Sequence[Any]) -> StackedLayer:
    return StackedLayer(
        query_down=torch.cat([learner.q_proj[0].weight for learner in learners]),
        query_up=torch.stack([learner.q_proj[1].weight.t() for learner in learners]),
        output_down=torch.stack([learner.o_proj[0].weight.t() for learner in learners]),
        output_up=torch.cat([learner.o_proj[1].weight for learner in learners], dim=1),
    )


def append_text_keys(stacked: StackedWeights, cache: WingsCache, embeddings: torch.Tensor, rotary: Rotary, *, num_heads: int) -> None:
    """Append one text token per row, [B, 1, D], to the textual learner's keys and values of all layers."""
    assert stacked.text_down is not None
    assert stacked.text_up is not None
    x = embeddings[:, 0]
    low = functional.linear(x, stacked.text_down).unflatten(1, (stacked.text_up.shape[0], -1)).transpose(0, 1)  # [2 L, B, r]
    whole = torch.baddbmm(x.expand(low.shape[0], -1, -1), low, stacked.text_up)  # x + B A x, [2 L, B, D]
    keys, values = whole.unflatten(2, (num_heads, 1, -1)).unflatten(0, (-1, 2)).unbind(1)  # [L, B, H, 1, d] each
    keys = rotate(keys, rotary)
    bank = cache.bank("textual")
    for place, index in enumerate(stacked.layers):
        bank.extend(index, keys[place], values[place])


def add_learners(
    stacked: StackedWeights, step: Step, hidden_states: torch.Tensor, *, router_weights: torch.Tensor | None, layer_index: int
) -> torch.Tensor:
    """h2 of one token per row (see `WingsDecoderLayer._add_learners`).

    Args:
        stacked: weights of the learners that take part.
        step: what the layers share.
        hidden_states: h1 [B, 1, D].
        router_weights: [B, 1, 2] of the visual and the textual learner, or None if only one takes part or there is no router.
        layer_index: of a layer with learners.

    Returns:
        [B, 1, D].
    """
    layer = stacked.layers[layer_index]
    m, rank, size = layer.query_up.shape
    h = hidden_states[:, 0]
    low = functional.linear(h, layer.query_down).unflatten(1, (m, rank)).transpose(0, 1)  # [m, B, r]
    query = torch.baddbmm(h.expand(m, -1, -1), low, layer.query_up)  # h + B A h, [m, B, D]
    assert step.query_rotary is not None
    cos, sin = (table[:, 0] for table in step.query_rotary)  # [B, 1, d]
    query = rotate(query.unflatten(2, (-1, cos.shape[-1])), (cos, sin)).unsqueeze(3)  # [m, B, H, 1, d]
    outputs = []
    for place, name in enumerate(stacked.names):
        learner = step.learners[name]
        assert learner.bank is not None
        assert not isinstance(learner.attention_mask, tuple), "a single query has one block"
        key, value = learner.bank.layer(layer_index)
        outputs.append(single_query_attention(query[place], key, value, mask=learner.attention_mask, scaling=key.shape[-1] ** -0.5))
    attended = torch.cat(outputs).view(m, -1, size)
    low = attended @ layer.output_down  # [m, B, r]
    for place, name in enumerate(stacked.names):
        sees_key = step.learners[name].sees_key
        if sees_key is not None:
            low[place] *= sees_key[:, 0]
    if router_weights is not None:
        low = low * router_weights.permute(2, 0, 1)
    return hidden_states + functional.linear(low.transpose(0, 1).flatten(1), layer.output_up).unsqueeze(1)
