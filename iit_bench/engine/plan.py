"""From requests to batches: what identifies a request, and which requests run together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.contract import (
    SERVER,
    GenerateRequest,
    ModelInfo,
    RollingRequest,
    ScoreRequest,
    TextGenerateRequest,
    TextRequest,
    TextScoreRequest,
)
from iit_bench.storage.tables import canonical_json
from iit_bench.types import Image, Message

Request = ScoreRequest | GenerateRequest | TextRequest
# Raised when a model's answers to an equal request change: where a reply begins, what a picture looks like. Then a run that an earlier
# build began is asked anew instead of mixing both. Answers of before the number are 1.
ANSWERS_VERSION = 2
BATCH_TOKENS = {"cpu": 4096}  # padded tokens per batch; on other devices:
BATCH_TOKENS_ACCELERATOR = 32768


@dataclass(frozen=True)
class BatchLimits:
    """A batch holds at most `rows` requests and, padded to its longest, `tokens` tokens; a longer request has a batch of its own."""

    rows: int
    tokens: int

    @staticmethod
    def for_model(info: ModelInfo, batch_size: int | None) -> BatchLimits:
        """`batch_size` None = auto: as many requests as fit the token budget of the device.

        Raises:
            UserError: the model is behind a server, which is asked request by request.
        """
        if batch_size and info.device == SERVER:
            raise UserError(f"model {info.name!r} is behind a server, which makes its own batches; give --concurrency, not --batch-size")
        tokens = BATCH_TOKENS.get(info.device, BATCH_TOKENS_ACCELERATOR)
        return BatchLimits(batch_size, 2**62) if batch_size else BatchLimits(256, tokens)


def model_identity(info: ModelInfo) -> dict[str, Any]:
    """The fields of a model's record that determine its answers, and the version of how this build asks it."""
    names = ("name", "checkpoint_sha256", "chat_template_sha256", "blind", "dtype")
    settings = {"settings": info.settings} if info.settings else {}
    return {name: getattr(info, name) for name in names} | settings | {"answers_version": ANSWERS_VERSION}


def request_key(request: Request, identity: Mapping[str, Any]) -> str:
    """sha256 of all that determines the answer: model, dtype, chat or text, images, and what is scored.

    Names of request classes and of their fields are part of it: to rename one invalidates every log.
    """
    if isinstance(request, (TextScoreRequest, RollingRequest, TextGenerateRequest)):
        whole = {"model": identity, "kind": type(request).__name__, **dataclasses.asdict(request)}
        return hashlib.sha256(canonical_json(whole).encode()).hexdigest()
    body: dict[str, Any] = {"model": identity, "messages": [_message(message) for message in request.messages]}
    if isinstance(request, ScoreRequest):
        body["continuations"] = request.continuations
    else:
        body["max_new_tokens"] = request.max_new_tokens
        body["reasoning_tokens"] = request.reasoning_tokens
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _message(message: Message) -> list[Any]:
    return [message.role, *({"image": part.sha256} if isinstance(part, Image) else part for part in message.parts)]


def plan_batches(lengths: Mapping[str, int], limits: BatchLimits) -> list[list[str]]:
    """Batches of request keys, longest first (out of memory shows at once), equal lengths together (little padding).

    The plan depends on the whole job only, not on what is answered already: a resumed run computes each batch with the same members.
    """
    order: Sequence[str] = sorted(lengths, key=lambda key: (-lengths[key], key))
    batches: list[list[str]] = []
    for key in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and len(batches[-1]) < limits.rows and longest * (len(batches[-1]) + 1) <= limits.tokens:
            batches[-1].append(key)
        else:
            batches.append([key])
    return batches
