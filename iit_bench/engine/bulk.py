"""Answer a whole job by a model that takes it at once, such as a provider's batch API; answers are logged as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from iit_bench.engine.answers import refuse_impossible
from iit_bench.engine.log import Response, ResponseLog
from iit_bench.engine.plan import Request
from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import GenerateRequest, GenerateResult, Model, TextGenerateRequest

BATCHES = "batches.jsonl"  # beside the response log: what the model has been asked for


def ask_in_bulk(model: Model, requests: Mapping[str, Request], log: ResponseLog, settled: Callable[[str], None]) -> dict[str, ItemError]:
    """Answer `requests` (by key) into the log; `settled` is called with each key once. Returns the requests that have no answer.

    Raises:
        UserError: the model is unavailable, or cannot answer such requests in bulk; answers so far are in the log.
    """
    if not requests:
        return {}
    asked: dict[str, GenerateRequest | TextGenerateRequest] = {}
    impossible: dict[str, ItemError] = {}
    for key, request in requests.items():
        if not isinstance(request, (GenerateRequest, TextGenerateRequest)):
            raise UserError(f"model {model.info.name!r} generates replies in bulk, and scores none; use --scoring generate")
        asked[key] = request

    def keep(answers: Mapping[str, GenerateResult]) -> None:
        responses: dict[str, Response] = {}
        for key, answer in answers.items():
            try:
                refuse_impossible([asked[key]], [answer])
            except ItemError as error:
                impossible[key] = error
            else:
                responses[key] = answer
        log.append(responses)
        for key in responses:
            settled(key)

    try:
        failed = model.answer_in_bulk(asked, log.path.with_name(BATCHES), keep)
    except MachineError as error:
        raise UserError(f"{error}; answers so far are kept, repeat the command to resume") from error
    for key in failed | impossible:
        settled(key)
    return failed | impossible
