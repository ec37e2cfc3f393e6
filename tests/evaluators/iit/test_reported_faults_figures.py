"""Reported faults of figures, one test each: what was wrong, and the right value."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluators import statistics
from evaluators.iit.turns import Asking, Course, prediction
from iit_bench.engine.run import Failure
from iit_bench.storage.tables import read_table, table_bytes
from iit_bench.types import Dialogue, Prediction, Question

# ---------------------------------------------------------------- means


@pytest.mark.parametrize("credits", [[0.25, 0.5, 0.75], [0.9, 1.0, 1.0], [0.3] * 8, [1.0, 1.0]])
def test_a_mean_of_partial_credits_without_a_zero_is_their_mean(credits: list[float]) -> None:
    """`x.all()` was taken for "all are 1", so that partial credits without a zero had the mean 1; right: numpy's mean."""
    clusters, strata = range(len(credits)), np.zeros(len(credits), dtype=int)
    assert statistics.mean(credits, clusters).value == pytest.approx(np.mean(credits), abs=1e-15)
    assert statistics.weighted_mean(credits, clusters, strata).value == pytest.approx(np.mean(credits), abs=1e-15)


# ---------------------------------------------------------------- histories


def test_a_prediction_names_the_clusters_of_its_history() -> None:
    """Predictions did not hold which images and passages their histories were of; right: one cluster per earlier turn, in order."""
    questions = tuple(
        Question(f"q{i}", "T", "facts", "capital", f"cluster {i}", "en", "?", (), ("a", "b"), 0, "a", fixed_order=False) for i in range(3)
    )
    dialogue = Dialogue("d", "TTT", 0.0, "q2", ("q0", "q1", "q2"), "q2")
    course, failure = Course(dialogue, questions), Failure("item", "broken", "")
    assert prediction(course, 2, failure, Asking()).history_clusters == ("cluster 0", "cluster 1")
    assert prediction(course, 0, failure, Asking(history="own")).history_clusters == ()


def test_predictions_of_an_older_folder_are_read_without_the_new_column(predict, tmp_path) -> None:
    """A table without a column that has a default was refused; right: the default is taken."""
    rows = [dataclasses.replace(predict("TT", f"q{i}"), history_clusters=(f"h{i}",)) for i in range(3)]
    path = tmp_path / "predictions.parquet"
    path.write_bytes(table_bytes(Prediction, rows))
    assert read_table(Prediction, [path]) == rows
    old = tmp_path / "old.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["history_clusters"]), old)
    assert read_table(Prediction, [old]) == [dataclasses.replace(row, history_clusters=()) for row in rows]
