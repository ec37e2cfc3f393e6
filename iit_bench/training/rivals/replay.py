"""Text replay: LLaVA-style full tuning in which some of the turns are text that the base LLM was trained on."""

from __future__ import annotations

import numpy as np

from iit_bench.training import dialogues
from iit_bench.training.dialogues import Draw
from iit_bench.training.rivals.llava import Llava
from iit_bench.types import Question


class Replay(Llava):
    """Each turn is text with probability `share`; a turn like another is of its kind."""

    def draw(self, draw: Draw) -> Draw:
        """Mix the text sources in."""
        text, share = dialogues.mixed(self.options.sources), self.options.share

        def mixed(rng: np.random.Generator, like: Question | None) -> Question:
            replayed = rng.random() < share if like is None else like.modality == "T"
            return (text if replayed else draw)(rng, like)

        return mixed
