"""Parts of a Llama's decoder layer as one node each of the graph, for passes in float32 that are trained on.

Differentiated operation by operation, the norms, projections, rotation and gate of a layer are some forty small kernels forward and more
backward. Here gradients of several products of one input are added up by the products themselves, rotations and gates are done in place,
and what is cheap to compute again is not kept. The equations are those of transformers' layer, so results differ by rounding only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from iit_bench.models.wings import products
from iit_bench.models.wings.columns import take_columns
from iit_bench.models.wings.state import Rotary

KNOWN = ("LlamaAttention", "LlamaMLP", "LlamaRMSNorm")  # of transformers; others have biases, norms of heads, or layers without rotation


def fits(layer: Any, hidden_states: torch.Tensor) -> bool:
    """Whether a layer can be computed by the functions here: with gradients, each submodule as transformers and torch have it.

    Adapters, hooks, autocast, recomputed layers, a learned prefix, and weights that are shared among processes or offloaded keep the layer
    as it is.
    """
    device = hidden_states.device.type
    if not torch.is_grad_enabled() or hidden_states.dtype != torch.float32:
        return False
    if device != "meta" and torch.is_autocast_enabled(device):  # an outline has no values to be cast
        return False
    if getattr(layer, "prefix", None) is not None or layer.gradient_checkpointing:
        return False
    attention, mlp, norms = layer.self_attn, layer.mlp, (layer.input_layernorm, layer.post_attention_layernorm)
    if any(type(part).__name__ not in KNOWN for part in (attention, mlp, *norms)) or (attention.training and attention.attention_dropout):
        return False
    linear = (*attention.children(), *(part for part in mlp.children() if part is not mlp.act_fn))
    if any(type(part) is not nn.Linear or part.bias is not None for part in linear) or attention.config.hidden_act != "silu":
        return False
    parts = (attention, mlp, *norms, *linear)
    if any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in parts):
        return False
    weights = [part.weight for part in (*norms, *linear)]
    here = {(weight.device, weight.dtype) for weight in weights} == {(hidden_states.device, hidden_states.dtype)}
    return here and not any(hasattr(weight, "placements") for weight in weights)


def queries_keys_values(
    layer: Any,
    hidden_states: torch.Tensor,
    rotary: Rotary,
    *,
    read: torch.Tensor | None,
    router_columns: torch.Tensor | None,
    extra_width: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of a layer's own attention, rotated.

    Args:
        layer: one that `fits`.
        hidden_states: [B, N, D], before the norm.
        rotary: the decoder's table at their positions, [B or 1, N, d] each.
        read: [B, Q] int64, the only columns with a query, as indices into all B · N; None = all have one.
        router_columns: [B, N, 2], put behind the values of every head; None = nothing is.
        extra_width: how much wider than d the results are; 0 without `router_columns`.

    Returns:
        [B, H, Q or N, d + extra_width], [B, H_kv, N, …], [B, H_kv, N, …].
    """
    attention, norm = layer.self_attn, layer.input_layernorm
    weights = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = _Projections.apply(
        hidden_states, norm.weight, *weights, router_columns, norm.variance_epsilon, *rotary, read, extra_width
    )
    return found


def feed_forward(layer: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """h + down(silu(gate n) · up n) with n = norm(h); [..., D] → [..., D]. `layer`: one that `fits`."""
    norm, mlp = layer.post_attention_layernorm, layer.mlp
    weights = (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)
    found: torch.Tensor = _FeedForward.apply(hidden_states, norm.weight, *weights, norm.variance_epsilon)
    return found


def learner_query(low_rank: nn.Sequential, hidden_states: torch.Tensor, rotary: Rotary) -> torch.Tensor | None:
    """h + B A h of a learner, in heads and rotated: [B, N, D] → [B, N, H, d]; None if it cannot be computed here, as in `fits`.

    Args:
        low_rank: A and B.
        hidden_states: [B, N, D].
        rotary: `lorra.rotary_table` at their positions, [B, N, 1, d] each.
    """
    weights = (low_rank[0].weight, low_rank[1].weight)
    plain = all(type(weight) is nn.Parameter and weight.dtype == hidden_states.dtype == rotary[0].dtype for weight in weights)
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in (low_rank, *low_rank))
    if not plain or hooked or not torch.is_grad_enabled() or torch.is_autocast_enabled(hidden_states.device.type):
        return None
    if any(weight.device != hidden_states.device for weight in weights):
        return None
    found: torch.Tensor = _LearnerQuery.apply(hidden_states, *weights, *rotary)  # type: ignore[arg-type]
    return found


