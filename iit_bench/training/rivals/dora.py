"""DoRA: LoRA whose weights have a trained magnitude beside their direction (peft's; arXiv 2402.09353)."""

from __future__ import annotations

from iit_bench.training.rivals.lora import Lora


class Dora(Lora):
    """Weights m · (W + B A) / ‖W + B A‖, by rows."""

    magnitudes = True
