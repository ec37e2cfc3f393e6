"""`openai:MODEL --tokenizer PATH_OR_HUB_ID`: text is rendered and tokenised here, as under `hf:`, and continued there.

What that needs of the server, beside /completions:
- to score replies: a prompt of token ids, `echo` and `logprobs`, answered with `token_logprobs` and `top_logprobs` of the prompt's tokens
  (vLLM does so). A reply's tokens are cut as under `hf:`, so the scores are those of the same model there.
- to generate only: a prompt as text.

Chats with images still go to /chat/completions, and replies to them cannot be scored: /completions has no place for an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateRequest, GenerateResult, ScoreRequest, ScoreResult, TextGenerateRequest
from iit_bench.models.openai.adapter import ChatServer
from iit_bench.models.openai.client import Client
from iit_bench.models.openai.encoding import decoding_settings, echo_body, read_echo
from iit_bench.models.openai.probe import PROBE, Findings, Request, text_probe, text_prompt
from iit_bench.models.raw_text import Pair, RawText, joined
from iit_bench.models.reasoning import read_text_reply, reasoning_of
from iit_bench.models.rendering import encode_prompt, render_prompt, template_sha256, text_turns
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.words import words_of
from iit_bench.types import Message

NO_LOGPROBS = (
    "the server's /completions does not return the log-probabilities of a prompt's tokens; it must take token ids with echo and "
    "logprobs, as vLLM's does"
)


class TokenServer(RawText, ChatServer):
    """Tokens of a text in, scores of its last ones or its continuation out."""

    def __init__(self, name: str, served: str, client: Client, findings: Findings, *, tokenizer: Any, has_chat_template: bool) -> None:
        """`served`: the model's name on the server."""
        self.served, self.client, self.findings = served, client, findings
        self.tokenizer, self.has_chat_template = tokenizer, has_chat_template
        why_not = {"scores_images": "/completions has no place for an image"} | ({} if findings.scores else {"scores": NO_LOGPROBS})
        self.reasoning = reasoning_of(tokenizer)
        self.capabilities = dataclasses.replace(
            self._capabilities(scores=findings.scores, why_not=why_not), reasons=self.reasoning.expected
        )
        details = {"tokenizer": client.options.tokenizer, "prompts": "token ids" if findings.takes_tokens else "text"}
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
        return render_prompt(self.tokenizer, text_turns(self.words.hide_in(messages)))

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
        if not self.capabilities.scores or _has_images(request.messages):
            why = self.capabilities.why_not["scores_images" if self.capabilities.scores else "scores"]
            raise UserError(f"model {self.info.name!r} cannot score replies: {why}")
        encoded = self._encoded(request)
        pairs = [(encoded.prompt, reply) for reply in encoded.replies]
        return joined(self._score_pairs(pairs), len(encoded.prompt), encoded.merged)

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        """One request for all pairs: the server shares what they have in common, and their answers come together or not at all."""
        body = echo_body(self.served, [before + after for before, after in pairs])
        return self.ask("/completions", body, lambda reply: _scored(reply, pairs))

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
        ids = self._cut_prompt(request)
        whole = len(ids) == len(self.encode_text(request.context))
        text = request.context if whole else str(self.tokenizer.decode(ids))
        return self.continue_prompt(self._prompt(text, ids), request, decoding_settings(request))


def _has_images(messages: Sequence[Message]) -> bool:
    return any(message.images for message in messages)


def _scored(reply: Any, pairs: Sequence[Pair]) -> list[ScoreResult]:
    results = []
    for (logprobs, tops), (before, after) in zip(read_echo(reply, len(pairs)), pairs, strict=True):
        own = slice(len(before), len(before) + len(after))
        values, best = logprobs[own], tops[own]
        if len(values) != len(after) or not all(isinstance(value, (int, float)) for value in values):
            raise ValueError("log-probabilities are missing")
        greedy = all(value >= max(top.values()) for value, top in zip(values, best, strict=True))  # type: ignore[union-attr, operator]
        results.append(ScoreResult((float(sum(values)),), (len(after),), (greedy,), len(before)))  # type: ignore[arg-type]
    return results
