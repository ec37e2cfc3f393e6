"""easy-VQA (PyPI `easy-vqa` 1.0, MIT) as rows and as questions: read by the `easyvqa` source, suite vqa and training.

The official split is kept: models are trained on train images only and scored on test images only. 500 of the 4,000 train images, chosen by
hash, are held out as `dev` for choosing hyper-parameters; `train` has the others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from iit_bench.errors import UserError
from iit_bench.types import Image, Question

Split = Literal["train", "dev", "test"]
DEV_IMAGES = 500
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
YES_NO = ("yes", "no")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question of easy-VQA."""

    split: Split
    image_id: int  # number of the image in its official split (train and dev share numbers, test has its own)
    index: int  # position in the official split's questions.json
    question: str  # as published: lower case, ends in "?"
    answer: str
    subject: str  # "shape" | "colour" | "yes/no"
    choices: tuple[str, ...]  # all answers of the subject

    @property
    def cluster(self) -> str:
        """The image, which all its questions depend on."""
        return f"easyvqa/{_official(self.split)}/{self.image_id}"

    @property
    def id(self) -> str:
        """The question's id in a benchmark."""
        return f"easyvqa/{_official(self.split)}/{self.index}"


def rows(split: Split) -> list[Row]:
    """The questions of a split, in the published order. `train` + `dev` are the official train split.

    Raises:
        UserError: the package `easy-vqa` is not installed.
    """
    held_out = dev_images()
    kept = []
    for index, (question, answer, image_id) in enumerate(json.loads(questions_bytes(split))):
        if split != "test" and (image_id in held_out) != (split == "dev"):
            continue
        subject, choices = _kind(answer)
        kept.append(Row(split=split, image_id=image_id, index=index, question=question, answer=answer, subject=subject, choices=choices))
    return kept


@cache
def questions(split: Split) -> tuple[Question, ...]:
    """The rows of a split as questions with their images; the choices are all answers of the question's subject.

    Raises:
        UserError: the package `easy-vqa` is not installed.
    """
    of_number = images(split)
    return tuple(
        Question(
            id=row.id,
            modality="V",
            source="easyvqa",
            subject=row.subject,
            cluster=row.cluster,
            language="en",
            question=row.question,
            images=(of_number[row.image_id],),
            choices=row.choices,
            answer=row.choices.index(row.answer),
            answer_text=row.answer,
            fixed_order=row.subject == "yes/no",
        )
        for row in rows(split)
    )


def images(split: Split) -> dict[int, Image]:
    """The images that a split's questions are about, by their numbers in ascending order."""
    return {number: Image(image_bytes(split, number)) for number in sorted({row.image_id for row in rows(split)})}


@cache
def dev_images() -> frozenset[int]:
    """Numbers of the official train images that are held out as dev."""
    order = sorted(range(4000), key=lambda i: hashlib.sha256(f"easyvqa dev {i}".encode()).digest())
    return frozenset(order[:DEV_IMAGES])


def questions_bytes(split: Split) -> bytes:
    """The official questions.json that `split` is read from (for its sha256)."""
    return (_folder(split) / "questions.json").read_bytes()


def image_bytes(split: Split, image_id: int) -> bytes:
    """The PNG file of an image: 64 x 64, RGB."""
    return (_folder(split) / "images" / f"{image_id}.png").read_bytes()


def _kind(answer: str) -> tuple[str, tuple[str, ...]]:
    for subject, choices in (("shape", SHAPES), ("colour", COLOURS), ("yes/no", YES_NO)):
        if answer in choices:
            return subject, choices
    raise UserError(f"easy-VQA has an unknown answer {answer!r}; this reader knows version 1.0: pip install easy-vqa==1.0")


def _official(split: Split) -> str:
    return "test" if split == "test" else "train"


def _folder(split: Split) -> Traversable:
    try:
        return resources.files("easy_vqa") / "data" / _official(split)
    except ModuleNotFoundError:
        raise UserError("easy-VQA is not installed: pip install easy-vqa==1.0") from None
