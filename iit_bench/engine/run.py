"""Answer many requests with one model: dedupe, plan, batch (or send several at once to a server), log, and record failures per item."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from iit_bench.engine.answers import refuse_impossible
from iit_bench.engine.bulk import ask_in_bulk
from iit_bench.engine.concurrent import ask_concurrently
from iit_bench.engine.faults import FirstItems, OutOfMemory, guarded
from iit_bench.engine.log import Failure, Response, ResponseLog
from iit_bench.engine.plan import BatchLimits, Request, batch_key, chat_key, model_identity, plan_batches, plan_rows, request_key
from iit_bench.errors import ItemError, MachineError, OthersAtWork, UserError
from iit_bench.models.contract import (
    GenerateRequest,
    Model,
    RollingRequest,
    ScoreRequest,
    TextGenerateRequest,
    TextScoreRequest,
    Way,
    as_text_model,
)
from iit_bench.token_trees import TokenPath, symbols

_NO_PROMPT = symbols(())
NOT_ASKED = Failure("machine", "not answered", "no process has answered it; repeat the command of the run")


@dataclass(frozen=True, slots=True)
class Work:
    """A distinct request as it is asked: with as much room for reasoning as the model's context leaves, its length, and its paths."""

    request: Request
    tokens: int  # of its longest row
    paths: Sequence[TokenPath] = ()  # where it goes through the model as part of a tree
    # In symbols, of a reply to generate where the model reads common beginnings once.
    prompt: array[int] = field(default_factory=lambda: _NO_PROMPT)
    chat: str = ""  # sha256 of its messages where the model reads equal chats in a row once


class InOrder(Sequence[Response | Failure]):
    """The outcome of each request, found in the log when it is asked for, while the log is open: a long log is never in memory."""

    def __init__(self, keys: Sequence[str], responses: Mapping[str, Response], failures: Mapping[str, Failure]) -> None:
        self._keys, self._responses, self._failures = keys, responses, failures

    @overload
    def __getitem__(self, place: int) -> Response | Failure: ...
    @overload
    def __getitem__(self, place: slice) -> list[Response | Failure]: ...
    def __getitem__(self, place: int | slice) -> Response | Failure | list[Response | Failure]:
        if isinstance(place, slice):
            return [self._of(key) for key in self._keys[place]]
        return self._of(self._keys[place])

    def __len__(self) -> int:
        return len(self._keys)

    def _of(self, key: str) -> Response | Failure:
        return self._responses.get(key) or self._failures[key]


@dataclass(frozen=True)
class Answers:
    """What `answer` returns: one entry per request, in order, a response or a failure; and how many of them were new."""

    answers: Sequence[Response | Failure]
    distinct: int  # number of distinct requests
    computed: int  # of them, answered now; the rest came from the log or failed


def answer(
    model: Model,
    requests: Sequence[Request],
    log: ResponseLog,
    limits: BatchLimits,
    advance: Callable[[int], None] = lambda done: None,
    *,
    wait: bool = False,
) -> Answers:
    """Answer `requests`, each distinct one once. Batches are planned over all of them before finished work is taken out.

    `advance` is called with the number of entries of `requests` that were settled since the last call. Where several processes work on the
    run, this one takes the batches that no other has; with `wait`, it waits for those too: later requests depend on their answers.

    Raises:
        UserError: the model, or the server behind it, rejects the requests or is unavailable, or the first of them all fail in one way
            (`faults.FirstItems`); answers so far are in the log.
        OthersAtWork: other processes have the rest of the requests in hand.
    """
    identity = model_identity(model.info)
    keys = [request_key(request, identity) for request in requests]
    distinct = dict(zip(keys, requests, strict=True))
    if model.capabilities.recorded:
        missing = {key: log.noted.get(key, NOT_ASKED) for key in distinct if key not in log.responses}
        return Answers(InOrder(keys, log.responses, missing), len(distinct), 0)
    settled = _Settled(Counter(keys), advance)
    log.heard = settled
    first = FirstItems()
    if any(key in log.responses for key in distinct):
        first.answered()
    work, failures = _fit_all(model, distinct, log, limits, first)
    settled([*failures, *(key for key in distinct if key in log.responses)])
    computed = sum(key not in log.responses for key in work)
    if model.capabilities.in_bulk:
        failures |= _ask_at_once(model, work, log, settled)
    elif model.capabilities.requests_at_once:
        failures |= _ask_server(model, work, log, first, settled, wait)
    else:
        failures |= _compute_all(model, plan(work, limits), work, log, first, settled, wait)
    log.heard = lambda keys: None
    return Answers(InOrder(keys, log.responses, log.failures | failures), len(distinct), computed)


