"""Stage "tower": a small convolutional vision tower, from random weights, on shape and colour of easy-VQA's train images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iit_bench.data import easyvqa
from iit_bench.training import dialogues
from iit_bench.training.chat import IGNORED
from iit_bench.training.scores import Score
from iit_bench.training.stages import TowerRecipe

HEADS = "heads.safetensors"  # the two classifiers, kept so that the saved tower can be scored
SHIFT = 4  # pixels


class TowerTask:
    """A `loop.Task`: cross-entropy of shape and of colour, read from the mean of the feature map."""

    def __init__(self, recipe: TowerRecipe) -> None:
        from transformers import AutoModel, RegNetConfig

        shape = recipe.model
        self.recipe = recipe
        config: Any = RegNetConfig(
            embedding_size=shape.embedding,
            hidden_sizes=list(shape.hidden),
            depths=list(shape.depths),
            groups_width=min(shape.hidden),
            layer_type="x",
            downsample_in_first_stage=True,
        )
        config.image_size = shape.image_size  # not RegNet's own: what the tower was trained at
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.tower: Any = AutoModel.from_config(config)
            self.heads = nn.Linear(shape.hidden[-1], len(easyvqa.SHAPES) + len(easyvqa.COLOURS))
        self.module = nn.ModuleList([self.tower, self.heads])
        self.groups = {"tower": list(self.module.parameters())}

    def rows(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The step's batch, which batch normalisation keeps in one piece: pixels [n, 3, size, size] and labels [n, 2]."""
        rng = dialogues.generator(self.recipe.seed, step)
        pixels, labels = pictures("train")
        chosen = torch.from_numpy(rng.integers(len(pixels), size=self.recipe.optim.batch))
        return [(_shifted(pixels[chosen], rng), labels[chosen])]

    def held_out(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Nothing: dev scores say as much."""
        return []

    def size(self, row: tuple[torch.Tensor, torch.Tensor]) -> int:
        """Images."""
        return len(row[0])

    def describe(self, row: tuple[torch.Tensor, torch.Tensor]) -> str:
        """How many images."""
        return f"{len(row[0])} images"

    def weight(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> int:
        """Batches."""
        return len(rows)

    def loss(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Mean cross-entropy of shape plus that of colour, a scalar."""
        self.module.train()
        ((pixels, labels),) = rows
        labels = labels.to(self.heads.weight.device)
        shape, colour = self._logits(pixels)
        of_shape = nn.functional.cross_entropy(shape, labels[:, 0], ignore_index=IGNORED)
        return of_shape + nn.functional.cross_entropy(colour, labels[:, 1], ignore_index=IGNORED)

    def score(self, split: str, limit: int | None) -> dict[str, Score]:
        """Shape and colour, each over the images whose questions determine it."""
        pixels, labels = pictures("test" if split == "test" else "dev")
        pixels, labels = pixels[:limit], labels[:limit]
        self.module.eval()
        with torch.inference_mode():
            logits = [self._logits(some) for some in pixels.split(256)]
        by_name = {}
        for column, name in enumerate(("shape", "colour")):
            best = torch.cat([some[column] for some in logits]).argmax(1).cpu()
            known = labels[:, column] != IGNORED
            by_name[name] = Score(int((best == labels[:, column])[known].sum()), int(known.sum()))
        return by_name

    def save(self, folder: Path) -> None:
        """Write the tower, and the two classifiers beside it."""
        import copy

        from safetensors.torch import save_file

        copy.deepcopy(self.tower).to(torch.bfloat16).save_pretrained(folder)
        save_file({name: tensor.to(torch.bfloat16) for name, tensor in self.heads.state_dict().items()}, folder / HEADS)

    def load(self, folder: Path) -> None:
        """Put the weights of a saved folder in place of the trained ones."""
        from safetensors.torch import load_file
        from transformers import AutoModel

        self.tower = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.heads.load_state_dict(load_file(folder / HEADS))
        self.module = nn.ModuleList([self.tower, self.heads])

    def _logits(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """pixels [n, 3, size, size] -> logits of shape [n, 3] and colour [n, 8]."""
        features = self.tower(pixel_values=pixels.to(self.heads.weight.device)).last_hidden_state  # [n, C, h, w]
        both = self.heads(features.mean((2, 3)))
        return both[:, : len(easyvqa.SHAPES)], both[:, len(easyvqa.SHAPES) :]


@cache
def pictures(split: easyvqa.Split) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a split, as the model sees them, and the labels that follow from their questions.

    Returns:
        Pixels float32 [n, 3, 64, 64]; labels int64 [n, 2], index of shape and of colour, IGNORED where the questions leave it open.
    """
    from transformers import LlamaConfig

    from iit_bench.images import decode
    from iit_bench.models.wings.configuration import WingsConfig
    from iit_bench.models.wings.vision import preprocess

    config = WingsConfig(text_config=LlamaConfig(), image_size=64)
    by_image: dict[int, list[easyvqa.Row]] = {}
    for row in easyvqa.rows(split):
        by_image.setdefault(row.image_id, []).append(row)
    pixels, labels = [], []
    for image_id, rows in sorted(by_image.items()):
        pixels.append(preprocess(decode(easyvqa.image_bytes(split, image_id)), config))
        scenes = [
            (shape, colour)
            for shape in range(len(easyvqa.SHAPES))
            for colour in range(len(easyvqa.COLOURS))
            if all(dialogues.answer_for(r.question, easyvqa.SHAPES[shape], easyvqa.COLOURS[colour]) == r.answer for r in rows)
        ]
        labels.append([values.pop() if len(values := set(column)) == 1 else IGNORED for column in zip(*scenes, strict=True)])
    return torch.stack(pixels), torch.tensor(labels)


def _shifted(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each image moved by up to SHIFT pixels (the border repeated) and mirrored half of the time."""
    size = pixels.shape[-1]
    padded = nn.functional.pad(pixels, (SHIFT,) * 4, mode="replicate")
    moved = []
    for image in padded:
        top, left = rng.integers(2 * SHIFT + 1, size=2)
        image = image[:, top : top + size, left : left + size]
        moved.append(image.flip(-1) if rng.random() < 0.5 else image)
    return torch.stack(moved)
