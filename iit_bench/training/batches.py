"""Rows of token ids as tensors, and what the stages that train on chats say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from iit_bench.training import fused_llm, passes
from iit_bench.training.chat import IGNORED, Row
from iit_bench.types import Image

SHOWN = 300  # characters of a row that a log shows


@dataclass(frozen=True)
class Batch:
    """Right-padded rows."""

    ids: torch.Tensor  # int64 [rows, length]
    mask: torch.Tensor  # int64 [rows, length]; 1 = token, 0 = padding
    labels: torch.Tensor  # int64 [rows, length]
    images: tuple[Image, ...]  # of all rows, in reading order

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(self.ids.to(device), self.mask.to(device), self.labels.to(device), self.images)


class ChatRows:
    """What the stages that train on chats say of their rows (`steps.Task`)."""

    module: Any
    tokenizer: Any

    def in_training(self, mode: bool) -> None:
        """Training or evaluation mode, unless the module is in it: to go through its submodules takes as long as a layer."""
        if self.module.training != mode:
            self.module.train(mode)

    def size(self, row: Row) -> int:
        """Tokens."""
        return len(row.ids)

    def packs(self) -> bool:
        """Whether all layers are computed by `fused_llm`, on a processor, where a block of few rows costs little."""
        return self.module.device.type in ("cpu", "meta") and fused_llm.fits(self.module.model)

    def blocks(self, rows: Sequence[Row]) -> list[Batch]:
        """Rows as right-padded blocks of nearly one length, on the module's device."""
        lengths = [len(row.ids) for row in rows]
        pad = self.tokenizer.pad_token_id
        return [collate([rows[i] for i in one], pad).to(self.module.device) for one in passes.blocks(lengths)]

    def weight(self, rows: Sequence[Row]) -> int:
        """Labelled tokens."""
        return sum(row.labelled for row in rows)

    def counts(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def describe(self, row: Row) -> str:
        """Its record, and the beginning of its text, image marks once."""
        mark = self.tokenizer.convert_tokens_to_ids("<image>")
        ids = [token for i, token in enumerate(row.ids) if token != mark or i == 0 or row.ids[i - 1] != mark]
        text = str(self.tokenizer.decode(ids))[:SHOWN]
        return f"{row.id}: {text}" if row.id else text


def collate(rows: Sequence[Row], pad: int) -> Batch:
    """Pad rows on the right to the longest."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad, dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, : len(row.ids)] = torch.tensor(row.labels)
        mask[i, : len(row.ids)] = 1
    return Batch(ids, mask, labels, tuple(image for row in rows for image in row.images))
