"""Any AutoModelForCausalLM of transformers behind the model contract, with its own chat template."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from iit_bench.errors import UserError
from iit_bench.models.contract import (
    TEXT_ONLY,
    Capabilities,
    GenerateRequest,
    GenerateResult,
    ModelInfo,
    RenderedPrompt,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
)
from iit_bench.models.huggingface.generation import greedy_settings
from iit_bench.models.huggingface.token_rows import TokenRows
from iit_bench.models.reasoning import read_reply, reasoning_of, reply_limit
from iit_bench.models.rendering import RenderedChats, encode_prompt, render_prompt, text_turns
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.special_tokens import TokenIds, pad_token
from iit_bench.models.tree_scoring import TreeScoring
from iit_bench.models.words import words_of
from iit_bench.token_trees import TokenPath, TreeRow, symbols, token_path
from iit_bench.types import Message

OTHER_TOKENS = "transformers' generate makes other tokens than the model's own passes (checked at load); use --scoring loglikelihood"


class CausalLM(TreeScoring):
    """A text-only model. A prompt is encoded once for all its replies where that gives the scores of single rows (see `rows`)."""

    def __init__(
        self, model: Any, tokenizer: Any, info: ModelInfo, has_chat_template: bool, way: Literal["auto", "plain"] = "auto"
    ) -> None:
        self.model, self.tokenizer, self.has_chat_template = model, tokenizer, has_chat_template
        self.reasoning = reasoning_of(tokenizer)
        self.token_ids = TokenIds(model, tokenizer)
        self.words = words_of(tokenizer, self.token_ids)
        self._chats = RenderedChats()
        self._delimiter = learn_delimiter(tokenizer, text_turns)
        self.token_rows = TokenRows(model, tokenizer, pad=pad_token(tokenizer, model), device=info.device, way=way)
        rows = self.token_rows.rows
        self.way, self.ways = rows.way, self.token_rows.ways()
        generates = rows.generating != "not"
        self.capabilities = Capabilities(
            takes_images=False,
            takes_raw_text=True,
            generates=generates,
            reasons=self.reasoning.expected,
            why_not={"takes_images": TEXT_ONLY} | ({} if generates else {"generates": OTHER_TOKENS}),
        )
        info = replace(info, details={**info.details, **rows.details(), **self.token_rows.generation_details()})
        self.info = info.with_settings(**self._delimiter.settings())

    # ------------------------------------------------------------ prompts

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the model's own template writes it, up to where the reply begins, names of special tokens in its words replaced
        (`words.Words`).

        Raises:
            ItemError: the template refuses the chat.
        """
        return self._chats.text(tuple(messages), lambda: render_prompt(self.tokenizer, text_turns(self.words.hide_in(messages))))

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt:
        """As `contract.Model.rendered`."""
        return RenderedPrompt(self.words.show(self._begins(request)))

    def _begins(self, request: ScoreRequest | GenerateRequest) -> str:
        """The text before the reply."""
        text = self.render(request.messages)
        return text if isinstance(request, GenerateRequest) else self._delimiter.context(text)

    def _encoded(self, request: ScoreRequest) -> EncodedReplies:
        return encode_replies(self.words, self._begins(request), list(map(self.words.hide, request.continuations)))

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return len(encode_prompt(self.words, self.render(request.messages))) + request.longest
        encoded = self._encoded(request)
        return len(encoded.prompt) + max(map(len, encoded.replies))

    # ------------------------------------------------------------ scoring

    def chat_path(self, request: ScoreRequest) -> TokenPath:
        """As `TreeScoring.chat_path`."""
        encoded = self._encoded(request)
        return token_path(encoded.prompt, encoded.replies, encoded.merged)

    def fits_tree(self, path: TokenPath) -> bool:
        """As `TreeScoring.fits_tree`: not where a longer row has other rotary frequencies."""
        return not self.token_rows.switches(path.longest)

    def run_row(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """As `TreeScoring.run_row`."""
        return self.token_rows.tree.run(row)

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        encoded = [self._encoded(request) for request in batch]
        prompts = [one.prompt for one in encoded]
        return self.score_tokens(prompts, list(map(len, prompts)), [one.replies for one in encoded], [one.merged for one in encoded])

    def score_tokens(
        self, prompts: Sequence[Any], prompt_tokens: Sequence[int], replies: Sequence[Sequence[list[int]]], merged: Sequence[int] = ()
    ) -> list[ScoreResult]:
        """As `raw_text.RawText.score_tokens`, in the way that `rows` finds right for the model."""
        return self.token_rows.score(prompts, replies, merged)

    # ------------------------------------------------------------ generating

    def prompt(self, request: GenerateRequest | TextGenerateRequest) -> array[int]:
        """As `contract.Model.prompt`."""
        if self.token_rows.no_sharing:
            return symbols(())
        if isinstance(request, TextGenerateRequest):
            return symbols(self.cut_prompt(request))
        return symbols(encode_prompt(self.words, self.render(request.messages)))

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        texts = [self.render(request.messages) for request in batch]
        prompts = [encode_prompt(self.words, text) for text in texts]
        step = self.generated_at_once(prompts, max(request.longest for request in batch))
        return [
            result
            for start in range(0, len(batch), step)
            for result in self._generate(batch[start : start + step], texts[start : start + step], prompts[start : start + step])
        ]

    def _generate(self, batch: Sequence[GenerateRequest], texts: Sequence[str], prompts: Sequence[list[int]]) -> list[GenerateResult]:
        limit = reply_limit(self.tokenizer, batch, texts, self.reasoning)
        rows = self.continue_tokens(prompts, max(request.longest for request in batch), **(greedy_settings(self.model) | limit))
        return [
            read_reply(self.tokenizer, row, request, prompt=text, prompt_tokens=len(prompt), reasoning=self.reasoning)
            for request, text, prompt, row in zip(batch, texts, prompts, rows, strict=True)
        ]

    def generated_at_once(self, prompts: Sequence[list[int]], max_new_tokens: int) -> int:
        """As `raw_text.RawText.generated_at_once`."""
        return self.token_rows.at_once(prompts, max_new_tokens)

    def continue_tokens(self, prompts: Sequence[list[int]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """As `TokenRows.continued`."""
        if not self.capabilities.generates:
            raise UserError(f"model {self.info.name!r} cannot generate: {self.capabilities.why_not['generates']}")
        return self.token_rows.continued(prompts, max_new_tokens, **settings)
