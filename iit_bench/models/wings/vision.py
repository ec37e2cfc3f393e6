"""From image files to their vectors: preprocessing, tower, projector.

See docs/spec/wings.md#a1-parameters, #a2-input-assembly, #a11-preprocess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image as PILImage
from torch import nn
from transformers import AutoModel

import iit_bench.models.wings.efficientnet  # noqa: F401  (makes AutoModel build it)
from iit_bench.images import as_rgb, check_size
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.lorra import SelfInitialised


class Preprocessing(Protocol):
    """The preprocessing fields of `WingsConfig`, which also documents them."""

    @property
    def image_size(self) -> int: ...
    @property
    def image_mean(self) -> Sequence[float]: ...
    @property
    def image_std(self) -> Sequence[float]: ...
    @property
    def image_background(self) -> Sequence[int]: ...
    @property
    def max_image_pixels(self) -> int: ...


class VisionTower(nn.Module):
    """Any vision model of transformers; its features are [n, T, D_v] vectors, whether it returns tokens or a feature map.

    It is never trained here and stays in evaluation mode, so that batch statistics of a pretrained tower do not drift.
    """

    def __init__(self, config: WingsConfig, tower: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = config.vision_feature_layer
        self.vision_tower = AutoModel.from_config(config.vision_config) if tower is None else tower
        self.train(False)

    def train(self, mode: bool = True) -> VisionTower:
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Features of images: [n, 3, size, size] → [n, T, D_v]."""
        pixel_values = pixel_values.to(dtype=next(self.parameters()).dtype)
        if self.layer is None:
            features = self.vision_tower(pixel_values=pixel_values).last_hidden_state
        else:
            features = self.vision_tower(pixel_values=pixel_values, output_hidden_states=True).hidden_states[self.layer]
        if features.ndim == 4:  # a feature map [n, C, h, w], read row by row
            features = features.flatten(2).transpose(1, 2)
        return features


class Projector(nn.Sequential):
    """mm_projector: Linear, exact GELU, Linear (docs/spec/wings.md#a1-parameters); [..., D_v] → [..., D]."""

    def __init__(self, vision_size: int, hidden_size: int) -> None:
        super().__init__(SelfInitialised(vision_size, hidden_size), nn.GELU(), SelfInitialised(hidden_size, hidden_size))


def preprocess(image: PILImage.Image, config: Preprocessing) -> torch.Tensor:
    """Pad to a square, resize bicubically, normalise (docs/spec/wings.md#a11-preprocess); returns [3, size, size] float32.

    Raises:
        UnreadableImageError: no pixels, or too many.
    """
    square = _square(image, config)
    pixels = torch.from_numpy(np.array(square, dtype=np.float32)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (config.image_mean, config.image_std))
    return (pixels - mean) / std


def preprocess_all(images: Sequence[PILImage.Image], config: Preprocessing) -> torch.Tensor:
    """`preprocess` of at least one image, the same bits in fewer operations: [n, 3, size, size] float32, its channels last in memory."""
    read = np.stack([np.asarray(_square(image, config)) for image in images])
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (config.image_mean, config.image_std))
    return torch.from_numpy(read).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)


def _square(image: PILImage.Image, config: Preprocessing) -> PILImage.Image:
    """Padded to a square, in RGB and of the tower's size; raises as `preprocess`."""
    check_size(image, config.max_image_pixels, square=True)
    rgb = as_rgb(image)
    side = max(rgb.size)
    square = PILImage.new("RGB", (side, side), tuple(int(c) for c in config.image_background))
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    size = config.image_size
    if side != size:
        square = square.resize((size, size), PILImage.Resampling.BICUBIC)
    return square