class _Settled:
    """Reports the entries of a job whose requests have outcomes, each once."""

    def __init__(self, copies: Counter[str], advance: Callable[[int], None]) -> None:
        self._copies, self._advance = copies, advance

    def __call__(self, keys: Iterable[str]) -> None:
        if count := sum(self._copies.pop(key, 0) for key in keys):
            self._advance(count)


def _fit_all(
    model: Model, requests: Mapping[str, Request], log: ResponseLog, limits: BatchLimits, first: FirstItems
) -> tuple[dict[str, Work], dict[str, Failure]]:
    """Each request as it is asked, and those that cannot be.

    Raises:
        UserError: the machine failed one, of which no length is known, so that the others would be put into other rows and batches.
    """
    work: dict[str, Work] = {}
    failures: dict[str, Failure] = {}
    for key, request in requests.items():
        try:
            work[key] = guarded(lambda request=request: _fitted(model, request, limits.way))  # type: ignore[misc]
        except ItemError as error:
            failures[key] = Failure("item", error.reason, error.detail)
            first.failed(error)
        except MachineError as error:
            if not (model.capabilities.in_bulk or model.capabilities.requests_at_once):
                raise UserError(
                    f"a request cannot be prepared ({error.reason}), so what runs together cannot be planned; answers so far are kept, "
                    "repeat the command to resume, with more free memory if it was too little"
                ) from error
            failures[key] = Failure("machine", error.reason, error.detail)
    return work, failures


def _compute_all(
    model: Model,
    pieces: Sequence[Sequence[str]],
    work: Mapping[str, Work],
    log: ResponseLog,
    first: FirstItems,
    settled: Callable[[Iterable[str]], None],
    wait: bool,
) -> dict[str, Failure]:
    """Compute the pieces of the plan of which an answer is missing, whole. Returns the requests that failed here."""
    failures: dict[str, Failure] = {}

    def lacks(piece: Sequence[str]) -> bool:
        return any(key not in log.responses and key not in failures and key not in log.failures for key in piece)

    def done(piece: Sequence[str]) -> bool:
        if lacks(piece):
            if not log.take(piece):
                return False
            if lacks(piece):
                failed = _compute(model, {key: work[key] for key in piece}, log, first)
                log.note(failed)
                failures.update(failed)
            log.release(piece)
        settled(piece)
        return True

    _until_done([pieces[i] for i in log.order(len(pieces))], lambda open_: [piece for piece in open_ if not done(piece)], log, wait)
    return failures


def _ask_server(
    model: Model, work: Mapping[str, Work], log: ResponseLog, first: FirstItems, settled: Callable[[Iterable[str]], None], wait: bool
) -> dict[str, Failure]:
    """Send the requests of which an answer is missing, several at once. Returns those that failed here."""
    at_once = model.capabilities.requests_at_once
    assert at_once is not None
    failures: dict[str, Failure] = {}

    def ask(request: Request) -> Response:
        return guarded(lambda: _call(model, [Work(request, 0)])[0])

    def left(pieces: Sequence[Sequence[str]]) -> list[Sequence[str]]:
        requests = {key: work[key].request for key, *_ in pieces}
        asked = ask_concurrently(ask, requests, log, at_once, lambda key: settled([key]), first)
        failures.update({key: Failure("item", error.reason, error.detail) for key, error in asked.failed.items()})
        return [[key] for key in asked.held]

    order = [list(work)[i] for i in log.order(len(work))]
    _until_done([[key] for key in order if key not in log.responses and key not in log.failures], left, log, wait)
    return failures


def _ask_at_once(model: Model, work: Mapping[str, Work], log: ResponseLog, settled: Callable[[Iterable[str]], None]) -> dict[str, Failure]:
    """Send the requests of which an answer is missing all at once. Returns those that failed.

    Raises:
        UserError: several processes work on the run.
    """
    if not log.alone:
        raise UserError(f"model {model.info.name!r} takes a whole job at once, from one process; start one process only")
    missing = {key: one.request for key, one in work.items() if key not in log.responses}
    failed = ask_in_bulk(model, missing, log, lambda key: settled([key]))
    return {key: Failure("item", error.reason, error.detail) for key, error in failed.items()}


