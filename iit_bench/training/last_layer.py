"""What of the last decoder layer is computed for every token although only the tokens before a reply's are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from iit_bench.training.towers import in_towers

PROJECTIONS = ("self_attn.q_proj", "self_attn.o_proj")  # of a decoder layer: what works on each token by itself; keys and values are not
PARTS = (*PROJECTIONS, "mlp")


@contextlib.contextmanager
def only_at(module: torch.nn.Module, keep: torch.Tensor, parts: Sequence[str] = PARTS) -> Iterator[None]:
    """Compute parts of the last decoder layer only where `keep` is true; elsewhere they are 0 and must not be read.

    In a dialogue few tokens are followed by a labelled one, so most of the layer but its keys and values is saved, forward and backward.
    Layers that are recomputed in the backward pass are computed whole: by then this is over.

    Args:
        module: of transformers' shape: its decoder layers are the last `layers` outside a vision tower.
        keep: bool [B, N].
        parts: their names in the layer.
    """
    if not parts:
        yield
        return
    recomputed = any(getattr(part, "gradient_checkpointing", False) for part in module.modules())
    layer = None if recomputed else _last_layer(module)
    handles: list[Any] = []
    rows, columns = keep.nonzero(as_tuple=True)

    def select(_part: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][rows, columns], *inputs[1:])

    def put_back(_part: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(*keep.shape, output.shape[-1]).index_put((rows, columns), output)

    for name in parts if layer is not None else ():
        try:
            part = layer.get_submodule(name)  # type: ignore[union-attr]
        except AttributeError:  # of another family
            continue
        handles += [part.register_forward_pre_hook(select), part.register_forward_hook(put_back)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _last_layer(module: torch.nn.Module) -> torch.nn.Module | None:
    """The last decoder layer; None if the model has no list of them."""
    tower = in_towers(module)
    lists = [
        layers for of in module.modules() if of not in tower and isinstance(layers := getattr(of, "layers", None), torch.nn.ModuleList)
    ]
    return lists[-1][-1] if lists else None
