"""A model in plain arithmetic whose answers depend on the other requests of a batch, and which fails on chosen requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.types import Message

Failing = Callable[[Sequence[str]], Exception | None]


def text_of(request: ScoreRequest | GenerateRequest) -> str:
    return "\n".join(message.text for message in request.messages)


@dataclass
class CompanyModel(Model):
    """Log-probabilities are a hash of the whole batch: an answer betrays in which company it was computed."""

    capabilities = Capabilities(why_not={"takes_raw_text": "a chat is all that the engine's tests ask"})
    fails: Failing = lambda texts: None
    max_context: int | None = None
    batches: list[list[str]] = field(default_factory=list)  # what it was asked, as texts

    def __post_init__(self) -> None:
        self.info = ModelInfo(
            name="company",
            checkpoint="",
            checkpoint_sha256="0" * 64,
            chat_template_sha256="",
            accepts_images=True,
            blind=False,
            dtype="float64",
            device="cpu",
            max_context=self.max_context,
        )

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return len(text_of(request))

    def _seen(self, batch: Sequence[ScoreRequest | GenerateRequest]) -> str:
        texts = [text_of(request) for request in batch]
        self.batches.append(texts)
        if error := self.fails(texts):
            raise error
        return "|".join(texts)

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        company = self._seen(batch)
        return [self._score(request, company) for request in batch]

    def _score(self, request: ScoreRequest, company: str) -> ScoreResult:
        seeds = [hashlib.sha256(f"{company}#{text_of(request)}#{reply}".encode()).digest()[0] for reply in request.continuations]
        ones = (1,) * len(seeds)
        return ScoreResult(tuple(-seed / 256 for seed in seeds), ones, (False,) * len(seeds), len(text_of(request)))

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        self._seen(batch)
        return [GenerateResult(text_of(request).upper(), 1, 1) for request in batch]


@pytest.fixture
def company_model() -> type[CompanyModel]:
    return CompanyModel


@pytest.fixture
def ask() -> Callable[..., ScoreRequest]:
    """ask("text", "reply", …): a request of one user turn; the replies default to a and b."""

    def make(text: str, *replies: str) -> ScoreRequest:
        return ScoreRequest((Message("user", (text,)),), replies or ("a", "b"))

    return make
