"""`vllm:PATH_OR_HUB_ID`: a checkpoint run by vLLM inside this process, where vLLM is installed; the same prompts and tokens as under `hf:`.

Written against vLLM's documented offline interface (`LLM.generate` on token prompts, `prompt_logprobs`); it has never been run with vLLM
itself, only with a stand-in of that interface (tests/models/vllm/test_adapter.py). A server that vLLM runs is reached by `openai:`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iit_bench.errors import ItemError, UserError, one_line
from iit_bench.models.contract import (
    TEXT_ONLY,
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    RenderedPrompt,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    cut_at,
)
from iit_bench.models.raw_text import Pair, RawText, joined, until_end
from iit_bench.models.reasoning import read_reply, reasoning_of
from iit_bench.models.rendering import encode_prompt, image_marks, render_prompt, text_turns, turns_of_parts, with_places
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.vllm.encoding import read_score, tokens_prompt
from iit_bench.models.words import words_of
from iit_bench.types import Message


class VllmModel(RawText, Model):
    """vLLM batches and caches prefixes itself; a batch here is only what one call holds."""

    def __init__(self, llm: Any, sampling: Any, renderer: Any, info: ModelInfo, has_chat_template: bool) -> None:
        """`llm`: vLLM's `LLM`; `sampling`: its class `SamplingParams`; `renderer`: a processor or tokenizer of transformers."""
        self.llm, self._sampling, self._renderer, self.has_chat_template = llm, sampling, renderer, has_chat_template
        self.tokenizer = getattr(renderer, "tokenizer", renderer)
        self.placeholder = str(getattr(renderer, "image_token", None) or "")
        self.reasoning = reasoning_of(renderer)
        self.words = words_of(renderer)
        self._delimiter = learn_delimiter(renderer, turns_of_parts if info.accepts_images else text_turns)
        self.info = info.with_settings(**self._delimiter.settings())
        why_not = {} if info.accepts_images else {"takes_images": TEXT_ONLY}
        self.capabilities = Capabilities(
            takes_images=info.accepts_images, takes_raw_text=True, reasons=self.reasoning.expected, why_not=why_not
        )

    # ------------------------------------------------------------ prompts

    @property
    def context_limit(self) -> int:
        """Two tokens less than the model takes: vLLM generates at least one, and our own models never read a reply's last."""
        return super().context_limit - 2

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the model's own template writes it, up to where the reply begins, names of special tokens in its words replaced
        (`words.Words`).

        Raises:
            ItemError: the template refuses it.
        """
        turns = turns_of_parts if self.capabilities.takes_images else text_turns
        return render_prompt(self._renderer, turns(self.words.hide_in(messages)))

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt:
        """As `contract.Model.rendered`."""
        text = self.render(request.messages)
        text = text if isinstance(request, GenerateRequest) else self._delimiter.context(text)
        images = sum(len(message.images) for message in request.messages)
        return with_places(text, image_marks(self._renderer), images, self.words.show)

    def _encoded(self, request: ScoreRequest) -> EncodedReplies:
        context = self._delimiter.context(self.render(request.messages))
        return encode_replies(self.words, context, list(map(self.words.hide, request.continuations)))

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return len(encode_prompt(self.words, self.render(request.messages))) + request.longest
        encoded = self._encoded(request)
        return len(encoded.prompt) + max(map(len, encoded.replies)) + 1

    def _run(self, prompts: Sequence[Mapping[str, Any]], sampling: Any) -> list[Any]:
        """vLLM's outputs, in order.

        Raises:
            ItemError: it refuses a prompt (too long with its images, too many of them); the engine finds out which.
        """
        try:
            return list(self.llm.generate(list(prompts), sampling, use_tqdm=False))
        except ValueError as error:
            raise ItemError("refused by vLLM", one_line(error)) from error

    # ------------------------------------------------------------ scoring

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        encoded = [self._encoded(request) for request in batch]
        flat = [((one.prompt, reply), request.messages) for request, one in zip(batch, encoded, strict=True) for reply in one.replies]
        scores = iter(self._scored([tokens_prompt([*before, *after], chat) for (before, after), chat in flat], [pair for pair, _ in flat]))
        of_requests = [[next(scores) for _ in one.replies] for one in encoded]
        # vLLM counts an image's tokens as well
        return [joined(own, own[0].prompt_tokens, one.merged) for own, one in zip(of_requests, encoded, strict=True)]

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        return self._scored([tokens_prompt([*before, *after]) for before, after in pairs], pairs)

    def _scored(self, prompts: Sequence[Mapping[str, Any]], pairs: Sequence[Pair]) -> list[ScoreResult]:
        outputs = self._run(prompts, self._sampling(temperature=0, max_tokens=1, prompt_logprobs=1, detokenize=False))
        return [read_score(output, reply) for output, (_, reply) in zip(outputs, pairs, strict=True)]

    # ------------------------------------------------------------ generating

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        texts = [self.render(request.messages) for request in batch]
        encoded = [encode_prompt(self.words, text) for text in texts]
        prompts = [tokens_prompt(tokens, request.messages) for tokens, request in zip(encoded, batch, strict=True)]
        sampling = [self._sampling(temperature=0, max_tokens=request.longest) for request in batch]
        return [
            self._reply(request, text, output) for request, text, output in zip(batch, texts, self._run(prompts, sampling), strict=True)
        ]

    def _reply(self, request: GenerateRequest, text: str, output: Any) -> GenerateResult:
        tokens = until_end(list(output.outputs[0].token_ids), [self.tokenizer.eos_token_id])
        length = len(output.prompt_token_ids)
        return read_reply(self.tokenizer, tokens, request, prompt=text, prompt_tokens=length, reasoning=self.reasoning)

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        prompts = [tokens_prompt(self.cut_prompt(request)) for request in batch]
        return [
            GenerateResult(cut_at(output.outputs[0].text, request.until), len(output.prompt_token_ids), len(output.outputs[0].token_ids))
            for request, output in zip(batch, self._run(prompts, [self._decoding(request) for request in batch]), strict=True)
        ]

    def _decoding(self, request: TextGenerateRequest) -> Any:
        given = dict(request.settings)
        how = {"temperature": 1.0, "seed": request.repeat} if given.pop("do_sample", False) else {"temperature": 0}
        try:
            return self._sampling(max_tokens=request.max_new_tokens, stop=[stop for stop in request.until if stop], **(how | given))
        except TypeError as error:
            raise UserError(f"vLLM does not know a setting of generation ({one_line(error)}); leave it out of --gen-kwargs") from error
