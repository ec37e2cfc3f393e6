"""What an answer must be before it enters the log, however it came: from a model that runs here, a server, or a provider's batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from iit_bench.engine.log import Response
from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateResult, RollingRequest, ScoreRequest, ScoreResult, TextScoreRequest
from iit_bench.storage.table_values import HIGHEST_LOGPROB


def refuse_impossible(requests: Sequence[Any], results: Sequence[Response]) -> None:
    """Refuse answers that cannot be: of another kind, of another number of replies, with scores that are no log-probabilities.

    Args:
        requests: what was asked.
        results: the answer to each.

    Raises:
        ItemError: one is.
    """
    if len(results) != len(requests):
        raise ItemError("answer of another kind", f"{len(results)} answers to {len(requests)} requests")
    for request, result in zip(requests, results, strict=True):
        if not isinstance(request, (ScoreRequest, TextScoreRequest, RollingRequest)):
            if not isinstance(result, GenerateResult):
                raise ItemError("answer of another kind", f"a reply was asked for, {type(result).__name__} came")
            continue
        if not isinstance(result, ScoreResult):
            raise ItemError("answer of another kind", f"scores were asked for, {type(result).__name__} came")
        asked = 1 if isinstance(request, RollingRequest) else len(request.continuations)
        if {len(result.logprobs), len(result.tokens), len(result.greedy)} != {asked}:
            raise ItemError("answer of another kind", f"scores of {len(result.logprobs)} replies came, {asked} were asked for")
    scores = [logprob for result in results if isinstance(result, ScoreResult) for logprob in result.logprobs]
    if not all(math.isfinite(logprob) for logprob in scores):
        raise ItemError(
            "score is not a finite number", "the model or its server overflowed; a model that runs here may need a wider --dtype"
        )
    if max(scores, default=0.0) > HIGHEST_LOGPROB:
        raise ItemError("log-probability is above 0", f"the model or its server returned {max(scores):g} for a reply")
