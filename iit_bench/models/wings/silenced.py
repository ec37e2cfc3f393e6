"""Silences a learner of a trained model at chosen tokens, to see what its output does there.

Used by docs/make_silenced.py, for docs/lab.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch

from iit_bench.models.wings.configuration import LEARNERS
from iit_bench.models.wings.modeling import WingsForConditionalGeneration

Place = Literal["text", "image", "everywhere"]


@contextmanager
def silenced(model: WingsForConditionalGeneration, learner: str, place: Place) -> Iterator[None]:
    """Within it, a learner adds nothing at the tokens of a place that see both learners: text behind an image, or image tokens.

    The other learner keeps its weight, and tokens that see one learner only keep that one, so text before an image is as ever. Several
    may be nested. Parameters are not changed.

    Args:
        model: in mode `strict`, with a router.
        learner: "visual" or "textual".
        place: which tokens.

    Raises:
        ValueError: an unknown learner or place, or a model without a router or in mode `released`, where rows change their length.
    """
    if learner not in LEARNERS or place not in get_args(Place):
        raise ValueError(f"no learner {learner!r} at {place!r}: use {' or '.join(LEARNERS)}, at {', '.join(get_args(Place))}")
    if not model.config.has_router or model.config.mode != "strict":
        raise ValueError("only a model with a router and in mode 'strict' has learners that can be silenced at some tokens")
    silent, column = torch.empty(0), LEARNERS.index(learner)

    def enter(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        nonlocal silent
        is_image = (arguments[0] if arguments else keywords["input_ids"]) == model.config.image_token_id  # [B, N]
        silent = {"text": ~is_image, "image": is_image, "everywhere": torch.ones_like(is_image)}[place]

    def leave(module: Any, arguments: Any, weights: torch.Tensor) -> torch.Tensor:
        assert weights.shape[:2] == silent.shape, "a pass that is scored for a loss reads some tokens only"
        kept = torch.ones_like(weights)
        kept[..., column] = (~silent).to(weights.dtype)
        return weights * kept

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(enter, with_kwargs=True).remove)
        for layer in model.model.layers:
            if layer.reweight_module is not None:
                hooks.callback(layer.reweight_module.register_forward_hook(leave).remove)
        yield
