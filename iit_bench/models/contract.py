"""What a model must offer so that every evaluator can score it.

A model renders chats with its own template and answers batches. It knows nothing of benchmarks, logs or resuming (see `engine/`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.errors import UserError
from iit_bench.types import Message, ServerOptions, Style

SERVER = "server"  # ModelInfo.device of a model behind a server


@dataclass(frozen=True)
class ModelInfo:
    """What determines a model's answers, as written to run.json and hashed into every response's key."""

    name: str  # as given on the command line
    checkpoint: str  # path, Hub id or "" where there is none
    checkpoint_sha256: str  # of the weights and configuration files; "" where there is none
    chat_template_sha256: str  # of the template's text; "" where there is none
    accepts_images: bool
    blind: bool  # images are removed on purpose before the model sees the chat
    dtype: str  # "float32", "bfloat16", …
    device: str  # "cpu", "cuda", …, SERVER
    max_context: int | None  # tokens of prompt and reply together; None = unlimited
    parameters: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # anything else worth showing; not hashed


@dataclass(frozen=True)
class ModelOptions:
    """What a user may set for any model. A factory refuses, with a UserError, what it cannot honour."""

    checkpoint: str | None = None
    device: str = "auto"  # "auto" = cuda, else mps, else cpu
    dtype: str = "auto"  # "auto" = the checkpoint's own on an accelerator, float32 on CPU
    seed: int = 0
    trust_remote_code: bool = False
    server: ServerOptions = field(default_factory=ServerOptions)


@dataclass(frozen=True)
class ScoreRequest:
    """Log-probabilities of several replies to one chat, which ends in a user turn."""

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class ScoreResult:
    """Per continuation, in order: sum of its tokens' log-probabilities (nats), its token count, and whether greedy decoding would say it.

    The delimiter before the reply and the end-of-turn after it are not scored (docs/spec/iit.md#scoring).
    """

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    greedy: tuple[bool, ...]
    prompt_tokens: int  # image tokens included


@dataclass(frozen=True)
class GenerateRequest:
    """A greedy reply to a chat that ends in a user turn."""

    messages: tuple[Message, ...]
    max_new_tokens: int = 32


@dataclass(frozen=True)
class GenerateResult:
    text: str  # without the end-of-turn token
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class TextScoreRequest:
    """Log-probabilities of several continuations of one raw text, as lm-eval asks for them: no chat template, no end of turn."""

    context: str  # may be empty: then the model's own first token stands for it
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class RollingRequest:
    """Log-probability of a whole text, cut into windows of the model's context where it is longer; answered by one continuation."""

    text: str


@dataclass(frozen=True)
class TextGenerateRequest:
    """A continuation of a raw text up to the first of the stop strings `until` (which is not part of it) or the model's end of text."""

    context: str
    until: tuple[str, ...] = ()
    max_new_tokens: int = 256
    settings: tuple[tuple[str, Any], ...] = ()  # of the decoder, by name, e.g. ("temperature", 0.7); without "do_sample" it is greedy
    repeat: int = 0  # tells equal requests apart where sampling makes their answers differ


def cut_at(text: str, stops: Iterable[str]) -> str:
    """`text` up to the first of the stop strings; empty ones stop nothing."""
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    return text


TextRequest = TextScoreRequest | RollingRequest | TextGenerateRequest


class Model(ABC):
    """One loaded model. Results do not depend on the other requests of a batch beyond floating-point rounding."""

    info: ModelInfo
    generates: bool = True  # False: it can only score
    scores: bool = True  # False: it can only generate; `no_scores` says why
    scores_images: bool = True  # False: it scores replies to chats without images alone
    no_scores: str = ""  # one sentence: what would be needed
    requests_at_once: int | None = None  # of a server; its methods are then called from as many threads, a request a call. None = batches
    styles: tuple[Style, ...] = ("cloze", "options", "letters")  # that it can be asked in

    def prepare(self, benchmark: Any) -> None:  # noqa: B027 - optional
        """Look at the benchmark's manifest before the run. Only baselines need it; a model under test must not."""

    @abstractmethod
    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        """Tokens of the longest row that `request` needs (prompt and reply), for batching and for the context check.

        Raises:
            ItemError: the request cannot be rendered, e.g. an image that does not decode.
        """

    @abstractmethod
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        """Score every continuation of every request. Raises ItemError only if a single-request batch cannot be scored."""

    @abstractmethod
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """Greedy replies, one per request, ending at the model's own end-of-turn or at `max_new_tokens`."""

    # ------------------------------------------------------------ raw text: what lm-eval's tasks need (see models/raw_text.py)

    def text_tokens(self, request: TextRequest) -> int:
        """Tokens of the longest row that `request` needs, at most the model's context: what does not fit is cut off, as lm-eval does.

        Raises:
            UserError: this model takes no raw text, or no room is left beside the tokens to generate.
            ItemError: the request cannot be encoded.
        """
        raise self.no_raw_text()

    @property
    def takes_raw_text(self) -> bool:
        """Whether lm-eval's tasks can be asked: such a model has a `text_tokens` of its own."""
        return type(self).text_tokens is not Model.text_tokens

    def score_text(self, batch: Sequence[TextScoreRequest]) -> list[ScoreResult]:
        """Score every continuation of every request. Raises ItemError only if a single-request batch cannot be scored."""
        raise self.no_raw_text()

    def score_rolling(self, batch: Sequence[RollingRequest]) -> list[ScoreResult]:
        """Score whole texts."""
        raise self.no_raw_text()

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        """Continue texts. All requests of a batch have the same `until`, `max_new_tokens` and `settings`."""
        raise self.no_raw_text()

    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """A chat ({"role", "content"} each) as the model's own template writes it; without the generation prompt the last turn stays open.

        Raises:
            UserError: the model has no chat template.
        """
        raise self.no_raw_text()

    def no_raw_text(self) -> UserError:
        """What a model without raw text says to lm-eval's tasks."""
        return UserError(f"model {self.info.name!r} reads chats only, so lm-eval's tasks cannot be put to it; use --suite iit")
