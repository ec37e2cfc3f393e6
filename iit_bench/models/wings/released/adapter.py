"""Mode `released` behind the model contract: at most one image per dialogue; with one, every token recomputes the whole row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from iit_bench.errors import ItemError
from iit_bench.models.contract import GenerateRequest, GenerateResult, Scored, ScoreRequest, ScoreResult
from iit_bench.models.scoring import score_prefixed
from iit_bench.models.wings.adapter import WingsModel
from iit_bench.models.wings.encoding import EncodedChat
from iit_bench.token_trees import TokenPath

ROWS = 8  # rows of one length in one pass
Request = TypeVar("Request", ScoreRequest, GenerateRequest)
Result = TypeVar("Result", ScoreResult, GenerateResult)


class ReleasedWingsModel(WingsModel):
    """A Wings model of mode `released`.

    Chats without images are cached as in mode `strict`, which is exact (docs/spec/wings.md#c6-caching-in-released). With an image only the
    last position of a row does not depend on later tokens (A.5), so a reply's tokens are scored one by one, each at the end of its own row,
    with the probabilities that generation would use. Such rows never share a batch with rows of other lengths, which would change them
    (A.6).
    """

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        images = sum(len(message.images) for message in request.messages)
        if images > 1:
            raise ItemError("several images", f"mode 'released' sees one image in a dialogue, this one has {images}")
        return super().request_tokens(request) + images * self._slot_growth

    def paths(self, request: Scored) -> list[TokenPath]:
        """As `TreeScoring.paths`; none for a chat with an image, whose tokens see later ones."""
        return [] if isinstance(request, ScoreRequest) and _has_image(request) else super().paths(request)

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return _separately(batch, together=super().score, alone=self._score_with_image)

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        together = super().generate

        def alone(request: GenerateRequest) -> GenerateResult:
            (result,) = together([request])
            return dataclasses.replace(result, prompt_tokens=result.prompt_tokens + self._slot_growth)

        return _separately(batch, together=together, alone=alone)

    def continue_tokens(self, prompts: Sequence[EncodedChat], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """As `WingsModel.continue_tokens`, but prompt by prompt if the longest row may outgrow the cache.

        Without a cache rows are padded on the right, so the last token of a short one would be padding (A.2).
        """
        limit = self.info.max_context
        if len(prompts) > 1 and limit is not None and max(len(chat.input_ids) for chat in prompts) + max_new_tokens > limit:
            return [super(ReleasedWingsModel, self).continue_tokens([chat], max_new_tokens, **settings)[0] for chat in prompts]
        return super().continue_tokens(prompts, max_new_tokens, **settings)

    @property
    def _slot_growth(self) -> int:
        """An image is one slot in the prompt's tokens and T vectors in the row."""
        return (self.model.config.image_token_length or 1) - 1

    @torch.inference_mode()
    def _score_with_image(self, request: ScoreRequest) -> ScoreResult:
        chat = self.encoder.encode(request.messages, request.continuations)
        features = self._image_features(chat.images)
        assert features is not None
        length = len(chat.input_ids) + self._slot_growth
        (result,) = score_prefixed(_WholeRows(self, features), [chat], [length], [chat.replies], [chat.merged])
        return result


def _separately(
    batch: Sequence[Request], *, together: Callable[[Sequence[Request]], list[Result]], alone: Callable[[Request], Result]
) -> list[Result]:
    """Results in order: `together` of the requests without images, `alone` of each of the others."""
    has_image = list(map(_has_image, batch))
    text = [request for request, image in zip(batch, has_image, strict=True) if not image]
    results = iter(together(text) if text else ())
    return [alone(request) if image else next(results) for request, image in zip(batch, has_image, strict=True)]


def _has_image(request: ScoreRequest | GenerateRequest) -> bool:
    return any(message.images for message in request.messages)


class _WholeRows:
    """A `scoring.PrefixScorer` of one prompt with an image, without a cache."""

    def __init__(self, owner: WingsModel, features: torch.Tensor) -> None:
        self.model, self.device = owner.model, owner.info.device
        self.features = features  # [1, T, D_v]

    def prefill(self, prompts: Sequence[EncodedChat]) -> tuple[torch.Tensor, Any]:
        """Logits [1, V] after the prompt, and its tokens."""
        (chat,) = prompts
        return self._last([chat.input_ids]), chat.input_ids

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """Logits [replies, longest, V] after every prefix of every reply, each prefix computed once."""
        prefixes = {tuple(reply[:end]) for reply in tokens for end in range(1, len(reply) + 1)}
        logits_after: dict[tuple[int, ...], torch.Tensor] = {}
        for length in sorted({len(prefix) for prefix in prefixes}):
            same = sorted(prefix for prefix in prefixes if len(prefix) == length)
            for start in range(0, len(same), ROWS):
                part = same[start : start + ROWS]
                logits_after |= dict(zip(part, self._last([[*state, *prefix] for prefix in part]), strict=True))
        of_replies = [torch.stack([logits_after[tuple(reply[:end])] for end in range(1, len(reply) + 1)]) for reply in tokens]
        return torch.nn.utils.rnn.pad_sequence(of_replies, batch_first=True)

    def _last(self, rows: list[list[int]]) -> torch.Tensor:
        """Logits [rows, V] after rows of one length."""
        input_ids = torch.tensor(rows, device=self.device)
        return self.model(input_ids, image_features=self.features.expand(len(rows), -1, -1), logits_to_keep=1).logits[:, -1]
