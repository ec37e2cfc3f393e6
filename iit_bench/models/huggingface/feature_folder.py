"""Features of images on disk, for later runs and for checkpoints that share a tower: a file per image, tower and processing.

A file's name is the hash of all that features depend on: the image's bytes, the tower's weights, the configuration but for its text part,
the processor's settings, dtype, device, and versions of the libraries. A damaged file is computed again; files used longest ago make room.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from iit_bench.errors import UserError
from iit_bench.models.devices import device_of
from iit_bench.storage.atomic import write_atomic

MOST_BYTES = 20 * 2**30  # of a folder
SUFFIX = ".safetensors"
# Of a configuration, what says nothing about features; the rest may (the projector's activation, how tiles are put together).
OF_OTHERS = ("text_config", "_name_or_path", "architectures", "transformers_version")
LIBRARIES = ("pillow", "torch", "torchvision", "transformers")


class FeatureFolder:
    """The features of one model's tower in a folder that others use as well.

    Args:
        folder: it is made if it is missing.
        identity: all that features depend on beside the image, as JSON values.
        limit: bytes of all files, of whatever model.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], limit: int = MOST_BYTES) -> None:
        self._folder, self._limit = folder, limit
        self._identity = json.dumps(identity, sort_keys=True, default=str)
        self._held: int | None = None  # bytes of all files, once they were counted

    def get(self, key: str) -> dict[str, torch.Tensor] | None:
        """Features that were put there under `key`; None if there are none, or they are damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(key)
        try:
            data = path.read_bytes()
            checksum, body = data[:32], data[32:]
            if hashlib.sha256(body).digest() != checksum:
                return None
            found = load(body)
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return found

    def put(self, key: str, features: Mapping[str, torch.Tensor]) -> None:
        """Write features, and make room for them.

        Raises:
            UserError: no space, or no permission.
        """
        from safetensors.torch import save

        body = save({name: value.contiguous() for name, value in features.items()})
        data = hashlib.sha256(body).digest() + body
        self._make_room(len(data))
        write_atomic(self._path(key), data)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(f"{self._identity}\n{key}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}{SUFFIX}"

    def _make_room(self, size: int) -> None:
        """Remove the files used longest ago until `size` bytes more fit; other processes may do the same meanwhile."""
        if self._held is None or self._held + size > self._limit:
            files = sorted((status.st_mtime, status.st_size, path) for path, status in self._files())
            self._held = sum(length for _, length, _ in files)
            for _, length, path in files:
                if self._held + size <= self._limit:
                    break
                path.unlink(missing_ok=True)
                self._held -= length
        self._held += size

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._folder.glob(f"*/*{SUFFIX}"):
            try:
                found.append((path, path.stat()))
            except FileNotFoundError:
                continue
        return found


def open_folder(folder: Path, model: Any, processing: Mapping[str, Any], processor: Any) -> FeatureFolder:
    """The folder for a model's tower, with what its features depend on.

    Args:
        folder: given by the user.
        model: of transformers.
        processing: the record of its processor (`processors.processing_record`).
        processor: of transformers.

    Raises:
        UserError: the tower's weights are not in memory.
    """
    identity = {
        "tower": tower_sha256(model),
        "config": {name: value for name, value in model.config.to_dict().items() if name not in OF_OTHERS},
        "attention": getattr(getattr(model.config, "vision_config", None), "_attn_implementation", None),
        "processing": dict(processing),
        "image_processor": processor.image_processor.to_dict(),
    }
    return FeatureFolder(folder, identity | computed_by(model))


def computed_by(model: Any) -> dict[str, Any]:
    """What else features depend on: dtype, device, versions of libraries."""
    device = device_of(model)
    return {
        "dtype": str(model.dtype),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def tower_sha256(model: Any) -> str:
    """Hash of all weights and buffers outside the language model.

    Raises:
        UserError: some are not in memory.
    """
    decoder = model.get_decoder()
    head = model.get_output_embeddings()
    rest = {tensor.data_ptr() for part in (decoder, head) if part is not None for tensor in part.state_dict().values()}
    return weights_sha256({name: tensor for name, tensor in model.state_dict().items() if tensor.is_meta or tensor.data_ptr() not in rest})


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Hash of named weights and buffers.

    Raises:
        UserError: some are not in memory.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if tensor.is_meta:
            raise UserError("weights of the model are not in memory, so its tower has no hash; leave out --image-cache")
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
