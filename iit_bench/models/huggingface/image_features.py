"""Features of images: computed once per image by the model's own tower, kept, and given to its forward in place of pixels.

Transformers' image-text models take what their `get_image_features` returned as `mm_encoder_outputs`, so the rest of their forward stays
their own: where features go, further layers that get some of them (deepstack), marks beside them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from iit_bench.models.devices import device_of
from iit_bench.models.huggingface.feature_folder import FeatureFolder
from iit_bench.models.huggingface.image_parts import Bounded, ImagePart, ImageParts

FEATURES_HELD = 4 * 2**30  # bytes
MAIN = ("pooler_output", "last_hidden_state")  # where models look for features; the first that has a row per column
DEEP = "deepstack_features"  # of layers beside the first
NOT_FEATURES = frozenset([*MAIN, DEEP, "hidden_states", "attentions"])

Features = dict[str, torch.Tensor]  # [columns, width] each: MAIN's under its name, a further layer's under DEEP.NUMBER


def tower_arguments(model: Any) -> list[str]:
    """Names of the tensors that the model's tower reads; empty if it cannot be given features instead."""
    takes = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
    if not takes or not hasattr(model, "get_image_features"):
        return []
    return [name for name in inspect.signature(model.get_image_features).parameters if name not in ("kwargs", "return_dict")]


@dataclass(kw_only=True)
class _Form:
    """In which form a model's `get_image_features` returns features."""

    kind: type
    main: str
    listed: bool  # one tensor per image, or one for all
    layers: int  # further ones
    common: Mapping[str, Any] = field(default_factory=dict)  # what is the same for all images


class ImageFeatures:
    """Features of one model's images, each computed once while `limit` bytes hold them."""

    def __init__(self, model: Any, parts: ImageParts, limit: int = FEATURES_HELD) -> None:
        self._model, self._parts = model, parts
        self.folder: FeatureFolder | None = None  # where they are kept beyond this process
        self._held: Bounded[Features] = Bounded(limit)
        self._form: _Form | None = None
        self.computed = 0  # images that went through the tower

    def of(self, part: ImagePart) -> Features:
        """Features of one image, on the CPU in the model's dtype."""
        found = self._held.get(part.key)
        if found is None:
            found = (self.folder.get(part.key) if self.folder and self._form else None) or self._computed(part)
            self._held.put(part.key, found, sum(value.nbytes for value in found.values()))
        return found

    def _computed(self, part: ImagePart) -> Features:
        found = self._compute(part)
        if self.folder:
            self.folder.put(part.key, found)
        return found

    def outputs(self, parts: Sequence[ImagePart]) -> dict[str, Any]:
        """`mm_encoder_outputs` for a chat with these images, in order."""
        own = [self.of(part) for part in parts]
        return self.outputs_of({name: torch.cat([one[name] for one in own]) for name in own[0]})

    def outputs_of(self, features: Features) -> dict[str, Any]:
        """`mm_encoder_outputs` for columns in the order of their places."""
        assert self._form is not None, "features come from `of`"
        form, device = self._form, device_of(self._model)
        moved = {name: value.to(device) for name, value in features.items()}
        main: Any = moved[form.main]
        values: dict[str, Any] = {form.main: [main] if form.listed else main, **form.common}
        if form.layers:
            values[DEEP] = [[moved[f"{DEEP}.{layer}"]] for layer in range(form.layers)]
        return {"image": form.kind(**values)}

    @torch.inference_mode()
    def _compute(self, part: ImagePart) -> Features:
        pixels = {name: self._moved(value) for name, value in self._parts.take_pixels(part).items()}
        output = self._model.get_image_features(**pixels, return_dict=True)
        self.computed += 1
        rows = {name: _rows(getattr(output, name, None)) for name in MAIN}
        main = next((name for name in MAIN if rows[name] is not None and len(rows[name]) == part.columns), None)
        if main is None:
            raise ValueError(f"the model has other than {part.columns} features of an image with so many tokens")
        deep = [_rows(layer) for layer in getattr(output, DEEP, None) or []]
        if self._form is None:
            common = {name: value for name, value in output.items() if name not in NOT_FEATURES and isinstance(value, torch.Tensor)}
            listed = not isinstance(getattr(output, main), torch.Tensor)
            self._form = _Form(kind=type(output), main=main, listed=listed, layers=len(deep), common=common)
        found = {main: rows[main]} | {f"{DEEP}.{layer}": value for layer, value in enumerate(deep)}
        return {name: value.to(device="cpu", copy=True) for name, value in found.items()}

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        moved = value.to(device_of(self._model))
        return moved.to(self._model.dtype) if moved.is_floating_point() else moved


def _rows(value: Any) -> Any:
    """Features of one image as [columns, width]; None if there are none."""
    if isinstance(value, (list, tuple)):
        value = torch.cat([part.reshape(-1, part.shape[-1]) for part in value])
    return None if value is None else value.reshape(-1, value.shape[-1])
