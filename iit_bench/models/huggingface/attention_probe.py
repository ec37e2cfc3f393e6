"""Reads the attention weights of a prompt's last token out of a model's own pass, layer by layer (docs/spec/iit.md#attention-shift).

transformers calls attention functions by name. For the time of one pass the decoder's name is another one, whose function calls the
model's own and then computes the last query's weights from the same queries and keys: one row per head, so that no matrix is ever held.
Each row is checked against the output of the model's own function. A decoder that never calls such a function is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from iit_bench.errors import UserError
from iit_bench.models.attention_curves import curves_of
from iit_bench.types import AttentionCurves

PREFIX = "iit_bench_observed_"  # before the name of the attention that is observed
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of an output made from the weights, relative to the largest value
TOLERANCE_OF_HALF = 3e-2
Behind = Callable[[torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, torch.Tensor]]
INSTEAD = "its attention weights cannot be observed"


def _no_prefix(key: torch.Tensor, value: torch.Tensor, _more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return key, value


@dataclass
class LastRows:
    """The weights of the last query, heads averaged.

    Attributes:
        length: N, tokens of the prompt.
        mask_row: of an attention mask that is not None, the row of the last query, [K] or [1 or H, K].
        behind: keys and values with those of a learned prefix before them, from those of the tokens and the function's further arguments.
        rows: layer → [N] float32, on the CPU.
    """

    length: int
    mask_row: Callable[[Any], torch.Tensor]
    behind: Behind
    rows: dict[int, torch.Tensor] = field(default_factory=dict)

    def add(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, output: torch.Tensor, more: Any
    ) -> None:
        """Take the last query's weights of one layer; those of a learned prefix are left out, as those of sinks are.

        Args:
            module: the layer's attention.
            query: [1, H, N, d].
            key: [1, H_kv, N, d].
            value: [1, H_kv, N, e].
            mask: as the model gave it.
            output: [1, N, H, e], which the model's own function made of these.
            more: further arguments of that function.

        Raises:
            UserError: the layer attends to something else than the prompt's tokens, or not by a softmax of these scores.
        """
        layer, name = module.layer_idx, type(module).__name__
        if query.shape[2] != self.length or key.shape[2] != self.length or layer in self.rows:
            raise UserError(f"layer {layer} of the model ({name}) attends to other keys than the prompt's tokens, so {INSTEAD}")
        key, value = self.behind(key, value, more)
        mask_row = None if mask is None else self.mask_row(mask)
        weights = last_row(query, key, mask_row, sinks=getattr(module, "sinks", None), **_used(more))
        groups = value.shape[1]
        mine = (weights.view(groups, -1, key.shape[2]) @ value[0].float()).view(weights.shape[0], -1)
        largest = float(value.abs().max())
        gap = float((mine - output[0, -1].float()).abs().max())
        if not gap <= TOLERANCE.get(value.dtype, TOLERANCE_OF_HALF) * max(largest, 1e-6):
            raise UserError(f"layer {layer} of the model ({name}) computes attention in a way of its own, so {INSTEAD}")
        self.rows[layer] = weights[:, -self.length :].mean(dim=0).cpu()


def last_row(
    query: torch.Tensor,
    key: torch.Tensor,
    mask_row: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention weights of the last query, [H, K] float32.

    Args:
        query: [1, H, N, d].
        key: [1, H_kv, K, d]; query heads share them in order.
        mask_row: [K] or [1 or H, K], bool (True = visible) or additive; None = every key is visible.
        scaling: factor of the scores; None = d^-0.5.
        softcap: scores are bounded by it; None = they are not.
        sliding_window: keys this many or more before the query are hidden; None = none.
        sinks: [H] scores of one further key per head without a value; None = none.
    """
    heads, size, keys = query.shape[1], query.shape[3], key.shape[2]
    grouped = query[0, :, -1].float().view(key.shape[1], -1, size)
    scores = (grouped @ key[0].float().transpose(1, 2)).view(heads, keys) * (size**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask_row is not None and mask_row.dtype == torch.bool:
        scores = scores.masked_fill(~mask_row, float("-inf"))
    elif mask_row is not None:
        scores = scores + mask_row.float()
    if sliding_window is not None and sliding_window < keys:
        scores[:, : keys - sliding_window] = float("-inf")
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    return torch.softmax(torch.cat((scores, sinks.float().view(heads, 1)), dim=-1), dim=-1)[:, :-1]


def _used(more: dict[str, Any]) -> dict[str, Any]:
    return {name: more[name] for name in ("scaling", "softcap", "sliding_window") if name in more}


def _tensor_row(mask: Any) -> torch.Tensor:
    """The last query's row [1 or H, K] of a mask [1, 1 or H, N, K].

    Raises:
        UserError: the mask has another form, as those of flex attention.
    """
    if not isinstance(mask, torch.Tensor) or mask.dim() != 4:
        raise UserError(f"the attention's mask is a {type(mask).__name__} without rows, so {INSTEAD}; try --attn-implementation sdpa")
    return mask[0, :, -1]


_ROWS: ContextVar[LastRows | None] = ContextVar("iit_bench_last_rows", default=None)


@contextmanager
def observed(
    configs: Iterable[Any], length: int, mask_row: Callable[[Any], torch.Tensor] = _tensor_row, behind: Behind = _no_prefix
) -> Iterator[LastRows]:
    """Within it, one pass over a prompt of `length` tokens leaves its last rows in the record that is yielded.

    Args:
        configs: of the decoder's attentions, and that by which its masks are made.
        length: N.
        mask_row: as in `LastRows`.
        behind: likewise.
    """
    own = {id(config): (config, config._attn_implementation) for config in configs}
    rows = LastRows(length, mask_row, behind)
    token = _ROWS.set(rows)
    try:
        for config, own_name in own.values():
            name = own_name or "eager"  # what attentions fall back to
            AttentionInterface.register(PREFIX + name, partial(_observe, name))
            masks: Any = AttentionMaskInterface._global_mapping
            if name in masks:  # under a name that has no mask function, a model would get no mask at all
                AttentionMaskInterface.register(PREFIX + name, masks[name])
            config._attn_implementation_internal = PREFIX + name  # not by the property, which would change the tower's too
        yield rows
    finally:
        _ROWS.reset(token)
        for config, name in own.values():
            config._attn_implementation_internal = name


def _observe(name: str, module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **more: Any) -> Any:
    """An attention function: the model's own, then its last row is taken."""
    made = _function(name, module)(module, query, key, value, attention_mask, **more)
    rows = _ROWS.get()
    if rows is not None:
        rows.add(module, query, key, value, attention_mask, made[0], more)
    return made


def _function(name: str, module: Any) -> Any:
    """The attention function that a module calls under this name; the eager one is in the module's own file."""
    file = sys.modules[type(module).__module__]
    known = getattr(file, "ALL_ATTENTION_FUNCTIONS", None)
    found = known.get(name) if known is not None else None
    found = found or AttentionInterface._global_mapping.get(name) or getattr(file, "eager_attention_forward", None)
    if found is None:
        raise UserError(f"the model's attention ({type(module).__name__}, {name}) is not found in its own file, so {INSTEAD}")
    return found


def observe(model: Any, inputs: dict[str, Any]) -> AttentionCurves:
    """The curves of one prompt.

    Args:
        model: of transformers, with images behind places in its input ids.
        inputs: of its forward, for one prompt: input_ids [1, N] and what belongs to them.

    Raises:
        UserError: its attention cannot be observed; the sentence gives the reason.
    """
    ids = inputs["input_ids"][0]
    decoder = model.get_decoder()
    few = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
    with torch.inference_mode(), observed(attention_configs(decoder), len(ids)) as seen:
        model(**inputs, use_cache=False, **few)
    if not seen.rows:
        raise UserError(
            f"the decoder of the model ({type(decoder).__name__}) never called transformers' attention interface in a pass (0 calls), "
            f"so {INSTEAD}"
        )
    return curves_of(seen.rows, ids == image_column(model.config))


def attention_configs(decoder: Any) -> list[Any]:
    """The configurations that the attentions of a decoder's layers read, and its own, by which it makes masks; not those of a tower."""
    layers = (module for module in decoder.modules() if hasattr(module, "layer_idx") and hasattr(module, "config"))
    return [decoder.config, *(module.config for module in layers)]


def image_column(config: Any) -> int:
    """Id of the token that is the place of an image's feature.

    Raises:
        UserError: the configuration names none.
    """
    for part in (config, getattr(config, "vision_config", None)):
        for name in ("image_token_id", "image_token_index"):
            if (found := getattr(part, name, None)) is not None:
                return int(found)
    raise UserError(f"the configuration of model type {config.model_type!r} names no token for an image, so {INSTEAD}")