def plus_product(onto: torch.Tensor, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """onto + W states: [..., D] and [..., E] → [..., D]."""
    found: torch.Tensor = _PlusProduct.apply(onto, states, weight)  # type: ignore[no-untyped-call]
    return found


# ---------------------------------------------------------------- the nodes


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, hidden, scale, query_weight, key_weight, value_weight, router_columns, epsilon, cos, sin, read, extra_width
    ):
        x, size = hidden.flatten(0, 1), cos.shape[-1]
        normed, inverse = _normed(x, scale, epsilon)
        queried = normed if read is None else normed.index_select(0, read.flatten())
        cos, sin = (table.expand(hidden.shape[0], -1, -1)[:, :, None] for table in (cos, sin))  # [B, N, 1, d]
        own_cos, own_sin = (table if read is None else take_columns(table, read) for table in (cos, sin))
        query = _rotated(products.product(queried, query_weight).view(*own_cos.shape[:2], -1, size), own_cos, own_sin, extra_width)
        key = _rotated(products.product(normed, key_weight).view(*hidden.shape[:2], -1, size), cos, sin, extra_width)
        value = products.product(normed, value_weight).view_as(key[..., :size])
        if extra_width:
            value = functional.pad(value, (0, extra_width))
            value[..., size : size + 2] = router_columns[:, :, None]
        ctx.save_for_backward(x, inverse, normed, queried, scale, query_weight, key_weight, value_weight, cos, sin, own_cos, own_sin, read)
        ctx.shape = hidden.shape
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_query, of_key, of_value):  # type: ignore[no-untyped-def]
        x, inverse, normed, queried, scale, query_weight, key_weight, value_weight, cos, sin, own_cos, own_sin, read = ctx.saved_tensors
        needed, size = ctx.needs_input_grad, cos.shape[-1]
        of_query = _rotated_back(of_query.transpose(1, 2), own_cos, own_sin)
        of_key = _rotated_back(of_key.transpose(1, 2), cos, sin)
        of_value = of_value.transpose(1, 2)  # [B, N, H_kv, d + …]
        of_columns = of_value[..., size : size + 2].sum(dim=2) if needed[5] else None
        of_value = of_value[..., :size].flatten(2).flatten(0, 1)
        of_normed = products.plus_product(products.product(of_key, key_weight.t()), of_value, value_weight.t())
        of_queried = products.product(of_query, query_weight.t())
        of_normed = of_normed.add_(of_queried) if read is None else of_normed.index_add_(0, read.flatten(), of_queried)
        of_weights = (
            products.of_weight(of, states) if wanted else None
            for of, states, wanted in zip((of_query, of_key, of_value), (queried, normed, normed), needed[2:5], strict=True)
        )
        of_x, of_scale = _norm_gradients(of_normed, x, inverse, scale)
        return of_x.view(ctx.shape), of_scale, *of_weights, of_columns, None, None, None, None, None


