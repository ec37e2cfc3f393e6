"""Answer many requests with one model: dedupe, plan, batch (or send several at once to a server), log, and record failures per item."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iit_bench.engine.concurrent import ask_concurrently
from iit_bench.engine.faults import FirstItems, OutOfMemory, guarded
from iit_bench.engine.log import Response, ResponseLog
from iit_bench.engine.plan import BatchLimits, Request, model_identity, plan_batches, request_key
from iit_bench.errors import ItemError, MachineError
from iit_bench.models.contract import (
    GenerateRequest,
    Model,
    RollingRequest,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    TextScoreRequest,
    as_text_model,
)


@dataclass(frozen=True)
class Failure:
    """Why a request has no answer. `kind` "item": resuming will not change that; "machine": resuming may."""

    kind: str
    reason: str
    detail: str


@dataclass
class Answers:
    """What `answer` returns: one entry per request, in order, a response or a failure; and how many of them were new."""

    answers: list[Response | Failure] = field(default_factory=list)
    distinct: int = 0  # number of distinct requests
    computed: int = 0  # of them, answered now; the rest came from the log or failed


def answer(
    model: Model,
    requests: Sequence[Request],
    log: ResponseLog,
    limits: BatchLimits,
    advance: Callable[[int], None] = lambda done: None,
) -> Answers:
    """Answer `requests`, each distinct one once. Batches are planned over all of them before finished work is taken out.

    `advance` is called with the number of entries of `requests` that were settled since the last call.

    Raises:
        UserError: the model, or the server behind it, rejects the requests or is unavailable, or the first of them all fail in one way
            (`faults.FirstItems`); answers so far are in the log.
    """
    identity = model_identity(model.info)
    keys = [request_key(request, identity) for request in requests]
    distinct = dict(zip(keys, requests, strict=True))
    copies = dict.fromkeys(distinct, 0)
    for key in keys:
        copies[key] += 1
    failures: dict[str, Failure] = {}
    lengths = {}
    first = FirstItems()
    if any(key in log.responses for key in distinct):
        first.answered()
    for key, request in distinct.items():
        try:
            lengths[key], distinct[key] = guarded(lambda request=request: _fitted(model, request))  # type: ignore[misc]
        except ItemError as error:
            failures[key] = Failure("item", error.reason, error.detail)
            first.failed(error)
        except MachineError as error:
            failures[key] = Failure("machine", error.reason, error.detail)
    advance(sum(copies[key] for key in failures))
    if at_once := model.capabilities.requests_at_once:
        missing = {key: distinct[key] for key in lengths if key not in log.responses}
        advance(sum(copies[key] for key in lengths if key not in missing))
        failed = ask_concurrently(
            lambda request: guarded(lambda: _call(model, [request])[0]), missing, log, at_once, lambda key: advance(copies[key]), first
        )
        failures |= {key: Failure("item", error.reason, error.detail) for key, error in failed.items()}
        return Answers([log.responses.get(key) or failures[key] for key in keys], len(distinct), len(missing))
    computed = 0
    for batch in plan_batches(lengths, limits):
        if any(key not in log.responses for key in batch):
            computed += sum(key not in log.responses for key in batch)
            failures |= _compute(model, {key: distinct[key] for key in batch}, log, first)
        advance(sum(copies[key] for key in batch))
    return Answers([log.responses.get(key) or failures[key] for key in keys], len(distinct), computed)


def _fitted(model: Model, request: Request) -> tuple[int, Request]:
    """The tokens of a request's longest row, and the request with as much room for reasoning as the model's context leaves.

    Its key stays that of what was asked: what is left depends on the prompt and the model only.
    """
    if not isinstance(request, (ScoreRequest, GenerateRequest)):
        return as_text_model(model).text_tokens(request), request
    length = model.request_tokens(request)
    limit = model.info.max_context
    if limit is None or length <= limit:
        return length, request
    spare = request.reasoning_tokens if isinstance(request, GenerateRequest) else 0
    if length - spare > limit:
        raise ItemError("context overflow", f"{length - spare} tokens, the model takes {limit}")
    assert isinstance(request, GenerateRequest)
    return limit, replace(request, reasoning_tokens=spare - (length - limit))


def _compute(model: Model, batch: dict[str, Request], log: ResponseLog, first: FirstItems) -> dict[str, Failure]:
    """Answer one batch into the log. If a batch fails, its halves are tried, down to single requests."""
    try:
        answers = guarded(lambda: _call(model, list(batch.values())))
        log.append(dict(zip(batch, answers, strict=True)))
        first.answered()
        return {}
    except ItemError as error:
        if len(batch) == 1:
            first.failed(error)
        failure = Failure("item", error.reason, error.detail)
    except OutOfMemory as error:
        failure = Failure("machine", error.reason, error.detail)
    except MachineError as error:
        return {key: Failure("machine", error.reason, error.detail) for key in batch}
    if len(batch) == 1:
        return dict.fromkeys(batch, failure)
    keys = list(batch)
    half = len(keys) // 2
    failures: dict[str, Failure] = {}
    for part in (keys[:half], keys[half:]):
        failures |= _compute(model, {key: batch[key] for key in part}, log, first)
    return failures


def _call(model: Model, requests: Sequence[Request]) -> Sequence[Response]:
    """Requests of different kinds never share a batch: an evaluator asks one kind at a time."""
    ask = _METHODS[type(requests[0])]
    results: Sequence[Response] = ask(model, requests)
    scores = [logprob for result in results if isinstance(result, ScoreResult) for logprob in result.logprobs]
    if not all(math.isfinite(logprob) for logprob in scores):
        raise ItemError("score is not a finite number", "an overflow in the model; use a wider --dtype")
    return results


_METHODS: dict[type, Callable[[Model, Any], Sequence[Response]]] = {
    ScoreRequest: lambda model, batch: model.score(batch),
    GenerateRequest: lambda model, batch: model.generate(batch),
    TextScoreRequest: lambda model, batch: as_text_model(model).score_text(batch),
    RollingRequest: lambda model, batch: as_text_model(model).score_rolling(batch),
    TextGenerateRequest: lambda model, batch: as_text_model(model).generate_text(batch),
}
