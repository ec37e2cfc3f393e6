"""EfficientNet-Lite as a vision tower: inverted bottlenecks without squeeze and excitation, ReLU6 in place of swish.

Batch norms are folded into the convolutions before them (`iit_bench/training/lite0.py`), which changes features by rounding only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from iit_bench.models.wings.efficientnet_configuration import EfficientNetLiteConfig


class Convolution(nn.Conv2d):
    """A convolution with bias, padded as TensorFlow's "SAME": an odd pixel goes to the right and below."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, C, h, w] → [n, C', ceil(h / stride), ceil(w / stride)]."""
        paddings: list[int] = []
        for side, kernel, stride in zip(pixels.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            paddings += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(pixels, paddings) if any(paddings) else pixels)


class Block(nn.Module):
    """Expand the channels, filter each by itself, project; added to its input where both have one shape."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, projected: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = Convolution(channels, wide, 1) if expansion > 1 else nn.Identity()
        self.filter = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, projected, 1)
        self.adds = stride == 1 and channels == projected
        self.bounded = nn.ReLU6()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, C, h, w] → [n, C', h', w']."""
        expanded = pixels if isinstance(self.expand, nn.Identity) else self.bounded(self.expand(pixels))
        projected = self.project(self.bounded(self.filter(expanded)))
        return pixels + projected if self.adds else projected


class EfficientNetLite(PreTrainedModel):
    """EfficientNet-Lite up to its last convolution."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = Convolution(3, config.stem, 3, 2)
        blocks, channels = [], config.stem
        for count, kernel, stride, expansion, projected in config.stages:
            for number in range(count):
                blocks.append(Block(channels, kernel, 1 if number else stride, expansion, projected))
                channels = projected
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(channels, config.hidden_size, 1)
        self.bounded = nn.ReLU6()
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutput:
        """Features of images: [n, 3, size, size] → a map [n, hidden_size, size / 32, size / 32] as `last_hidden_state`."""
        pixels = self.bounded(self.stem(pixel_values))
        for block in self.blocks:
            pixels = block(pixels)
        return BaseModelOutput(last_hidden_state=self.bounded(self.head(pixels)))


AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)
