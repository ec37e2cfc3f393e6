"""Answer many requests with one model: dedupe, plan, batch (or send several at once to a server), log, and record failures per item."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from iit_bench.engine.bulk import ask_in_bulk
from iit_bench.engine.concurrent import ask_concurrently
from iit_bench.engine.faults import FirstItems, OutOfMemory, guarded
from iit_bench.engine.log import Response, ResponseLog
from iit_bench.engine.plan import BatchLimits, Request, model_identity, plan_batches, plan_rows, request_key
from iit_bench.errors import ItemError, MachineError
from iit_bench.models.contract import (
    GenerateRequest,
    Model,
    RollingRequest,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    TextScoreRequest,
    Way,
    as_text_model,
)
from iit_bench.token_trees import TokenPath


@dataclass(frozen=True)
class Failure:
    """Why a request has no answer. `kind` "item": resuming will not change that; "machine": resuming may."""

    kind: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Work:
    """A distinct request as it is asked: with as much room for reasoning as the model's context leaves, its length, and its paths."""

    request: Request
    tokens: int  # of its longest row
    paths: Sequence[TokenPath] = ()  # where it goes through the model as part of a tree


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
    work: dict[str, Work] = {}
    first = FirstItems()
    if any(key in log.responses for key in distinct):
        first.answered()
    for key, request in distinct.items():
        try:
            work[key] = guarded(lambda request=request: _fitted(model, request, limits.way))  # type: ignore[misc]
        except ItemError as error:
            failures[key] = Failure("item", error.reason, error.detail)
            first.failed(error)
        except MachineError as error:
            failures[key] = Failure("machine", error.reason, error.detail)
    advance(sum(copies[key] for key in failures))
    if at_once := model.capabilities.requests_at_once:
        missing = {key: one.request for key, one in work.items() if key not in log.responses}
        advance(sum(copies[key] for key in work if key not in missing))
        if model.capabilities.in_bulk:
            failed = ask_in_bulk(model, missing, log, lambda key: advance(copies[key]))
        else:
            failed = ask_concurrently(
                lambda request: guarded(lambda: _call(model, [Work(request, 0)])[0]),
                missing,
                log,
                at_once,
                lambda key: advance(copies[key]),
                first,
            )
        failures |= {key: Failure("item", error.reason, error.detail) for key, error in failed.items()}
        return Answers([log.responses.get(key) or failures[key] for key in keys], len(distinct), len(missing))
    computed = 0
    for batch in plan(work, limits):
        if any(key not in log.responses for key in batch):
            computed += sum(key not in log.responses for key in batch)
            failures |= _compute(model, {key: work[key] for key in batch}, log, first)
        advance(sum(copies[key] for key in batch))
    return Answers([log.responses.get(key) or failures[key] for key in keys], len(distinct), computed)


def plan(work: Mapping[str, Work], limits: BatchLimits) -> list[list[str]]:
    """Which requests go through the model together, as lists of keys: rows of a tree, or padded batches."""
    rows = plan_rows({key: one.paths for key, one in work.items() if one.paths}, limits)
    return rows + plan_batches({key: one.tokens for key, one in work.items() if not one.paths}, limits)


def _fitted(model: Model, request: Request, way: Way) -> Work:
    """The request as it is asked. Its key stays that of what was asked: what is left depends on the prompt and the model only."""
    if way == "tree" and isinstance(request, (ScoreRequest, TextScoreRequest, RollingRequest)) and (paths := model.paths(request)):
        longest = max(path.longest for path in paths)
        if isinstance(request, ScoreRequest):
            _check_context(longest, model.info.max_context)
        return Work(request, longest, paths)
    if not isinstance(request, (ScoreRequest, GenerateRequest)):
        return Work(request, as_text_model(model).text_tokens(request))
    length = model.request_tokens(request)
    limit = model.info.max_context
    if limit is None or length <= limit:
        return Work(request, length)
    spare = request.reasoning_tokens if isinstance(request, GenerateRequest) else 0
    _check_context(length - spare, limit)
    assert isinstance(request, GenerateRequest)
    return Work(replace(request, reasoning_tokens=spare - (length - limit)), limit)


def _check_context(tokens: int, limit: int | None) -> None:
    if limit is not None and tokens > limit:
        raise ItemError("context overflow", f"{tokens} tokens, the model takes {limit}")


def _compute(model: Model, batch: dict[str, Work], log: ResponseLog, first: FirstItems) -> dict[str, Failure]:
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


def _call(model: Model, batch: Sequence[Work]) -> Sequence[Response]:
    """Requests of different kinds never share a batch: an evaluator asks one kind at a time."""
    requests: list[Any] = [one.request for one in batch]
    in_tree = bool(batch[0].paths)
    results = model.score_paths(requests, [one.paths for one in batch]) if in_tree else _METHODS[type(requests[0])](model, requests)
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
