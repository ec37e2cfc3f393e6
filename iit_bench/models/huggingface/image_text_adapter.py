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

from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.models.huggingface.encoding import append_tokens, make_inputs, render_images
from iit_bench.models.raw_text import RawText
from iit_bench.models.reasoning import read_reply, reasoning_of, reply_limit
from iit_bench.models.rendering import turns_of_parts
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.scoring import score_prefixed
from iit_bench.types import Message


class ImageTextModel(RawText, Model):
    """A multimodal model behind its own processor."""

    capabilities = Capabilities(takes_raw_text=True)
    prompts_at_once = 1

    def __init__(self, model: Any, processor: Any, info: ModelInfo) -> None:
        self.model, self.processor = model, processor
        self.tokenizer = processor.tokenizer
        self.reasoning = reasoning_of(processor)
        self.capabilities = replace(type(self).capabilities, reasons=self.reasoning.expected)
        self.placeholder = str(getattr(processor, "image_token", None) or "")
        self._delimiter = learn_delimiter(processor, turns_of_parts)
        self.info = info.with_settings(**self._delimiter.settings())

    def render(self, messages: Sequence[Message]) -> tuple[str, list[PillowImage.Image]]:
        """The chat as the processor's template writes it, and its images in order.

        Raises:
            ItemError: the template refuses the chat, or an image is unreadable.
        """
        return render_images(self.processor, messages)

    def _inputs(self, text: str, images: list[PillowImage.Image]) -> dict[str, Any]:
        return make_inputs(self.processor, text, images, self.model)

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        text, images = self.render(request.messages)
        if isinstance(request, GenerateRequest):
            return int(self._inputs(text, images)["input_ids"].shape[1] + request.longest)
        encoded = self._encoded(text, request.continuations)
        return int(self._inputs(encoded.text, images)["input_ids"].shape[1] + max(map(len, encoded.replies)))

    def _encoded(self, prompt: str, continuations: Sequence[str]) -> EncodedReplies:
        """Replies in tokens: image tokens come before them, so the unexpanded text cuts them as well as the expanded one."""
        return encode_replies(self.tokenizer, self._delimiter.context(prompt), continuations)

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        text, images = self.render(request.messages)
        encoded = self._encoded(text, request.continuations)
        inputs = self._inputs(encoded.text, images)
        length = inputs["input_ids"].shape[1]
        return score_prefixed(self, [inputs], [length], [encoded.replies], [encoded.merged])[0]

    def prefill(self, prompts: Sequence[dict[str, Any]]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer` for one chat: the state is its inputs."""
        return self.model(**prompts[0], use_cache=False).logits[:, -1], prompts[0]

    def extend(self, state: dict[str, Any], rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: each reply in one piece with its chat."""
        length = state["input_ids"].shape[1]
        logits = [self.model(**append_tokens(state, reply), use_cache=False).logits[0, length:] for reply in tokens]
        return torch.nn.utils.rnn.pad_sequence(logits, batch_first=True)

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        text, images = self.render(request.messages)
        inputs = self._inputs(text, images)
        length = inputs["input_ids"].shape[1]
        limit = reply_limit(self.tokenizer, [request], [text], self.reasoning, width=length)
        row = self.continue_tokens([inputs], request.longest, **limit)[0]
        return read_reply(self.tokenizer, row, request, prompt=text, prompt_tokens=length, reasoning=self.reasoning)

    def text_prompt(self, tokens: list[int]) -> dict[str, Any]:
        """A raw text as `prefill` and `continue_tokens` take it."""
        ids = torch.tensor([tokens], device=self.info.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def continue_tokens(self, prompts: Sequence[dict[str, Any]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after one chat, greedily unless `settings` (of transformers' `generate`) say otherwise."""
        how = {"do_sample": False, "num_beams": 1} | settings
        output = self.model.generate(**prompts[0], max_new_tokens=max_new_tokens, **how)
        reply: list[int] = output[0, prompts[0]["input_ids"].shape[1] :].tolist()
        return [reply]
