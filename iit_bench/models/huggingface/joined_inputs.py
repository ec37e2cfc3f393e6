"""Chats of unequal length and with unequal numbers of images as one batch: the inputs of each joined, padding on the left.

Tensors with an entry per token are padded on the left along their axis. All others hold images. Their rows follow each other, as the
images of a batch do in the processors of transformers: a row per image, tile or patch, or a row per chat with room for its images. Where
they differ in another dimension (tiles, pixels), the smaller ones are filled up with zeros behind, as the processors fill them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from iit_bench.models.huggingface.encoding import Inputs, PerToken


def join(chats: Sequence[Inputs], layouts: Sequence[Mapping[str, PerToken]], *, pad: int, row_per_chat: frozenset[str]) -> Inputs:
    """The inputs of one batch.

    Args:
        chats: inputs of one chat each.
        layouts: of each, its per-token tensors (`InputMaker.layout`).
        pad: the token that pads `input_ids`; other tensors are padded with 0.
        row_per_chat: tensors of images that have one row per chat; a chat without images has a row of zeros there.

    Raises:
        ValueError: the chats have different entries that are no tensors.
    """
    lengths = [chat["input_ids"].shape[1] for chat in chats]
    joined: Inputs = {}
    for name in dict.fromkeys(name for chat in chats for name in chat):
        values = [chat[name] for chat in chats if name in chat]
        per_token = next((layout[name] for layout in layouts if name in layout), None)
        if per_token is not None:
            rows = _padded([chat.get(name) for chat in chats], per_token, lengths, pad if name == "input_ids" else 0)
            joined[name] = torch.cat(filled(rows))
        elif all(isinstance(value, torch.Tensor) for value in values):
            rows = [chat.get(name, torch.zeros_like(values[0])) for chat in chats] if name in row_per_chat else values
            joined[name] = torch.cat(filled(rows))
        elif all(value == values[0] for value in values):
            joined[name] = values[0]
        else:
            raise ValueError(f"{name} of the processor differs between chats")
    return joined


def _padded(rows: Sequence[torch.Tensor | None], how: PerToken, lengths: Sequence[int], fill: int) -> list[torch.Tensor]:
    """A per-token tensor of each chat, as long as the longest; all zeros for a chat without it (token types of a chat without images)."""
    width, some = max(lengths), next(row for row in rows if row is not None)
    padded = []
    for row, length in zip(rows, lengths, strict=True):
        value = some.narrow(how.axis, 0, 1).repeat_interleave(length, how.axis).zero_() if row is None else row
        missing = [0, 0] * (value.dim() - 1 - how.axis) + [width - length, 0]  # `pad` counts dimensions from the last
        padded.append(torch.nn.functional.pad(value, missing, value=fill))
    return padded


def filled(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors [n, …] with zeros behind, so that they differ in the first dimension only."""
    largest = [max(sizes) for sizes in zip(*(row.shape[1:] for row in rows), strict=True)]
    padded = []
    for row in rows:
        missing = [more for size, most in zip(row.shape[1:], largest, strict=True) for more in (most - size, 0)]
        padded.append(torch.nn.functional.pad(row, missing[::-1]))
    return padded
