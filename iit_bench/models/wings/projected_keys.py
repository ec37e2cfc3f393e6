"""Keys and values of the learners of all layers at once, for passes that are trained on.

They are functions of embeddings and image vectors, not of hidden states (docs/spec/wings.md#c4-learner-keys). A rank of 16 makes small
products: one for all layers costs a third of one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from iit_bench.models.wings.lorra import rotate
from iit_bench.models.wings.state import LearnerStep, Step


def project_keys(step: Step, layers: Sequence[Any]) -> None:
    """Put keys and values into `step` if this pass keeps them in any case: with gradients, without a cache, no layer recomputed.

    Weights that are somewhere else until a layer needs them (offloaded, or shared among processes by FSDP2) stay with their layers.
    """
    if step.cache is not None or step.eager or not torch.is_grad_enabled():
        return
    if any(getattr(layer, "gradient_checkpointing", False) for layer in layers):
        return
    for name, learner_step in step.learners.items():
        learners = {layer.index: learner for layer in layers if (learner := layer.learner(name)) is not None}
        if learner_step.key_embeddings is not None and _are_here(learners.values(), learner_step.key_embeddings):
            _project(learner_step, learners)


def _are_here(learners: Any, x: torch.Tensor) -> bool:
    """Whether all weights are whole, and of the device and dtype of the embeddings."""
    weights = [weight for learner in learners for weight in learner.parameters()]
    placed = {(weight.device, weight.dtype) for weight in weights} == {(x.device, x.dtype)}
    return placed and not any(hasattr(weight, "placements") for weight in weights) and not torch.is_autocast_enabled(x.device.type)


def _project(step: LearnerStep, learners: dict[int, Any]) -> None:
    """x + B A x of every layer, [L, B, K, D]; keys are rotated."""
    assert step.key_embeddings is not None and step.key_rotary is not None
    x = step.key_embeddings.flatten(0, 1)  # [B K, D]
    shape = (*step.key_embeddings.shape[:2], next(iter(learners.values())).num_heads, -1)
    downs = [learner.k_proj[0].weight for learner in learners.values()] + [learner.v_proj[0].weight for learner in learners.values()]
    low = functional.linear(x, torch.cat(downs)).unflatten(1, (2, len(learners), -1)).permute(1, 2, 0, 3)  # [2, L, B K, r]

    def whole(low: torch.Tensor, ups: list[torch.Tensor]) -> torch.Tensor:
        added = torch.baddbmm(x.expand(len(ups), -1, -1), low, torch.stack(ups).transpose(1, 2))
        return added.unflatten(1, shape[:2]).unflatten(3, shape[2:])  # [L, B, K, H, d]

    keys = rotate(whole(low[0], [learner.k_proj[1].weight for learner in learners.values()]), step.key_rotary)
    values = whole(low[1], [learner.v_proj[1].weight for learner in learners.values()])
    for index, key, value in zip(learners, keys.transpose(2, 3), values.transpose(2, 3), strict=True):
        step.projected[index] = (key, value)
