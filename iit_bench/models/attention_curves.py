"""From one observed pass to curves: how much the last prompt token attends to text and to images, layer by layer
(docs/spec/iit.md#attention-shift).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from iit_bench.types import KINDS, AttentionCurves, Kind


def kinds_of(is_image: torch.Tensor) -> dict[Kind, torch.Tensor]:
    """Which tokens are of each kind, [N] bool each; of a prompt without an image ([N] all False) every token is `before`."""
    places = is_image.nonzero()[:, 0]
    column = torch.arange(len(is_image), device=is_image.device)
    first, last = (int(places[0]), int(places[-1])) if len(places) else (len(is_image), len(is_image))
    text = ~is_image
    return {"before": column < first, "image": is_image, "between": text & (column > first) & (column < last), "after": column > last}


def curves_of(
    rows: Mapping[int, torch.Tensor], is_image: torch.Tensor, router: Mapping[int, torch.Tensor] | None = None
) -> AttentionCurves:
    """The curves of one pass.

    Args:
        rows: layer → weights of the last prompt token, heads averaged, [N] float32.
        is_image: [N] bool, True at places of an image's features.
        router: layer → weight of the visual learner per token, [N] float32, NaN where a token does not see both learners.
    """
    kinds = kinds_of(is_image.cpu())
    tokens = {kind: int(chosen.sum()) for kind, chosen in kinds.items()}
    layers = tuple(sorted(rows))
    attention = {kind: tuple(float(rows[layer][kinds[kind]].double().mean()) for layer in layers) for kind in KINDS if tokens[kind]}
    weights, routed = router or {}, tuple(sorted(router or {}))
    used = {kind: chosen & ~weights[routed[0]].isnan() for kind, chosen in kinds.items()} if routed else {}
    means = {
        kind: tuple(float(weights[layer][used[kind]].double().mean()) for layer in routed) for kind in KINDS if used and used[kind].any()
    }
    return AttentionCurves(layers=layers, tokens=tokens, attention=attention, router_layers=routed, router=means)
