"""A training's state on disk: safetensors and JSON, swapped in whole, so that a kill at any moment leaves a usable one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError

FOLDER = "checkpoint"


def save(out: Path, module: torch.nn.Module, optimizer: torch.optim.AdamW, names: dict[int, str], state: dict[str, Any]) -> None:
    """Write `out/checkpoint`.

    Args:
        out: the training's folder.
        module: float32 weights and buffers.
        optimizer: its moments are kept by parameter name.
        names: id of a parameter -> its name in `module`.
        state: JSON-serialisable rest, e.g. the number of steps done.
    """
    tensors = {f"module.{name}": tensor.detach().contiguous().clone() for name, tensor in _tensors(module).items()}
    for parameter, moments in optimizer.state.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{key}.{names[id(parameter)]}"] = moments[key].contiguous().clone()
    new, folder, old = out / "checkpoint.new", out / FOLDER, out / "checkpoint.old"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file(tensors, new / "tensors.safetensors")
    (new / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def find(out: Path) -> Path | None:
    """The newest whole checkpoint of a folder."""
    for name in (FOLDER, "checkpoint.old"):  # a kill between the two renames leaves only the old one
        if (out / name / "state.json").is_file():
            return out / name
    return None


def state(folder: Path) -> dict[str, Any]:
    """The JSON part."""
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))


def restore(folder: Path, module: torch.nn.Module, optimizer: torch.optim.AdamW, names: dict[int, str]) -> None:
    """Read a checkpoint's weights and buffers into `module`, and its moments into `optimizer`, in place.

    Raises:
        UserError: the checkpoint is of another model.
    """
    tensors = load_file(folder / "tensors.safetensors")
    own = _tensors(module)
    if {name for name in tensors if name.startswith("module.")} != {f"module.{name}" for name in own}:
        raise UserError(f"{folder}: is a checkpoint of another model; remove it or give another --out")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[f"module.{name}"])
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            if f"step.{name}" in tensors:  # a parameter that never had a gradient has no moments
                optimizer.state[parameter] = {key: tensors[f"{key}.{name}"] for key in ("exp_avg", "exp_avg_sq", "step")}


def remove(out: Path) -> None:
    """Drop the checkpoint of a finished training."""
    for name in (FOLDER, "checkpoint.old", "checkpoint.new"):
        shutil.rmtree(out / name, ignore_errors=True)


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, a tied tensor once."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors
