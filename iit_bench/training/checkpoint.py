"""A training's state on disk: safetensors and JSON, swapped in whole, so that a kill at any moment leaves a usable one.

`state.json` is written last and has the size and sha256 of every other file: a checkpoint counts only if all of it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from iit_bench.errors import UserError, one_line
from iit_bench.storage.atomic import fix_for
from iit_bench.storage.litter import holds_litter_of, remove_whole
from iit_bench.storage.seals import is_whole, sealed
from iit_bench.storage.whole_folders import exchange
from iit_bench.training.parallel import Processes

FOLDER = "checkpoint"
TENSORS = "tensors.safetensors"
FOLDERS = (FOLDER, "checkpoint.old", "checkpoint.new")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(out: Path, module: torch.nn.Module, optimizer: torch.optim.AdamW, state: dict[str, Any], processes: Processes) -> None:
    """Write `out/checkpoint`. Weights that are shared among processes are gathered; all processes call this, and the first one writes.

    Args:
        out: the training's folder.
        module: float32 weights and buffers.
        optimizer: its moments are kept by parameter name.
        state: JSON-serialisable rest, e.g. the number of steps done.
        processes: those of the training.

    Raises:
        UserError: it cannot be written; the checkpoint before is kept.
    """
    tensors = {f"module.{name}": tensor for name, tensor in gathered(_tensors(module), processes).items()}
    for key in MOMENTS:
        of_all = {name: optimizer.state[p][key] for name, p in module.named_parameters() if p in optimizer.state}
        tensors |= {f"{key}.{name}": tensor for name, tensor in gathered(of_all, processes).items()}
    if not processes.writes:
        return
    try:
        _write(out, tensors, state)
    except (OSError, SafetensorError) as error:
        remove_whole(out / "checkpoint.new")
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"cannot write a checkpoint into {str(out)!r}: {reason}; the one before is kept: {fix_for(error)} and resume"
        ) from error


def gathered(tensors: dict[str, torch.Tensor], processes: Processes) -> dict[str, torch.Tensor]:
    """Copies of tensors, whole and on the CPU, in the process that writes; nothing in the others, which have to call this too."""
    copies = {}
    for name, tensor in tensors.items():
        whole = processes.whole(tensor.detach())
        if processes.writes:
            copies[name] = whole.to("cpu").contiguous().clone()
    return copies


def _write(out: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    new, folder, old = out / "checkpoint.new", out / FOLDER, out / "checkpoint.old"
    remove_whole(new)
    new.mkdir(parents=True)
    save_file(tensors, new / TENSORS)
    files = {TENSORS: {"bytes": (new / TENSORS).stat().st_size, "sha256": _sha256(new / TENSORS)}}
    (new / "state.json").write_text(json.dumps(sealed({**state, "files": files}), indent=1), encoding="utf-8")
    for name in (TENSORS, "state.json"):  # before the names change: a machine that loses power has no half of it
        with (new / name).open("rb") as file:
            os.fsync(file.fileno())
    if not folder.exists():
        os.replace(new, folder)
    elif not exchange(new, folder):
        remove_whole(old)
        os.replace(folder, old)
        os.replace(new, folder)
    for path in (new, old):
        remove_whole(path)


def find(out: Path) -> Path | None:
    """The newest whole checkpoint of a folder; None if there is none.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    faults = []
    for name in (FOLDER, "checkpoint.old"):  # a kill between the two renames leaves only the old one
        folder = out / name
        if folder.exists():
            fault = _fault(folder)
            if fault is None:
                return folder
            faults.append(f"{folder}: {fault}")
    if faults:
        raise UserError(f"{faults[0]}; a checkpoint counts only as a whole: restore it, or remove the folder to start at the first step")
    return None


def _fault(folder: Path) -> str | None:
    """What a checkpoint lacks, None if nothing."""
    try:
        files = state(folder).get("files")
        listed = {name: (int(known["bytes"]), str(known["sha256"])) for name, known in (files or {}).items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "state.json is missing or damaged"
    if not (folder / TENSORS).is_file():
        return f"{TENSORS} is missing"
    if files is None:  # an earlier version did not write it
        return None
    for name, (size_written, sha256) in listed.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if size != size_written:
            return f"{name} has {size} bytes of {size_written}"
        if _sha256(folder / name) != sha256:
            return f"{name} is not what was written"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state(folder: Path) -> dict[str, Any]:
    """The JSON part. Raises OSError or ValueError where it is missing, damaged, or was changed."""
    try:
        content = dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not is_whole(content):
        raise ValueError("it was changed after it was written")
    return content


def restore(folder: Path, module: torch.nn.Module, optimizer: torch.optim.AdamW, processes: Processes) -> None:
    """Read a checkpoint's weights and buffers into `module`, and its moments into `optimizer`, in place.

    Raises:
        UserError: the checkpoint is of another model.
    """
    tensors = load_file(folder / TENSORS)
    own = _tensors(module)
    wrong = {name for name in tensors if name.startswith("module.")} ^ {f"module.{name}" for name in own}
    wrong |= {f"module.{name}" for name, tensor in own.items() if not wrong and tensors[f"module.{name}"].shape != tensor.shape}
    if wrong:
        raise UserError(
            f"{folder}: is a checkpoint of another model, its {min(wrong).removeprefix('module.')} is not as here; remove it or give "
            "another --out"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(processes.part(tensors[f"module.{name}"], tensor))
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) in trained and f"step.{name}" in tensors:  # of before the first step there are no moments
            step, *moments = (tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq"))
            first, second = (processes.part(moment, parameter.detach()) for moment in moments)
            optimizer.state[parameter] = {"step": step.to(first.device), "exp_avg": first, "exp_avg_sq": second}


def is_left(out: Path) -> bool:
    """Whether a folder holds a checkpoint, whole or not, or what a killed process left of one."""
    return any((out / name).exists() or holds_litter_of(out / name) for name in FOLDERS)


def remove(out: Path) -> None:
    """Drop the checkpoint of a finished training."""
    for name in FOLDERS:
        remove_whole(out / name)


def put_whole(source: torch.nn.Module, target: torch.nn.Module, processes: Processes) -> None:
    """Copy weights that are shared among processes into a module that is not, in the process that writes."""
    tensors = gathered(_tensors(source), processes)
    if processes.writes:
        with torch.no_grad():
            for name, tensor in _tensors(target).items():
                tensor.copy_(tensors[name])


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, a tied tensor once."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors
