"""Text replay: LLaVA-style full tuning in which some of the turns are text that the base LLM was trained on.

The same as method llava with `data.replay`, which any method can have.
"""

from __future__ import annotations

from iit_bench.training import dialogues
from iit_bench.training.dialogues import Draw
from iit_bench.training.records import Replay as TextReplay
from iit_bench.training.rivals.llava import Llava


class Replay(Llava):
    """Each turn is text with probability `share`; a turn like another is of its kind."""

    def draw(self, draw: Draw) -> Draw:
        """Mix the text sources in."""
        return dialogues.replayed(draw, TextReplay(self.options.share, self.options.sources))
