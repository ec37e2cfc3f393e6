"""The order of the rows of a leaderboard: models with an IIT run by their IIT scores, then the others by their tasks, column by column."""

from __future__ import annotations

from collections.abc import Sequence

from iit_bench.storage.runs import IitRun
from iit_bench.types import Figure


def iit_rank(run: IitRun, name: str) -> tuple[float, float, str]:
    """Sort key of an IIT run: best IIT score first, then T score, then by name; a score that is not available comes last."""
    scores = (run.results.iit.get("acc"), run.results.t_score.get("acc"))
    iit, text = (1.0 if figure is None or figure.value is None else -figure.value for figure in scores)
    return iit, text, name


def tasks_rank(figures: Sequence[Figure | None], name: str) -> tuple[list[tuple[int, float]], str]:
    """Sort key of a model without an IIT run: the highest figure of the first column first; a missing one comes last.

    Args:
        figures: the model's accuracies, in the order of the page's columns; None where it has none.
        name: decides where all figures are equal.
    """
    values = [(1, 0.0) if figure is None or figure.value is None else (0, -figure.value) for figure in figures]
    return values, name
