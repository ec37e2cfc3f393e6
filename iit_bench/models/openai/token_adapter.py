"""`openai:MODEL --tokenizer PATH_OR_HUB_ID`: text is rendered and tokenised here, as under `hf:`, and continued there.

What that needs of the server, beside /completions:
- to score replies: one of the ways of `scoring`, on token ids (vLLM, SGLang). A reply's tokens are cut as under `hf:`, so the scores are
  those of the same model there.
- to generate only: a prompt as text.

Chats with images go to /chat/completions, where the server renders them itself. Replies to them are scored where it returns the
log-probabilities of a chat that ends in a given reply (vLLM), and its tokens are those that are cut here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, GenerateResult, RenderedPrompt, ScoreRequest, ScoreResult, TextGenerateRequest
from iit_bench.models.openai.adapter import ChatServer
from iit_bench.models.openai.client import Client
from iit_bench.models.openai.encoding import decoding_settings
from iit_bench.models.openai.probe import PROBE, Findings, text_probe, text_prompt
from iit_bench.models.openai.scoring import SCORING, Request, chat_request
from iit_bench.models.raw_text import Pair, RawText, joined
from iit_bench.models.reasoning import read_text_reply, reasoning_of
from iit_bench.models.rendering import encode_prompt, render_prompt, template_sha256, text_turns, turns_of_parts
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.words import words_of
from iit_bench.types import Message

NO_LOGPROBS = (
    "the server does not return the log-probabilities of a prompt's tokens; it must take token ids in /completions with echo and logprobs, "
    "as vLLM does, or in /generate with logprob_start_len, as SGLang does"
)
NO_IMAGE_LOGPROBS = (
    "the server's /chat/completions does not return the log-probabilities of a chat with an image; it must take prompt_logprobs and "
    "continue_final_message, as vLLM's does"
)


class TokenServer(RawText, ChatServer):
    """Tokens of a text in, scores of its last ones or its continuation out."""

    def __init__(self, name: str, served: str, client: Client, findings: Findings, *, tokenizer: Any, has_chat_template: bool) -> None:
        """`served`: the model's name on the server."""
        self.served, self.client, self.findings = served, client, findings
        self.tokenizer, self.has_chat_template = tokenizer, has_chat_template
        scores, images = bool(findings.scored_by), findings.scores_images
        why_not = ({} if images else {"scores_images": NO_IMAGE_LOGPROBS}) | ({} if scores else {"scores": NO_LOGPROBS})
        self.reasoning = reasoning_of(tokenizer)
        self.capabilities = dataclasses.replace(
            self._capabilities(scores=scores, scores_images=images, why_not=why_not), reasons=self.reasoning.expected
        )
        details = {"tokenizer": client.options.tokenizer, "prompts": "token ids" if findings.takes_tokens else "text"}
        details |= {"scored by": findings.scored_by} if scores else {}
        self.words = words_of(tokenizer)
        self._delimiter = learn_delimiter(tokenizer, text_turns)
        info = self._describe(name, template_sha256(tokenizer.chat_template), **details)
        self.info = info.with_settings(**self._delimiter.settings())

    # ------------------------------------------------------------ prompts

    @property
    def context_limit(self) -> int:
        """Two tokens less than the model takes: a server generates at least one, and our own models never read a reply's last."""
        return super().context_limit - 2

    def _probe(self) -> Request:
        return text_probe(self.served, self._prompt(PROBE, self.tokenizer.encode(PROBE)))

    def _prompt(self, text: str, ids: Sequence[int]) -> Any:
        return text_prompt(self.tokenizer, text, ids, self.findings.takes_tokens)

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the tokenizer's template writes it, up to where the reply begins, names of special tokens in its words replaced
        (`words.Words`).

        Raises:
            ItemError: the template refuses the chat.
        """
        turns = turns_of_parts if _has_images(messages) else text_turns
        return render_prompt(self.tokenizer, turns(self.words.hide_in(messages)))

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt | None:
        """As `contract.Model.rendered`; None for a chat with images, which the server renders."""
        if _has_images(request.messages):
            return None
        text = self.render(request.messages)
        return RenderedPrompt(self.words.show(text if isinstance(request, GenerateRequest) else self._delimiter.context(text)))

    def _encoded(self, request: ScoreRequest) -> EncodedReplies:
        context = self._delimiter.context(self.render(request.messages))
        return encode_replies(self.words, context, list(map(self.words.hide, request.continuations)))

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        """Without the tokens of images, which only the server knows."""
        if _has_images(request.messages):
            return 1
        if isinstance(request, GenerateRequest):
            return len(encode_prompt(self.words, self.render(request.messages))) + request.longest
        encoded = self._encoded(request)
        return len(encoded.prompt) + max(map(len, encoded.replies)) + 1

    # ------------------------------------------------------------ scoring

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        needed = "scores_images" if self.capabilities.scores and _has_images(request.messages) else "scores"
        if not getattr(self.capabilities, needed):
            raise UserError(f"model {self.info.name!r} cannot score replies: {self.capabilities.why_not[needed]}")
        encoded = self._encoded(request)
        if _has_images(request.messages):
            results = [
                self.ask(*chat_request(self.served, self.findings.spelling, request.messages, text, tokens))
                for text, tokens in zip(request.continuations, encoded.replies, strict=True)
            ]
            return joined(results, results[0].prompt_tokens, encoded.merged)
        pairs = [(encoded.prompt, reply) for reply in encoded.replies]
        return joined(self._score_pairs(pairs), len(encoded.prompt), encoded.merged)

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        return self.ask(*SCORING[self.findings.scored_by](self.served, pairs))

    def text_tokens(self, request: Any) -> int:
        if not self.capabilities.scores and not isinstance(request, TextGenerateRequest):
            raise self.cannot_score_text()
        return super().text_tokens(request)

    # ------------------------------------------------------------ generating

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        if _has_images(request.messages):
            return super()._generate(request)
        text = self.render(request.messages)
        as_text = TextGenerateRequest(text, max_new_tokens=request.longest)
        settings = {"temperature": 0} | ({"skip_special_tokens": False} if self._marks_are_special else {})
        result = self.continue_prompt(self._prompt(self.words.show(text), encode_prompt(self.words, text)), as_text, settings)
        return read_text_reply(self.tokenizer, result, request, prompt=text, reasoning=self.reasoning)

    @property
    def _marks_are_special(self) -> bool:
        """Whether a server leaves the marks around reasoning out of its texts, unless it is told not to."""
        special = tuple(token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        return self.reasoning.expected and any(mark.startswith(special) for mark in self.reasoning.openings)

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        return [self._continue(request) for request in batch]

    def _continue(self, request: TextGenerateRequest) -> GenerateResult:
        ids = self.cut_prompt(request)
        whole = len(ids) == len(self.encode_text(request.context))
        text = request.context if whole else str(self.tokenizer.decode(ids))
        return self.continue_prompt(self._prompt(text, ids), request, decoding_settings(request))


def _has_images(messages: Sequence[Message]) -> bool:
    return any(message.images for message in messages)
