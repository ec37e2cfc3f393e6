"""Stage "tower": a small convolutional vision tower, from random weights, with a classifier for each thing that is on the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iit_bench.models.checkpoint_check import refused
from iit_bench.models.checkpoints import load_whole
from iit_bench.training import assets, dialogues
from iit_bench.training.chat import IGNORED
from iit_bench.training.pictures import MIRRORED, classifiers, pictures
from iit_bench.training.scores import Score
from iit_bench.training.stages import TowerRecipe

SHIFT = 4  # pixels


class TowerTask:
    """A `loop.Task`: cross-entropy of each classifier, a linear one over the mean of the feature map."""

    def __init__(self, recipe: TowerRecipe) -> None:
        from transformers import AutoModel, RegNetConfig

        shape = recipe.model
        self.recipe = recipe
        self.classes = {classifier: n for name in recipe.pictures for classifier, n in classifiers(name).items()}
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
            self.heads = nn.Linear(shape.hidden[-1], sum(self.classes.values()))
        self.module = nn.ModuleList([self.tower, self.heads])
        self.groups = {"tower": list(self.module.parameters())}

    def rows(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The step's batch, which batch normalisation keeps in one piece: pixels [n, 3, size, size] and labels [n, classifiers].

        The sources have equal parts of it, to within one; a picture's labels for the classifiers of other sources are IGNORED.
        """
        rng = dialogues.generator(self.recipe.seed, step)
        names, batch = self.recipe.pictures, self.recipe.optim.batch
        pixels, labels, mirror = [], [], []
        for i, name in enumerate(names):
            known = pictures(name, "train")
            n = batch * (i + 1) // len(names) - batch * i // len(names)
            chosen = torch.from_numpy(rng.integers(len(known.pixels), size=n))
            pixels.append(known.pixels[chosen])
            labels.append(self._widened(name, known.labels[chosen]))
            mirror += [name in MIRRORED] * n
        return [(_shifted(torch.cat(pixels), rng, mirror), torch.cat(labels))]

    def held_out(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Nothing: dev scores say as much."""
        return []

    def held_out_sources(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def size(self, row: tuple[torch.Tensor, torch.Tensor]) -> int:
        """Images."""
        return len(row[0])

    def counts(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def packs(self) -> bool:
        """No: a row is a batch."""
        return False

    def describe(self, row: tuple[torch.Tensor, torch.Tensor]) -> str:
        """How many images."""
        return f"{len(row[0])} images"

    def weight(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> int:
        """Batches."""
        return len(rows)

    def loss(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Mean cross-entropy of each classifier, summed, a scalar."""
        self.module.train()
        ((pixels, labels),) = rows
        labels = labels.to(self.heads.weight.device)
        losses = [
            nn.functional.cross_entropy(logits, labels[:, column], ignore_index=IGNORED)
            for column, logits in enumerate(self._logits(pixels))
        ]
        return torch.stack(losses).sum()

    def score(self, split: str, limit: int | None) -> dict[str, Score]:
        """Each classifier over the pictures of its source whose label is known."""
        self.module.eval()
        by_name = {}
        for name in self.recipe.pictures:
            known = pictures(name, "test" if split == "test" else "dev")
            labels = self._widened(name, known.labels[:limit])
            with torch.inference_mode():
                logits = [self._logits(some) for some in known.pixels[:limit].split(256)]
            for column, classifier in enumerate(self.classes):
                if classifier in classifiers(name):
                    best = torch.cat([some[column] for some in logits]).argmax(1).cpu()
                    labelled = labels[:, column] != IGNORED
                    by_name[classifier] = Score(int((best == labels[:, column])[labelled].sum()), int(labelled.sum()))
        return by_name

    def save(self, folder: Path) -> None:
        """Write the tower, and the classifiers beside it."""
        import copy

        from safetensors.torch import save_file

        copy.deepcopy(self.tower).to(torch.bfloat16).save_pretrained(folder)
        save_file({name: tensor.to(torch.bfloat16) for name, tensor in self.heads.state_dict().items()}, folder / assets.HEADS)

    def load(self, folder: Path) -> None:
        """Put the weights of a saved folder in place of the trained ones."""
        from safetensors.torch import load_file
        from transformers import AutoModel

        with refused(f"{folder} cannot be loaded"):
            self.tower = load_whole(AutoModel, folder, dtype=torch.float32, use_safetensors=True)
        self.heads.load_state_dict(load_file(folder / assets.HEADS))
        self.module = nn.ModuleList([self.tower, self.heads])

    def _logits(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """pixels [n, 3, size, size] -> logits of each classifier [n, classes]."""
        features = self.tower(pixel_values=pixels.to(self.heads.weight.device)).last_hidden_state  # [n, C, h, w]
        return self.heads(features.mean((2, 3))).split(list(self.classes.values()), dim=1)

    def _widened(self, source: str, labels: torch.Tensor) -> torch.Tensor:
        """A source's labels in the columns of its classifiers, IGNORED in the others: [n, classifiers]."""
        wide = torch.full((len(labels), len(self.classes)), IGNORED)
        wide[:, [list(self.classes).index(classifier) for classifier in classifiers(source)]] = labels
        return wide


def _shifted(pixels: torch.Tensor, rng: np.random.Generator, mirror: Sequence[bool]) -> torch.Tensor:
    """Each image moved by up to SHIFT pixels (the border repeated), and where `mirror` allows it mirrored half of the time."""
    size = pixels.shape[-1]
    padded = nn.functional.pad(pixels, (SHIFT,) * 4, mode="replicate")
    moved = []
    for image, may in zip(padded, mirror, strict=True):
        top, left = rng.integers(2 * SHIFT + 1, size=2)
        image = image[:, top : top + size, left : left + size]
        moved.append(image.flip(-1) if rng.random() < 0.5 and may else image)
    return torch.stack(moved)
