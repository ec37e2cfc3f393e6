"""Any AutoModelForImageTextToText of transformers with its own processor: interleaved images, one chat at a time.

Processors lay out images in too many ways to pad several chats together safely, so a batch is answered chat by chat, and every reply is
scored in one piece with its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as PillowImage

from iit_bench.errors import ItemError
from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.models.huggingface.encoding import InputMaker, Inputs, render_images
from iit_bench.models.huggingface.generation import end_tokens, greedy_settings
from iit_bench.models.huggingface.processors import one_question
from iit_bench.models.huggingface.rows import rope_border
from iit_bench.models.raw_text import RawText, until_end
from iit_bench.models.reasoning import read_reply, reasoning_of, reply_limit
from iit_bench.models.rendering import turns_of_parts
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.scoring import score_prefixed, score_single_rows
from iit_bench.models.special_tokens import pad_token
from iit_bench.models.words import words_of
from iit_bench.types import Message


class ImageTextModel(RawText, Model):
    """A multimodal model behind its own processor."""

    capabilities = Capabilities(takes_raw_text=True)
    prompts_at_once = 1

    def __init__(self, model: Any, processor: Any, info: ModelInfo) -> None:
        self.model, self.processor = model, processor
        self.tokenizer = processor.tokenizer
        self.reasoning = reasoning_of(processor)
        has_chats = processor.chat_template != one_question(processor)
        why_not = {} if has_chats else {"takes_histories": "it has no chats and answers one question"}
        self.capabilities = replace(type(self).capabilities, reasons=self.reasoning.expected, takes_histories=has_chats, why_not=why_not)
        self.placeholder = str(getattr(processor, "image_token", None) or "")
        self.words = words_of(processor)
        self.inputs = InputMaker(processor, model, self.words)
        self._delimiter = learn_delimiter(processor, turns_of_parts)
        self._border = rope_border(model.config.get_text_config())
        self.info = info.with_settings(**self._delimiter.settings())

    def render(self, messages: Sequence[Message]) -> tuple[str, list[PillowImage.Image]]:
        """The chat as the processor's template writes it, names of special tokens in its words replaced (`words.Words`); and its images.

        Raises:
            ItemError: the template refuses the chat, or an image is unreadable.
        """
        return render_images(self.processor, messages, self.words)

    def _encode(self, request: ScoreRequest) -> tuple[Inputs, EncodedReplies]:
        """The inputs of a chat up to where its replies begin, and the replies' tokens.

        Image tokens come before replies, so the text without them cuts replies as well. A processor that takes a suffix encodes it apart.
        """
        text, images = self.render(request.messages)
        if self.inputs.has_suffix:
            replies = [self._suffix(reply) for reply in request.continuations]
            return self.inputs.make(text, images), EncodedReplies(text=text, prompt=[], replies=replies)
        encoded = encode_replies(self.words, self._delimiter.context(text), list(map(self.words.hide, request.continuations)))
        return self.inputs.make(encoded.text, images), encoded

    def _suffix(self, reply: str) -> list[int]:
        tokens = self.words.encode(self.words.hide(reply), add_special_tokens=False)
        if not tokens:
            raise ItemError("reply without tokens", repr(reply))
        return tokens

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return int(self.inputs.make(*self.render(request.messages))["input_ids"].shape[1] + request.longest)
        inputs, encoded = self._encode(request)
        return int(inputs["input_ids"].shape[1] + max(map(len, encoded.replies)))

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        inputs, encoded = self._encode(request)
        return self.score_tokens([inputs], [inputs["input_ids"].shape[1]], [encoded.replies], [encoded.merged])[0]

    def score_tokens(
        self, prompts: Sequence[Inputs], prompt_tokens: Sequence[int], replies: Sequence[Sequence[list[int]]], merged: Sequence[int] = ()
    ) -> list[ScoreResult]:
        """As `raw_text.RawText.score_tokens`, for one chat; each reply in one piece with it where the row's length changes its scores."""
        length = prompts[0]["input_ids"].shape[1]
        if not self._switches(length + max(map(len, replies[0]))):
            return score_prefixed(self, prompts, prompt_tokens, replies, merged)

        def row_logits(row: list[int], last: int) -> torch.Tensor:
            logits: torch.Tensor = self.model(**self.inputs.append(prompts[0], row[length:]), use_cache=False).logits[0, -last:]
            self._forget_length(len(row))
            return logits

        return score_single_rows(row_logits, [prompts[0]["input_ids"][0].tolist()], replies, merged, whole=True)

    def _switches(self, length: int) -> bool:
        """Whether a row of so many tokens has other rotary frequencies than a short one."""
        return self._border is not None and length > self._border

    def _forget_length(self, length: int) -> None:
        """As in `TokenRows`."""
        if self._switches(length):
            self.model(**self.inputs.of_text([pad_token(self.tokenizer, self.model)]), use_cache=False)

    def prefill(self, prompts: Sequence[Inputs]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer` for one chat: the state is its inputs."""
        return self.model(**prompts[0], use_cache=False).logits[:, -1], prompts[0]

    def extend(self, state: Inputs, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: each reply in one piece with its chat."""
        length = state["input_ids"].shape[1]
        logits = [self.model(**self.inputs.append(state, reply), use_cache=False).logits[0, length:] for reply in tokens]
        return torch.nn.utils.rnn.pad_sequence(logits, batch_first=True)

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        text, images = self.render(request.messages)
        inputs = self.inputs.make(text, images)
        length = inputs["input_ids"].shape[1]
        limit = reply_limit(self.tokenizer, [request], [text], self.reasoning, width=length)
        row = self.continue_tokens([inputs], request.longest, **greedy_settings(self.model), **limit)[0]
        return read_reply(self.tokenizer, row, request, prompt=text, prompt_tokens=length, reasoning=self.reasoning)

    def text_prompt(self, tokens: list[int]) -> Inputs:
        """A raw text as `prefill` and `continue_tokens` take it."""
        return self.inputs.of_text(tokens)

    def continue_tokens(self, prompts: Sequence[Inputs], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after one chat, up to the end of the turn, which is left out.

        Greedily unless `settings` (of transformers' `generate`), or penalties of the checkpoint's generation config, say otherwise.
        """
        ends = end_tokens(self.model, self.tokenizer)
        ending = {"eos_token_id": ends or None, "pad_token_id": pad_token(self.tokenizer, self.model)}
        length = prompts[0]["input_ids"].shape[1] + max_new_tokens
        cache = {"use_cache": False} if self._switches(length) else {}
        how = {"do_sample": False, "num_beams": 1} | ending | settings | cache
        output = self.model.generate(**prompts[0], max_new_tokens=max_new_tokens, **how)
        self._forget_length(length)
        return [until_end(output[0, prompts[0]["input_ids"].shape[1] :].tolist(), ends)]
