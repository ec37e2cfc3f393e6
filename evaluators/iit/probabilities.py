"""The probabilities that a run's log-probabilities give to the choices of each target (docs/spec/iit.md#calibration)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluators import statistics
from evaluators.iit.columns import Metric, Turns
from evaluators.statistics import Ints
from evaluators.statistics.calibration import Calibration, brier_scores, calibration, softmax
from iit_bench.errors import UserError
from iit_bench.storage.runs import IitRun
from iit_bench.types import Style

POOLS = {"text": "T", "visual": "V", "all": "TV"}  # targets, by the modality that their tiers end in


def reason_without(run: Mapping[str, Any]) -> str:
    """Why the run of this run.json has no probabilities of choices; "" where it has them."""
    if run["scoring"] != "loglikelihood":
        return "replies were generated; under --scoring loglikelihood choices have probabilities."
    if run["model"].get("parameters") == 0:  # None is a server's: not known
        return "a baseline chooses without probabilities."
    return ""


def calibrations(run: IitRun, turns: Turns, metric: Metric) -> dict[str, Calibration]:
    """Calibration over the finished targets of each pool that has some.

    Args:
        run: one for which `reason_without` is "".
        turns: `Turns.of_run` of it.
        metric: "acc" for the softmax of the sums of log-probabilities, "acc_norm" for that of the sums divided by characters.

    Raises:
        UserError: the table cannot be read, or has other numbers of log-probabilities and choices.
    """
    done = turns.take(turns.is_target & turns.finished)
    scores, sizes = _scores(run, metric, run.run["style"])
    if np.any((sizes[turns.row] != turns.n_choices) & turns.finished):
        raise UserError(f"run {str(run.path)!r} has targets without a log-probability per choice; evaluate it again with --fresh")
    if not len(done):
        return {}
    start = _starts(sizes[done.row])
    probability = softmax(scores[np.arange(start[-1]) + np.repeat(_starts(sizes)[done.row] - start[:-1], np.diff(start))], start)
    del scores
    confidence = np.maximum.reduceat(probability, start[:-1])
    brier = brier_scores(probability, start, done.answer.astype(np.int64))
    right = done.right(metric)
    cluster = statistics.components(done.group.code, done.cluster.code)
    ending = np.array([tier[-1] for tier in done.tier.names])[done.tier.code]
    found = {}
    for name, endings in POOLS.items():
        rows = np.flatnonzero(np.isin(ending, list(endings)))
        if len(rows):
            found[name] = calibration(confidence[rows], right[rows], brier[rows], cluster[rows], done.histories.take(rows))
    return found


def _scores(run: IitRun, metric: Metric, style: Style) -> tuple[Any, Ints]:
    """Log-probabilities of all choices, and how many each turn has, in the order of the table."""
    per_character = metric == "acc_norm" and style != "letters"  # a letter is one character
    scores, sizes = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    for batch in run.prediction_batches(("logprobs", *(("choices", "outcome") if per_character else ()))):
        logprobs = batch["logprobs"]
        sizes.append(np.asarray(logprobs.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64))
        scores.append(np.asarray(logprobs.flatten().to_numpy(zero_copy_only=False), dtype=np.float64))
        if per_character:
            lengths = _lengths(batch)
            if len(lengths) != len(scores[-1]):
                raise UserError(f"run {str(run.path)!r} has targets without a log-probability per choice; evaluate it again with --fresh")
            scores[-1] = scores[-1] / np.maximum(lengths, 1)
    return np.concatenate(scores), np.concatenate(sizes)


def _lengths(batch: Mapping[str, Any]) -> Any:
    """Characters of the choices of turns that did not fail: a failed one has no log-probabilities."""
    import pyarrow.compute as pc

    texts = batch["choices"].filter(pc.not_equal(batch["outcome"], "error")).flatten()
    return np.asarray(pc.utf8_length(texts).to_numpy(zero_copy_only=False))


def _starts(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
