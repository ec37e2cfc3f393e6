"""Tokens that a run has read and written, and what a server charges for them."""

from __future__ import annotations

from typing import Any

from iit_bench.engine.lines import digest_of_keys, key_digest
from iit_bench.engine.log import Response, ResponseLog
from iit_bench.models.contract import Model, ScoreResult
from iit_bench.server_options import ServerOptions


def work_done(model: Model, log: ResponseLog, server: ServerOptions) -> dict[str, Any]:
    """The fields `tokens`, `merged_replies`, `unchecked_answers`, `logged` and `usage` of run.json, over every answer in the log."""
    logged = {"answers": len(log.responses), "keys": digest_of_keys(map(key_digest, log.responses))}
    usage = _usage(log, server) if model.capabilities.requests_at_once else None
    counts = {"tokens": _tokens(log), "merged_replies": _merged(log), "unchecked_answers": len(log.unchecked)}
    return {**counts, "logged": logged, "usage": usage}


def _tokens(log: ResponseLog) -> int:
    return sum(response.prompt_tokens + sum(_replies(response)) for response in log.responses.each())


def _merged(log: ResponseLog) -> int:
    return sum(response.merged for response in log.responses.each() if isinstance(response, ScoreResult))


def _replies(response: Response) -> tuple[int, ...]:
    return response.tokens if isinstance(response, ScoreResult) else (response.new_tokens,)


def _usage(log: ResponseLog, server: ServerOptions) -> dict[str, Any]:
    """What a server bills. Scoring n replies sends the prompt n times, each with a reply, and generates one token each.

    `cost` is in the currency of the prices; null if no price is given, or if the server reported no counts. Requests without an answer in
    the log (probes at the start, tries that failed) are not counted.
    """
    prompt = reply = uncounted = 0
    for response in log.responses.each():
        if isinstance(response, ScoreResult):
            prompt += response.prompt_tokens * len(response.tokens) + sum(response.tokens)
            reply += len(response.tokens)
        else:
            prompt += response.prompt_tokens
            reply += response.new_tokens
            uncounted += response.prompt_tokens == 0
    known = server.price_in is not None and server.price_out is not None and not uncounted
    cost = (prompt * (server.price_in or 0.0) + reply * (server.price_out or 0.0)) / 1e6 if known else None
    return {
        "answers": len(log.responses),
        "prompt_tokens": prompt,
        "reply_tokens": reply,
        "answers_without_counts": uncounted,
        "cost": cost,
    }
