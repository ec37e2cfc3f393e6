"""Towers that answer equal images from memory: for models whose forward takes no features in place of pixels.

The tower's own module is called for images that it has not seen, one by one, and its outputs are put together; or, where an image's output
depends on the images beside it, for sets of images that it has not seen. Which of the two is right is checked when a model is loaded.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch

from iit_bench.models.huggingface.image_parts import Bounded

HELD = 2 * 2**30  # bytes of outputs
# By model_type: where its tower is, and along which dimension of the tower's tensors images follow each other.
TOWERS: Mapping[str, tuple[str, int]] = {
    "mllama": ("model.vision_model", 1),
    "phi4_multimodal": ("model.embed_tokens_extend.image_embed.img_processor", 0),
}


class TowerMemory:
    """Stands before one model's tower.

    Attributes:
        axis: dimension along which images follow each other; None = whole calls are remembered.
        computed: images, or calls, that went through the tower.
    """

    def __init__(self, tower: Any, axis: int) -> None:
        self._tower, self._forward = tower, tower.forward
        self._names = list(inspect.signature(tower.forward).parameters)
        self._held: Bounded[Any] = Bounded(HELD)
        self.axis: int | None = axis
        self.computed = 0
        tower.forward = self._remembered

    def remove(self) -> None:
        """Leave the tower as it was."""
        self._tower.forward = self._forward

    def _remembered(self, *args: Any, **more: Any) -> Any:
        given = dict(zip(self._names, args, strict=False)) | more
        first = next(value for value in given.values() if isinstance(value, torch.Tensor))
        if self.axis is None:
            return self._one(given)
        count = first.shape[self.axis]
        parts = [self._one({name: self._slice(value, index, count) for name, value in given.items()}) for index in range(count)]
        return _joined(parts, self.axis)

    def _slice(self, value: Any, index: int, count: int) -> Any:
        axis = self.axis or 0
        per_image = isinstance(value, torch.Tensor) and value.dim() > axis and value.shape[axis] == count
        return value.narrow(axis, index, 1) if per_image else value

    def _one(self, given: Mapping[str, Any]) -> Any:
        key = _key(given)
        found = self._held.get(key)
        if found is None:
            found = self._forward(**given)
            self.computed += 1
            self._held.put(key, found, _size(found))
        return found


def find_tower(model: Any) -> TowerMemory | None:
    """A memory before the tower of a model in `TOWERS`; None for others."""
    if model.config.model_type not in TOWERS:
        return None
    path, axis = TOWERS[model.config.model_type]
    return TowerMemory(model.get_submodule(path), axis)


def _key(given: Mapping[str, Any]) -> str:
    total = hashlib.sha256()
    for name, value in sorted(given.items()):
        if isinstance(value, torch.Tensor):
            total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            total.update(f"{name} {value!r}\n".encode())
    return total.hexdigest()


def _joined(parts: list[Any], axis: int) -> Any:
    """Outputs of single images as that of all of them."""
    one = parts[0]
    if isinstance(one, torch.Tensor):
        return torch.cat(parts, dim=axis)
    if isinstance(one, Mapping):
        return type(one)(**{name: _joined([part[name] for part in parts], axis) for name in one})  # type: ignore[call-arg]
    if isinstance(one, (list, tuple)):
        return type(one)(_joined(list(own), axis) for own in zip(*parts, strict=True))
    return one


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(_size, values))
