"""Reads a prompt's last row of the main attention and the router's weights of one pass of Wings (docs/spec/iit.md#attention-shift)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from iit_bench.models.attention_curves import curves_of
from iit_bench.models.huggingface.attention_probe import observed
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.prefix import after_prefix
from iit_bench.models.wings.state import Mask
from iit_bench.types import AttentionCurves


def observe(model: WingsForConditionalGeneration, input_ids: torch.Tensor, image_features: torch.Tensor | None) -> AttentionCurves:
    """The curves of one prompt.

    Args:
        model: in either mode.
        input_ids: [1, N] int64, images as the mode has them: T placeholders each, or one slot.
        image_features: [n, T, D_v] of the prompt's images, or None.
    """
    is_image = image_places(model, input_ids[0])
    attentions: list[Any] = [layer.self_attn for layer in model.model.layers]
    configs = [attention.config for attention in attentions]
    with torch.inference_mode(), observed(configs, len(is_image), _mask_row, _behind) as seen, watched_router(model) as router:
        model(input_ids, image_features=image_features, use_cache=False, logits_to_keep=1)
    return curves_of(seen.rows, is_image, {layer: weights[0, :, 0].cpu() for layer, weights in router.items()})


def image_places(model: WingsForConditionalGeneration, input_ids: torch.Tensor) -> torch.Tensor:
    """Which tokens of the decoder's row are an image's, [N] bool; in mode `released` the row is longer than `input_ids` ([n])."""
    places = input_ids == model.config.image_token_id
    if model.config.mode != "released":
        return places
    length = torch.where(places, model.config.image_token_length or 1, 1)
    return places.repeat_interleave(length)


@contextmanager
def watched_router(model: WingsForConditionalGeneration) -> Iterator[dict[int, torch.Tensor]]:
    """Within it, a pass leaves by layer ρ [B, N, 2] float32 (0 = visual, 1 = textual), NaN where a token does not see both learners."""
    found: dict[int, torch.Tensor] = {}
    sees_both: dict[int, torch.Tensor | None] = {}
    with ExitStack() as hooks:
        for layer in model.model.layers:
            if layer.reweight_module is None:
                continue

            def enter(module: Any, arguments: tuple[Any, ...]) -> None:
                sees_both[module.index] = arguments[1].sees_both  # of the step, which all layers share

            def leave(module: Any, arguments: Any, weights: torch.Tensor, index: int = layer.index) -> None:
                seen = sees_both[index]
                found[index] = weights if seen is None else weights.masked_fill(~seen, float("nan"))

            hooks.callback(layer.register_forward_pre_hook(enter).remove)
            hooks.callback(layer.reweight_module.register_forward_hook(leave).remove)
        yield found


def _behind(key: torch.Tensor, value: torch.Tensor, more: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values with those of a learned prefix before them."""
    prefix = more.get("prefix")
    return (key, value) if prefix is None else after_prefix(prefix, key, value)


def _mask_row(mask: Mask) -> torch.Tensor:
    """The last query's row [K] of an additive mask."""
    if not isinstance(mask, tuple):
        return mask[0, 0, -1]
    last = mask[-1]
    keys = int(max(int(block.keys.max()) for block in mask)) + 1
    row = torch.full((keys,), float("-inf"), device=last.mask.device)
    row[last.keys] = last.mask[0, 0, -1].float()
    return row