def _until_done(
    pieces: Sequence[Sequence[str]], left: Callable[[Sequence[Sequence[str]]], Sequence[Sequence[str]]], log: ResponseLog, wait: bool
) -> None:
    """Go through pieces of work until none is left; `left` does those that it can and returns those that other processes have.

    Raises:
        OthersAtWork: other processes have all that are left, and they are not to be waited for.
    """
    while pieces:
        held = left(pieces)
        if len(held) == len(pieces):
            if not wait:
                count = sum(map(len, held))
                raise OthersAtWork(f"{count} request{'s are' if count > 1 else ' is'} left, in the hands of other processes")
            if log.take(held[0], wait=True):  # its process has done it, or has ended
                log.release(held[0])
        pieces = held


def plan(work: Mapping[str, Work], limits: BatchLimits) -> list[list[str]]:
    """Which requests go through the model together, as lists of keys: rows of a tree, or padded batches."""
    rows = plan_rows({key: one.paths for key, one in work.items() if one.paths}, limits)
    others = {key: one for key, one in work.items() if not one.paths} if rows else work
    prompts = {key: one.prompt for key, one in others.items()} if any(one.prompt for one in others.values()) else None
    chats = {key: one.chat for key, one in others.items() if one.chat}
    return rows + plan_batches({key: one.tokens for key, one in others.items()}, limits, prompts, chats)


def _fitted(model: Model, request: Request, way: Way) -> Work:
    """The request as it is asked. Its key stays that of what was asked: what is left depends on the prompt and the model only."""
    if way == "tree" and isinstance(request, (ScoreRequest, TextScoreRequest, RollingRequest)) and (paths := model.paths(request)):
        longest = max(path.longest for path in paths)
        if isinstance(request, ScoreRequest):
            _check_context(longest, model.info.max_context)
        return Work(request, longest, paths)
    if not isinstance(request, (ScoreRequest, GenerateRequest)):
        return Work(request, as_text_model(model).text_tokens(request), prompt=_prompt(model, request))
    length = model.request_tokens(request)
    limit = model.info.max_context
    if limit is None or length <= limit:
        chat = chat_key(request) if model.reads_alone and isinstance(request, ScoreRequest) else ""
        return Work(request, length, prompt=_prompt(model, request), chat=chat)
    spare = request.reasoning_tokens if isinstance(request, GenerateRequest) else 0
    _check_context(length - spare, limit)
    assert isinstance(request, GenerateRequest)
    return Work(replace(request, reasoning_tokens=spare - (length - limit)), limit, prompt=_prompt(model, request))


def _prompt(model: Model, request: Request) -> array[int]:
    return model.prompt(request) if isinstance(request, (GenerateRequest, TextGenerateRequest)) else _NO_PROMPT


def _check_context(tokens: int, limit: int | None) -> None:
    if limit is not None and tokens > limit:
        raise ItemError("context overflow", f"{tokens} tokens, the model takes {limit}")


def _compute(model: Model, batch: dict[str, Work], log: ResponseLog, first: FirstItems) -> dict[str, Failure]:
    """Answer one batch into the log. If a batch fails, its halves are tried, down to single requests.

    That one does not fit the memory is recorded, because scores depend on what is computed together: a resumed run splits it likewise,
    also where it has more memory.
    """
    name = batch_key(batch)
    if name in log.splits:
        return _compute_halves(model, batch, log, first)
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
    if failure.kind == "machine":
        log.split(name)
    return _compute_halves(model, batch, log, first)


def _compute_halves(model: Model, batch: dict[str, Work], log: ResponseLog, first: FirstItems) -> dict[str, Failure]:
    keys = list(batch)
    half = len(keys) // 2
    failures: dict[str, Failure] = {}
    for part in (keys[:half], keys[half:]):
        if any(key not in log.responses for key in part):
            failures |= _compute(model, {key: batch[key] for key in part}, log, first)
    return failures


def _call(model: Model, batch: Sequence[Work]) -> Sequence[Response]:
    """Requests of different kinds never share a batch: an evaluator asks one kind at a time."""
    requests: list[Any] = [one.request for one in batch]
    in_tree = bool(batch[0].paths)
    results = model.score_paths(requests, [one.paths for one in batch]) if in_tree else _METHODS[type(requests[0])](model, requests)
    refuse_impossible(requests, results)
    return results


_METHODS: dict[type, Callable[[Model, Any], Sequence[Response]]] = {
    ScoreRequest: lambda model, batch: model.score(batch),
    GenerateRequest: lambda model, batch: model.generate(batch),
    TextScoreRequest: lambda model, batch: as_text_model(model).score_text(batch),
    RollingRequest: lambda model, batch: as_text_model(model).score_rolling(batch),
    TextGenerateRequest: lambda model, batch: as_text_model(model).generate_text(batch),
}
