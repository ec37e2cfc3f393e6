"""The pictures that a vision tower is trained on, as the model sees them, with the labels of each classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from iit_bench.data import digits, easyvqa, flags
from iit_bench.training import described
from iit_bench.training.chat import IGNORED

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Pictures:
    """Pictures of one source."""

    pixels: torch.Tensor  # float32 [n, 3, 64, 64]
    labels: torch.Tensor  # int64 [n, classifiers of the source], IGNORED where a label is not known


MIRRORED = ("shapes",)  # sources whose pictures keep their labels when they are mirrored


def classifiers(source: str) -> Mapping[str, int]:
    """A source's classifiers, and how many classes each has."""
    if source == "shapes":
        return {"shape": len(easyvqa.SHAPES), "colour": len(easyvqa.COLOURS)}
    return {"digit": 10} if source == "digits" else {"flag": len(flags.names())}


@cache
def pictures(source: str, split: Split) -> Pictures:
    """All pictures of a source's split."""
    return {"shapes": _shapes, "digits": _digits, "flags": _flags}[source](split)


def _shapes(split: Split) -> Pictures:
    """The images of easy-VQA; index of shape and of colour, IGNORED where the questions leave it open."""
    by_image: dict[int, list[easyvqa.Row]] = {}
    for row in easyvqa.rows(split):
        by_image.setdefault(row.image_id, []).append(row)
    files, labels = [], []
    for image_id, rows in sorted(by_image.items()):
        files.append(easyvqa.image_bytes(split, image_id))
        scenes = [
            (shape, colour)
            for shape in range(len(easyvqa.SHAPES))
            for colour in range(len(easyvqa.COLOURS))
            if all(described.answer_for(r.question, easyvqa.SHAPES[shape], easyvqa.COLOURS[colour]) == r.answer for r in rows)
        ]
        labels.append([values.pop() if len(values := set(column)) == 1 else IGNORED for column in zip(*scenes, strict=True)])
    return Pictures(_pixels(files), torch.tensor(labels))


def _digits(split: Split) -> Pictures:
    scans = digits.scans(split)
    return Pictures(_pixels([digits.image(scan.number).data for scan in scans]), torch.tensor([[scan.digit] for scan in scans]))


def _flags(split: Split) -> Pictures:
    """Every rendering; the index of the country."""
    asked = [(i, code, number) for i, code in enumerate(flags.names()) for number in range(flags.RENDERINGS[split])]
    files = [flags.image(code, split, number).data for _, code, number in asked]
    return Pictures(_pixels(files), torch.tensor([[i] for i, _, _ in asked]))


def _pixels(files: Sequence[bytes]) -> torch.Tensor:
    from transformers import LlamaConfig

    from iit_bench.images import decode
    from iit_bench.models.wings.configuration import WingsConfig
    from iit_bench.models.wings.vision import preprocess

    config = WingsConfig(text_config=LlamaConfig(), image_size=64)
    return torch.stack([preprocess(decode(data), config) for data in files])
