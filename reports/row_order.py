"""The order of the rows of a leaderboard: models with an IIT run in blocks, by their scores, then the others by their tasks.

Only models that were asked every tier rank by the IIT score. Text LLMs, which cannot run them all, and runs that were asked some tiers are
in blocks of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from iit_bench.storage.runs import IitRun
from iit_bench.types import Figure, tier_order


class Block(IntEnum):
    """The block that an IIT run is in, in the order of the page."""

    WHOLE = 0  # every tier was asked for, and the model takes images
    TEXT = 1  # every tier was asked for, and the model takes no images
    SUBSET = 2  # some tiers were asked for


HEADINGS = {Block.WHOLE: "models that take images", Block.TEXT: "text LLMs", Block.SUBSET: "runs of some tiers"}


def block_of(run: IitRun) -> Block:
    """The block that a run is in."""
    if run.results.subset_score:
        return Block.SUBSET
    return Block.TEXT if run.run["model"].get("accepts_images") is False else Block.WHOLE


def iit_rank(run: IitRun, name: str) -> tuple[Block, list[tuple[float, int, str]], list[float], str]:
    """Sort key of an IIT run: by block; runs of the same tiers together; best score first, one that is not available last; by name."""
    results, block = run.results, block_of(run)
    scores = {
        Block.WHOLE: (results.iit, results.t_score),
        Block.TEXT: (results.text_only_score,),
        Block.SUBSET: (results.subset_score,),
    }[block]
    figures = [figures.get("acc") for figures in scores]
    values = [1.0 if figure is None or figure.value is None else -figure.value for figure in figures]
    return block, [tier_order(tier) for tier in results.subset_tiers], values, name


def tasks_rank(figures: Sequence[Figure | None], name: str) -> tuple[list[tuple[int, float]], str]:
    """Sort key of a model without an IIT run: the highest figure of the first column first; a missing one comes last.

    Args:
        figures: the model's accuracies, in the order of the page's columns; None where it has none.
        name: decides where all figures are equal.
    """
    values = [(1, 0.0) if figure is None or figure.value is None else (0, -figure.value) for figure in figures]
    return values, name
