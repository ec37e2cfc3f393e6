"""Where a model runs and in which number format: what `--device` and `--dtype` mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError
from iit_bench.ranks import this_rank

if TYPE_CHECKING:
    import torch


def pick_device(device: str, what: str = "") -> str:
    """`auto` = cuda, else mps, else cpu. With auto and cuda, each of several processes of one run (`iit_bench.ranks`) gets its
    own GPU. `what` begins the error in the place of the option's name.

    Raises:
        UserError: this machine has no such device.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return _own_gpu() if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, index = device.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}.get(kind, 0)
    if not count or (index and (not index.isdecimal() or int(index) >= count)):
        raise UserError(f"{what or f'--device {device!r}'} is not available; this machine has {count} of its kind, use auto or cpu")
    return _own_gpu() if device == "cuda" else device


def device_name(device: str) -> str:
    """A device as its maker names it, with its memory in bytes: sizes that fit one do not fit another."""
    import torch

    if not device.startswith("cuda") or not torch.cuda.is_available():
        return device
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory} bytes"


def _own_gpu() -> str:
    """The GPU of this process: launchers count processes per machine, and some show each process only its own GPU."""
    import torch

    rank = this_rank()
    return f"cuda:{rank.local % torch.cuda.device_count()}" if rank.several else "cuda"


def device_of(model: Any) -> torch.device:
    """Where a model of transformers takes its inputs; of one whose first weights wait on the disk, `model.device` is "meta"."""
    import torch

    device = getattr(getattr(model, "_hf_hook", None), "execution_device", None)  # of accelerate
    return torch.device(model.device if device is None else device)


def pick_dtype(dtype: str, device: str, checkpoint_dtype: torch.dtype | None) -> torch.dtype:
    """`auto` = float32 on a CPU, else the checkpoint's own (bfloat16 if it has none).

    Raises:
        UserError: not a dtype to run a model in.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        return torch.float32 if device.startswith("cpu") else checkpoint_dtype or torch.bfloat16
    if dtype not in known:
        raise UserError(f"--dtype {dtype!r} is unknown; use auto, {', '.join(known)}")
    return known[dtype]
