"""Checkpoints under the official names: loading shard by shard, accounting, export. See `names.py` for names and configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import refused, shard_headers, shards
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.released.names import OWN_TOWER, Shape, official_config, official_name, own_name, read_config, released_config

INDEX = "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # safetensors' names


@dataclass(frozen=True, kw_only=True)
class Header:
    """A tensor's entry in the header of a shard. dtype: safetensors' name, e.g. "BF16"."""

    file: Path
    shape: Shape
    dtype: str


# ---------------------------------------------------------------- loading


def read_headers(folder: Path) -> dict[str, Header]:
    """Headers of a folder's shards by official name of the tensor; no tensor is read.

    Raises:
        UserError: a shard is missing or damaged, or two shards hold the same tensor.
    """
    headers: dict[str, Header] = {}
    for file in _shards(folder):
        new = {name: Header(file=file, shape=shape, dtype=dtype) for name, (shape, dtype) in shard_headers(file).items()}
        if twice := sorted(new.keys() & headers.keys()):
            raise UserError(f"shards {file.name!r} and {headers[twice[0]].file.name!r} both hold {twice[0]!r}; remove the wrong file")
        headers |= new
    return headers


def _shards(folder: Path) -> list[Path]:
    return shards(folder / INDEX) if (folder / INDEX).is_file() else sorted(folder.glob("*.safetensors"))


def load_official(folder: Path, device: str, dtype: torch.dtype | None = None) -> WingsForConditionalGeneration:
    """Load the model of an official folder, in evaluation mode on `device`.

    Its parameters are in memory once: they are created without memory, and each tensor goes from its shard to its device.

    Args:
        folder: of the checkpoint.
        device: of the parameters.
        dtype: of the parameters; None = each tensor's own.

    Raises:
        UserError: a shard is missing or damaged, names or shapes do not fit, or a weight is not a number.
    """
    headers = read_headers(folder)
    config = released_config(read_config(folder), {name: header.shape for name, header in headers.items()})
    with refused(f"checkpoint {str(folder)!r} has a damaged config.json"):
        model = empty_model(config)
    check_names(model, headers, folder, official=True)
    for file in sorted({header.file for header in headers.values()}):
        model.load_state_dict(_read_shard(file, device, dtype), strict=False, assign=True)
    model.tie_weights()
    model.to(device=device)  # type: ignore[call-arg]  # the buffers, e.g. rotary tables; every parameter is loaded
    model.config.dtype = model.dtype
    return model.eval()


def _read_shard(file: Path, device: str, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    weights = {}
    try:
        with safe_open(file, framework="pt", device=device) as shard:
            for name in shard.keys():  # noqa: SIM118 - a shard is not a dict
                tensor = shard.get_tensor(name)
                weights[own_name(name)] = tensor if dtype is None else tensor.to(dtype)
    except (SafetensorError, OSError) as error:
        raise UserError(f"shard {str(file)!r} cannot be read ({one_line(error)}); get the file again") from error
    check_finite(weights, str(file))
    return weights


def check_finite(weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        weights: by this project's names.
        where: the checkpoint or file, for the message.

    Raises:
        UserError: naming the first such tensor.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        extremes = torch.stack(tensor.aminmax())  # NaN is its own minimum, so no mask of the tensor's size is needed
        if not bool(torch.isfinite(extremes).all()):
            raise UserError(f"{where!r} holds NaN or infinite numbers in {official_name(name)!r}; the checkpoint is damaged, get it again")


def check_files_finite(folder: Path) -> None:
    """As `check_finite` for a folder's files, one tensor at a time: weights that wait on a disk or are quantised cannot be asked.

    Raises:
        UserError: naming the first such tensor, or a shard cannot be read.
    """
    for name, header in read_headers(folder).items():
        with safe_open(header.file, framework="pt") as shard:
            check_finite({name: shard.get_tensor(name)}, str(header.file))


def empty_model(config: WingsConfig) -> WingsForConditionalGeneration:
    """Build a model whose parameters have names and shapes but no memory; its buffers are real."""
    with _parameters_on_meta():
        return WingsForConditionalGeneration(config)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def move(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> Any:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(move)
    try:
        yield
    finally:
        handle.remove()


def check_names(model: WingsForConditionalGeneration, headers: Mapping[str, Header], folder: Path, *, official: bool) -> None:
    """Refuse a checkpoint that does not hold exactly the model's tensors, each in its shape.

    A tower's names are compared only under official names, because transformers renames some towers' tensors when it saves and loads them.

    Args:
        model: from `empty_model`.
        headers: of the checkpoint.
        folder: of the checkpoint, for the message.
        official: whether the checkpoint has the authors' names.

    Raises:
        UserError: with counts and first examples of what is missing, unexpected and of another shape.
    """
    needed = {official_name(name) if official else name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        needed.pop("lm_head.weight", None)
    if not official:
        needed = {name: shape for name, shape in needed.items() if not name.startswith(OWN_TOWER)}
        headers = {name: header for name, header in headers.items() if not name.startswith(OWN_TOWER)}
    missing = [name for name in needed if name not in headers]
    unexpected = [name for name in headers if name not in needed]
    shapes = [name for name in needed if name in headers and headers[name].shape != needed[name]]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({missing[0]!r} first)")
    if unexpected:
        problems.append(f"{len(unexpected)} are unexpected ({unexpected[0]!r} first)")
    if shapes:
        name = shapes[0]
        problems.append(
            f"{len(shapes)} have another shape ({name!r} is {list(headers[name].shape)}, its config.json needs {list(needed[name])})"
        )
    if problems:
        raise UserError(
            f"checkpoint {str(folder)!r} is not what its config.json describes: {', '.join(problems)}; get both from one source"
        )


# ---------------------------------------------------------------- export


def export_official(model: WingsForConditionalGeneration, folder: Path, shard_bytes: int = 5 * 2**30) -> None:
    """Write `model` under the official names: shards, index and config.json.

    Args:
        model: with a decoder, tower and learners of the released code.
        folder: created if it does not exist.
        shard_bytes: largest size of a shard; a larger tensor gets a shard of its own.

    Raises:
        UserError: the model has parts that the released code does not have.
    """
    fields = official_config(model.config)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {official_name(name): tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight")
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in weights.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        save_file({name: weights[name].cpu().contiguous() for name in names}, folder / file, metadata={"format": "pt"})
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    fields["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
