"""Raw text for models that run in this process: what lm-eval's tasks ask, tokenised, cut and answered as lm-eval's own HFLM does it.

A context is encoded once for all its continuations (`scoring.score_prefixed`), where HFLM encodes it again for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import (
    GenerateResult,
    ModelInfo,
    RollingRequest,
    ScoreResult,
    TextGenerateRequest,
    TextModel,
    TextRequest,
    TextScoreRequest,
    cut_at,
)
from iit_bench.models.rendering import render_task_chat, special_tokens_of
from iit_bench.models.scoring import score_prefixed, split_continuation
from iit_bench.models.special_tokens import TokenIds

DEFAULT_CONTEXT = 2048  # tokens, of a model that names no limit (lm-eval's own default)
WINDOW_TOKENS = 8192  # of rolling windows encoded together
Pair = tuple[list[int], list[int]]  # tokens of a context, and of the continuation scored after it


class RawText(TextModel):
    """Mixin that makes a `contract.Model` which is a `scoring.PrefixScorer` a `contract.TextModel`."""

    tokenizer: Any
    info: ModelInfo
    placeholder = ""  # text that the tokenizer would read as an image; here it stays text
    has_chat_template = True
    prompts_at_once: int | None = None  # that `prefill` takes; None = any number
    token_ids: TokenIds | None = None  # that the model has; None where it does not run in this process

    def text_prompt(self, tokens: list[int]) -> Any:
        """What `prefill` and `continue_tokens` take, for the tokens of a raw text."""
        return tokens

    def continue_tokens(self, prompts: Sequence[Any], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after each prompt, greedily unless `settings` (of transformers' `generate`) say otherwise."""
        raise NotImplementedError

    def score_tokens(
        self, prompts: Sequence[Any], prompt_tokens: Sequence[int], replies: Sequence[Sequence[list[int]]], merged: Sequence[int] = ()
    ) -> list[ScoreResult]:
        """Score tokenised replies to prompts (of `text_prompt`); `prompt_tokens` and `merged` are only reported."""
        return score_prefixed(self, prompts, prompt_tokens, replies, merged)  # type: ignore[arg-type]

    def generated_at_once(self, prompts: Sequence[list[int]], max_new_tokens: int) -> int:
        """Number of these prompts that may be continued together."""
        return self.prompts_at_once or len(prompts)

    # ------------------------------------------------------------ tokens

    @property
    def context_limit(self) -> int:
        """The model's context, else the tokenizer's limit, else lm-eval's default, in tokens."""
        return self.info.max_context or _tokenizer_limit(self.tokenizer) or DEFAULT_CONTEXT

    @property
    def _first_token(self) -> int:
        """The token used for an empty context, and before the first token of a rolling text."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if bos is None and eos is None:
            raise UserError(f"the tokenizer of model {self.info.name!r} has no begin- or end-of-text token; add one to its files")
        return int(eos if bos is None else bos)

    def encode_text(self, text: str, special: bool | None = None) -> list[int]:
        """Tokens of a text. `special` None: the tokenizer decides whether its special tokens come first."""
        adds = special_tokens_of(self.tokenizer, text) if special is None else {"add_special_tokens": special}
        first, *rest = text.split(self.placeholder) if self.placeholder else [text]
        tokens = list(self.tokenizer.encode(first, **adds))
        for piece in rest:
            tokens += self.tokenizer.encode(self.placeholder, add_special_tokens=False, split_special_tokens=True)
            tokens += self.tokenizer.encode(piece, add_special_tokens=False)
        return tokens

    def _pairs(self, request: TextScoreRequest) -> list[Pair]:
        """Tokens to score, cut on the left to the model's context as lm-eval cuts them: the continuation's last token is never read."""
        pairs = []
        for continuation in request.continuations:
            before, after = self._pair(request.context, continuation)
            if len(after) > self.context_limit:
                raise ItemError("context overflow", f"a continuation of {len(after)} tokens, the model takes {self.context_limit}")
            pairs.append((before[-(self.context_limit + 1 - len(after)) :], after))
        self._check(*(tokens for pair in pairs for tokens in pair))
        return pairs

    def _check(self, *rows: Sequence[int]) -> None:
        if self.token_ids is not None:
            self.token_ids.check(*rows)

    def _pair(self, context: str, continuation: str) -> Pair:
        if context:
            return split_continuation(self.encode_text, context, continuation)
        tokens = self.encode_text(continuation, special=False)
        if tokens and tokens[0] != self._first_token:
            return [self._first_token], tokens
        if len(tokens) < 2:
            raise ItemError("reply without tokens", repr(continuation))
        return tokens[:1], tokens[1:]

    def _windows(self, text: str) -> list[Pair]:
        """A text in lm-eval's rolling windows: every token is predicted once, after as much context as fits."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        tokens, limit = self._rolled(text), self.context_limit
        return [make_disjoint_window(window) for window in get_rolling_token_windows(tokens, self._first_token, limit, 1)]

    def _rolled(self, text: str) -> list[int]:
        tokens = self.encode_text(text)
        self._check([self._first_token, *tokens])
        return tokens

    def cut_prompt(self, request: TextGenerateRequest) -> list[int]:
        """Tokens of a text to continue, cut on the left so that the new ones fit the model's context."""
        room = self.context_limit - request.max_new_tokens
        if room < 1:
            raise UserError(
                f"{request.max_new_tokens} tokens are to be generated, and model {self.info.name!r} takes {self.context_limit} with the "
                "prompt; give fewer with --gen-kwargs max_gen_toks=N"
            )
        tokens = (self.encode_text(request.context) or [self._first_token])[-room:]
        self._check(tokens)
        return tokens

    def text_tokens(self, request: TextRequest) -> int:
        """As `contract.TextModel.text_tokens`."""
        if isinstance(request, TextGenerateRequest):
            return len(self.cut_prompt(request)) + request.max_new_tokens
        if isinstance(request, RollingRequest):
            return min(len(self._rolled(request.text)) + 1, self.context_limit)
        return max(len(before) + len(after) for before, after in self._pairs(request))

    # ------------------------------------------------------------ scoring

    def score_text(self, batch: Sequence[TextScoreRequest]) -> list[ScoreResult]:
        """As `contract.TextModel.score_text`; equal contexts of a batch are encoded once."""
        pairs = [self._pairs(request) for request in batch]
        scores = iter(self._score_pairs([pair for some in pairs for pair in some]))
        return [joined([next(scores) for _ in some], len(some[0][0])) for some in pairs]

    def score_rolling(self, batch: Sequence[RollingRequest]) -> list[ScoreResult]:
        """As `contract.TextModel.score_rolling`, in lm-eval's windows."""
        windows = [self._windows(request.text) for request in batch]
        flat = [window for some in windows for window in some]
        step = max(1, WINDOW_TOKENS // self.context_limit)
        scores = iter([score for start in range(0, len(flat), step) for score in self._score_pairs(flat[start : start + step])])
        results = []
        for some in windows:
            own = [next(scores) for _ in some]
            total, greedy = sum(score.logprobs[0] for score in own), all(score.greedy[0] for score in own)
            results.append(ScoreResult((total,), (sum(score.tokens[0] for score in own),), (greedy,), 0))
        return results

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        """One result of one continuation per pair; equal contexts are encoded once."""
        import torch

        of_context: dict[tuple[int, ...], list[int]] = {}
        for i, (before, _) in enumerate(pairs):
            of_context.setdefault(tuple(before), []).append(i)
        contexts = list(of_context)
        results: dict[int, ScoreResult] = {}
        step = self.prompts_at_once or len(contexts)
        for start in range(0, len(contexts), step):
            part = contexts[start : start + step]
            prompts = [self.text_prompt(list(context)) for context in part]
            replies = [[pairs[i][1] for i in of_context[context]] for context in part]
            with torch.inference_mode():
                scored = self.score_tokens(prompts, list(map(len, part)), replies)
            for context, result in zip(part, scored, strict=True):
                results |= zip(of_context[context], _split(result), strict=True)
        return [results[i] for i in range(len(pairs))]

    # ------------------------------------------------------------ generating

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        """As `contract.TextModel.generate_text`; sampling is seeded by the batch."""
        import torch

        from iit_bench.models.stopping import StopStrings

        one = batch[0]
        prompts = [self.cut_prompt(request) for request in batch]
        stops = list(dict.fromkeys([*filter(None, one.until), *filter(None, [self.tokenizer.eos_token])]))
        settings = {"do_sample": False, "num_beams": 1} | dict(one.settings)
        if settings["do_sample"]:  # the same draws whenever the same batch is asked
            torch.manual_seed(_seed(batch))
        results = []
        step = self.generated_at_once(prompts, one.max_new_tokens)
        for start in range(0, len(prompts), step):
            part = prompts[start : start + step]
            stopping = StopStrings(self.tokenizer, stops, len(part)) if stops else None
            how = settings | (stopping.settings() if stopping else {})
            with torch.inference_mode():
                rows = self.continue_tokens([self.text_prompt(row) for row in part], one.max_new_tokens, **how)
            for i, (prompt, row) in enumerate(zip(part, rows, strict=True)):
                row = row[: stopping.ended[i]] if stopping else row  # padding follows while other rows continue
                text = cut_at(str(self.tokenizer.decode(row, skip_special_tokens=True)), stops)
                results.append(GenerateResult(text, len(prompt), len(row)))
        return results

    # ------------------------------------------------------------ chats as text

    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """As `contract.TextModel.render_text`."""
        if not self.has_chat_template:
            raise UserError(f"model {self.info.name!r} has no chat template; leave out --apply-chat-template")
        return render_task_chat(self.tokenizer, chat, add_generation_prompt, self.info.name)


def until_end(tokens: list[int], ends: Iterable[int | None]) -> list[int]:
    """The tokens up to the first of `ends`, without it."""
    stop = set(ends)
    return next((tokens[:i] for i, token in enumerate(tokens) if token in stop), tokens)


def _tokenizer_limit(tokenizer: Any) -> int | None:
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit and limit < 10**15 else None  # transformers writes 10**30 for "unknown"


def _split(result: ScoreResult) -> list[ScoreResult]:
    parts = zip(result.logprobs, result.tokens, result.greedy, strict=True)
    return [ScoreResult((logprob,), (tokens,), (greedy,), result.prompt_tokens) for logprob, tokens, greedy in parts]


def joined(results: Sequence[ScoreResult], prompt_tokens: int, merged: int = 0) -> ScoreResult:
    """Results of one continuation each as the result of all of them."""
    columns = [[one.logprobs[0] for one in results], [one.tokens[0] for one in results], [one.greedy[0] for one in results]]
    return ScoreResult(tuple(columns[0]), tuple(columns[1]), tuple(columns[2]), prompt_tokens, merged)  # type: ignore[arg-type]


def _seed(batch: Sequence[TextGenerateRequest]) -> int:
    text = "\x1f".join(f"{request.repeat} {request.context}" for request in batch)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
