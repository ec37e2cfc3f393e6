"""Projector only: the decoder keeps its weights, so what it forgets of text alone is nothing.

One learning rate, `optim.lr.projector`; in stage 2 it starts from stage 1 of `llava` and trains as many steps as the others.
"""

from __future__ import annotations

from iit_bench.training.rivals.llava import Llava


class Projector(Llava):
    """Trains the projector."""
