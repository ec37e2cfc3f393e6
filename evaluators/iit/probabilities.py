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


def calibrations(run: IitRun, metric: Metric) -> dict[str, Calibration]:
    """Calibration over the finished targets of each pool that has some.

    Args:
        run: one for which `reason_without` is "".
        metric: "acc" for the softmax of the sums of log-probabilities, "acc_norm" for that of the sums divided by characters.

    Raises:
        UserError: the table cannot be read, or has other numbers of log-probabilities and choices.
    """
    turns = Turns.of_run(run)
    scores, sizes = _scores(run, metric, run.run["style"])
    if np.any((sizes != turns.n_choices) & turns.finished):
        raise UserError(f"run {str(run.path)!r} has targets without a log-probability per choice; evaluate it again with --fresh")
    wanted = turns.is_target & turns.finished
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes[wanted])])
    probability = softmax(scores[np.repeat(wanted, sizes)], start) if wanted.any() else np.zeros(0)
    done = turns.take(wanted)
    if not len(done):
        return {}
    confidence = np.maximum.reduceat(probability, start[:-1])
    brier = brier_scores(probability, start, done.answer)
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
    """Log-probabilities of all choices, and how many each turn has, in the order of `Turns.of_run`."""
    import pyarrow.compute as pc

    table = run.prediction_columns(("dialogue", "position", "logprobs", "choices", "outcome"))
    logprobs, choices = table["logprobs"], table["choices"]
    sizes = np.asarray(logprobs.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64)
    scores = np.asarray(logprobs.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    if metric == "acc_norm" and style != "letters":  # a letter is one character
        texts = choices.filter(pc.not_equal(table["outcome"], "error")).flatten()  # a failed turn has no log-probabilities
        lengths = np.asarray(pc.utf8_length(texts).to_numpy(zero_copy_only=False))
        if len(lengths) != len(scores):
            raise UserError(f"run {str(run.path)!r} has targets without a log-probability per choice; evaluate it again with --fresh")
        scores = scores / np.maximum(lengths, 1)
    dialogue, position = table["dialogue"].to_pylist(), table["position"].to_pylist()
    order = np.array(sorted(range(len(dialogue)), key=lambda row: (dialogue[row], position[row])), dtype=np.int64)
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    rows = np.repeat(start[order], sizes[order])
    ordered_start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes[order])])
    within = np.arange(len(rows)) - np.repeat(ordered_start[:-1], sizes[order])
    return scores[rows + within], sizes[order]