class _PlusProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, onto, states, weight):  # type: ignore[no-untyped-def]
        states = states.flatten(0, -2)
        ctx.save_for_backward(states if ctx.needs_input_grad[2] else None, weight)
        return products.plus_product(onto.flatten(0, -2), states, weight).view_as(onto)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_output):  # type: ignore[no-untyped-def]
        (states, weight), needed, of = ctx.saved_tensors, ctx.needs_input_grad, of_output.flatten(0, -2)
        of_states = products.product(of, weight.t()).view(*of_output.shape[:-1], -1) if needed[1] else None
        return of_output, of_states, products.of_weight(of, states) if needed[2] else None


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, scale, gate_weight, up_weight, down_weight, epsilon):  # type: ignore[no-untyped-def]
        x = hidden.flatten(0, -2)
        normed, inverse = _normed(x, scale, epsilon)
        gate, up = products.product(normed, gate_weight), products.product(normed, up_weight)
        opened = functional.silu(gate)
        ctx.save_for_backward(x, inverse, normed, gate, up, opened, scale, gate_weight, up_weight, down_weight)
        return products.plus_product(x, opened * up, down_weight).view_as(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_output):  # type: ignore[no-untyped-def]
        x, inverse, normed, gate, up, opened, scale, gate_weight, up_weight, down_weight = ctx.saved_tensors
        needed, shape, of_output = ctx.needs_input_grad, of_output.shape, of_output.flatten(0, -2)
        of_down = products.of_weight(of_output, opened * up) if needed[4] else None
        of_product = products.product(of_output, down_weight.t())
        of_up = of_product * opened
        of_gate = torch.ops.aten.silu_backward(of_product.mul_(up), gate)
        of_gate_weight = products.of_weight(of_gate, normed) if needed[2] else None
        of_up_weight = products.of_weight(of_up, normed) if needed[3] else None
        of_normed = products.plus_product(products.product(of_gate, gate_weight.t()), of_up, up_weight.t())
        of_x, of_scale = _norm_gradients(of_normed, x, inverse, scale, of_output)
        return of_x.view(shape), of_scale, of_gate_weight, of_up_weight, of_down, None


class _LearnerQuery(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, down, up, cos, sin):  # type: ignore[no-untyped-def]
        x = hidden.flatten(0, 1)
        low = x @ down.t()
        query = torch.addmm(x, low, up.t()).view(*hidden.shape[:2], -1, cos.shape[-1])
        ctx.save_for_backward(x, low, down, up, cos, sin)
        return _rotated(query, cos, sin, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_query):  # type: ignore[no-untyped-def]
        x, low, down, up, cos, sin = ctx.saved_tensors
        needed, shape = ctx.needs_input_grad, of_query.shape
        of_x = _rotated_back(of_query, cos, sin)
        of_low = of_x @ up
        of_up = of_x.t() @ low if needed[2] else None
        of_down = of_low.t() @ x if needed[1] else None
        return of_x.addmm_(of_low, down).view(*shape[:2], -1), of_down, of_up, None, None


def _normed(x: torch.Tensor, scale: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm of [T, D], and what each row was multiplied by, [T, 1]."""
    inverse = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_().div_(x.shape[1]).add_(epsilon).rsqrt_()
    return (x * inverse).mul_(scale), inverse


def _norm_gradients(
    of_normed: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, scale: torch.Tensor, onto: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of x [T, D], added to those of `onto`, and of the scale [D]. `of_normed` is overwritten."""
    product = of_normed * x
    of_scale = product.t().mv(inverse[:, 0])
    along = product.mv(scale)[:, None] * inverse.pow(3).div_(-x.shape[1])
    of_normed.mul_(scale)
    of_x = of_normed.mul_(inverse) if onto is None else torch.addcmul(onto, of_normed, inverse)
    return of_x.addcmul_(x, along), of_scale


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, extra_width: int) -> torch.Tensor:
    """states [B, N, H, d], rotated, with zeros behind: [B, N, H, d + extra_width]. Of tables [B, N, 1, d] the later half of sin is read."""
    size, half = states.shape[-1], states.shape[-1] // 2
    sin = sin[..., half:]
    out = torch.mul(states, cos) if not extra_width else functional.pad(states * cos, (0, extra_width))
    out[..., :half].addcmul_(states[..., half:], sin, value=-1)
    out[..., half:size].addcmul_(states[..., :half], sin)
    return out


def _rotated_back(gradient: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """[B, N, H, d + …] of what `_rotated` returned → [B · N, H · d] of its states."""
    size, half = cos.shape[-1], cos.shape[-1] // 2
    sin = sin[..., half:]
    out = gradient[..., :size] * cos
    out[..., :half].addcmul_(gradient[..., half:size], sin)
    out[..., half:].addcmul_(gradient[..., :half], sin, value=-1)
    return out.reshape(-1, out.shape[2] * size)
