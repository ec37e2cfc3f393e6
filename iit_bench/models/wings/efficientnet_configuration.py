"""The configuration of EfficientNet-Lite as a vision tower."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

LITE0 = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


class EfficientNetLiteConfig(PreTrainedConfig):
    """Configuration of `EfficientNetLite`; its defaults are Lite0.

    Fields:
        image_size: pixels of a side.
        stem: channels of the first convolution.
        stages: of each stage its blocks, kernel size, stride of its first block, expansion, and channels.
        hidden_size: channels of the last convolution, which are the width of the features.
    """

    model_type = "efficientnet_lite"

    image_size: int = 224
    stem: int = 32
    stages: Any = LITE0
    hidden_size: int = 1280

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.stages = [list(stage) for stage in self.stages]


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
