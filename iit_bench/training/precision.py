"""Where steps run, in which number format, and what is kept for the backward pass: the record `Running`, applied to a model."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from iit_bench.errors import UserError
from iit_bench.models.devices import pick_device
from iit_bench.training.records import Running


def device_of(run: Running) -> torch.device:
    """The device of this process.

    Raises:
        UserError: this machine has no such device.
    """
    wanted = run.device
    if wanted == "auto":  # an Apple GPU only where it is asked for: it lacks some of the operations
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(pick_device(wanted, what=f"run.device {run.device!r}"))


def lacking(run: Running) -> str:
    """Why this machine cannot run it, a sentence; empty if it can."""
    try:
        device_of(run)
    except UserError as error:
        return str(error)
    return ""


def computed_in(run: Running, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Products and attention in `run.precision`; weights, gradients and sums stay float32.

    bfloat16 is autocast over float32 weights, not a bfloat16 model: at a learning rate of 2e-6 hardly any bfloat16 weight would change.
    """
    if run.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def keep_little(module: torch.nn.Module) -> None:
    """Recompute each decoder layer in the backward pass.

    Raises:
        UserError: the model has no layers that can be recomputed.
    """
    enable = getattr(module, "activation_checkpointing_enable", None)
    if enable is None:
        raise UserError("recipe, key 'run.checkpointing': this stage's model has no layers to recompute; set it to false")
    enable(activation_checkpointing_kwargs={"use_reentrant": False})
