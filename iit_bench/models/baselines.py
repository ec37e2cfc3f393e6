"""Baselines: `random`, `majority`, and any model without the images (`BlindModel`)."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from iit_bench.asking import without_images
from iit_bench.errors import UserError
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ModelOptions,
    RenderedPrompt,
    RollingRequest,
    Scored,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    TextModel,
    TextRequest,
    TextScoreRequest,
)
from iit_bench.storage.tables import canonical_json
from iit_bench.token_trees import TokenPath
from iit_bench.types import Image

ONLY_CHOOSES = "it only chooses among replies"
R = TypeVar("R", bound=ScoreRequest | GenerateRequest)


class ChoiceBaseline(Model):
    """A baseline that scores replies without reading the question, and cannot generate."""

    def __init__(self, name: str, options: ModelOptions, details: Mapping[str, Any]) -> None:
        if options.checkpoint:
            raise UserError(f"model {name!r} has no checkpoint; leave out --checkpoint")
        self.seed = options.seed
        self.info = ModelInfo(
            name=name,
            checkpoint="",
            checkpoint_sha256=hashlib.sha256(f"{name} {options.seed}".encode()).hexdigest(),
            chat_template_sha256="",
            accepts_images=True,
            blind=False,
            dtype="float64",
            device="cpu",
            max_context=None,
            parameters=0,
            details=details,
        )

    @abstractmethod
    def choose(self, request: ScoreRequest) -> int:
        """Index of the reply it prefers."""

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return 1

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        chosen = self.choose(request)
        greedy = tuple(i == chosen for i in range(len(request.continuations)))
        # 0 for the chosen reply, -1 for the others: the same choice under every normalisation by length.
        return ScoreResult(tuple(0.0 if is_chosen else -1.0 for is_chosen in greedy), (1,) * len(greedy), greedy, prompt_tokens=0)

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        raise UserError(f"model {self.info.name!r} cannot generate; use --scoring loglikelihood")


class RandomModel(ChoiceBaseline, TextModel):
    """Prefers a reply by a hash of (seed, chat, reply): chance level, 1/k on average, and the same on every machine."""

    capabilities = Capabilities(takes_raw_text=True, generates=False, why_not={"generates": ONLY_CHOOSES})
    tokenizer = None
    context_limit = None

    def __init__(self, name: str, options: ModelOptions) -> None:
        super().__init__(name, options, {"seed": options.seed})

    def choose(self, request: ScoreRequest) -> int:
        chat = [[m.role, *(p.sha256 if isinstance(p, Image) else p for p in m.parts)] for m in request.messages]
        draws = [self._draw(chat, text) for text in request.continuations]
        return draws.index(max(draws))

    def _draw(self, prompt: Any, reply: str) -> bytes:
        return hashlib.sha256(canonical_json([self.seed, prompt, reply]).encode()).digest()

    def text_tokens(self, request: TextRequest) -> int:
        if not isinstance(request, TextScoreRequest):
            raise self._only_chooses()
        return 1

    def score_text(self, batch: Sequence[TextScoreRequest]) -> list[ScoreResult]:
        return [self._score_text(request) for request in batch]

    def _score_text(self, request: TextScoreRequest) -> ScoreResult:
        draws = [int.from_bytes(self._draw(request.context, text)[:6]) / 2**48 for text in request.continuations]
        # The chosen one's is about 0, whatever its length: the same choice under every normalisation. Not exactly 0, because choices
        # that are contexts come as requests of their own, and the best draw among them must win.
        scores = tuple((draw - 1) * 1e-6 if draw == max(draws) else -1.0 for draw in draws)
        return ScoreResult(scores, (1,) * len(scores), (False,) * len(scores), prompt_tokens=0)

    def score_rolling(self, batch: Sequence[RollingRequest]) -> list[ScoreResult]:
        raise self._only_chooses()

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        raise self._only_chooses()

    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        raise UserError(f"model {self.info.name!r} has no chat template; leave out --apply-chat-template")

    def _only_chooses(self) -> UserError:
        return UserError(f"model {self.info.name!r} can only choose, and a task asks it for a text; leave the task out")


class MajorityModel(ChoiceBaseline):
    """Prefers the reply that was the most frequent gold answer among questions that are not the benchmark's own targets.

    The builder counts them, as `answer_counts` in the manifest. Ties take the first choice. Letters do not depend on their answers.
    """

    capabilities = Capabilities(
        generates=False,
        styles=("cloze", "options"),
        why_not={
            "generates": ONLY_CHOOSES,
            "takes_raw_text": "its counts are a benchmark's own",
            "styles": "a letter does not depend on the answer it stands for",
        },
    )

    def __init__(self, name: str, options: ModelOptions) -> None:
        super().__init__(name, options, {})
        self._counts: Mapping[str, int] = {}

    def prepare(self, benchmark: Any) -> None:
        counts = benchmark.manifest.get("answer_counts")
        if counts is None:
            raise UserError(
                f"benchmark {str(benchmark.path)!r} has no answer counts in its manifest, which model 'majority' needs; build it again"
            )
        self._counts = counts

    def choose(self, request: ScoreRequest) -> int:
        counts = [self._counts.get(text, 0) for text in request.continuations]
        return counts.index(max(counts))


class BlindModel(Model):
    """Any model with all images removed on purpose: measures what the text gives away."""

    def __init__(self, model: Model) -> None:
        self.model = model
        why_not = dict(model.capabilities.why_not) | {"takes_raw_text": "raw text has no images to remove"}
        self.capabilities = dataclasses.replace(
            model.capabilities, takes_images=True, images_unknown=False, scores_images=True, takes_raw_text=False, why_not=why_not
        )
        self.info = dataclasses.replace(model.info, blind=True, accepts_images=True)
        self.way, self.ways = model.way, model.ways

    def prepare(self, benchmark: Any) -> None:
        self.model.prepare(benchmark)

    def paths(self, request: Scored) -> list[TokenPath]:
        assert isinstance(request, ScoreRequest), "it takes no raw text"
        return self.model.paths(_without_images(request))

    def score_paths(self, batch: Sequence[Scored], paths: Sequence[Sequence[TokenPath]]) -> list[ScoreResult]:
        return self.model.score_paths(batch, paths)

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return self.model.request_tokens(_without_images(request))

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt | None:
        return self.model.rendered(_without_images(request))

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return self.model.score([_without_images(request) for request in batch])

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return self.model.generate([_without_images(request) for request in batch])


def _without_images(request: R) -> R:
    return dataclasses.replace(request, messages=tuple(without_images(message) for message in request.messages))


def load_random(name: str, options: ModelOptions) -> Model:
    """The model `random`; `options.seed` chooses which random replies it prefers."""
    return RandomModel(name, options)


def load_majority(name: str, options: ModelOptions) -> Model:
    """The model `majority`, which reads a benchmark's counts in `prepare`."""
    return MajorityModel(name, options)
