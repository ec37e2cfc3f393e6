"""Which parts of a model are its vision tower, which most of the training leaves alone."""

from __future__ import annotations

from torch import nn


def in_towers(module: nn.Module) -> set[nn.Module]:
    """All modules of the vision towers in a model, by their place (attribute `vision_tower`); none of a text model."""
    held = [tower for part in module.modules() if isinstance(tower := getattr(part, "vision_tower", None), nn.Module)]
    return {part for tower in held for part in tower.modules()}
