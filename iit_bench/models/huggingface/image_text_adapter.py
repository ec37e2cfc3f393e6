"""Any AutoModelForImageTextToText of transformers with its own processor: interleaved images, one chat at a time.

Processors lay out images in too many ways to pad several chats together safely, so a batch is answered chat by chat, and every reply is
scored in one piece with its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image as PillowImage
from transformers import AutoModelForImageTextToText, AutoProcessor

from iit_bench.errors import ItemError, UserError, first_line
from iit_bench.images import decode_item
from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelOptions, ScoreRequest, ScoreResult
from iit_bench.models.huggingface.adapter import describe, load_weights
from iit_bench.models.raw_text import RawText, special_tokens_of
from iit_bench.models.scoring import score_prefixed, split_continuation
from iit_bench.types import Image, Message


class VisionLanguageModel(RawText, Model):
    """A multimodal model behind its own processor."""

    capabilities = Capabilities(takes_raw_text=True)
    prompts_at_once = 1

    def __init__(self, name: str, checkpoint: str, folder: Path, config: Any, options: ModelOptions) -> None:
        try:
            self.processor = AutoProcessor.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
        except (ImportError, OSError, ValueError) as error:
            raise UserError(f"the processor of {checkpoint!r} cannot be loaded: {first_line(error)}") from error
        self.tokenizer = self.processor.tokenizer
        template = getattr(self.processor, "chat_template", None) or self.tokenizer.chat_template
        if not template:
            raise UserError(f"checkpoint {checkpoint!r} has no chat template, so images cannot be placed; add a chat_template.jinja")
        self.model, device = load_weights(AutoModelForImageTextToText, folder, config, options)
        self.placeholder = str(getattr(self.processor, "image_token", None) or "")
        self.info = describe(name, checkpoint, folder, self.model, device, str(template), accepts_images=True)

    def render(self, messages: Sequence[Message]) -> tuple[str, list[PillowImage.Image]]:
        """The chat as the processor's template writes it, and its images in order."""
        chat = [{"role": message.role, "content": [_content(part) for part in message.parts]} for message in messages]
        try:
            text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ItemError("chat template refused", str(error)) from error
        return str(text), [decode_item(image) for message in messages for image in message.images]

    def _inputs(self, text: str, images: list[PillowImage.Image]) -> dict[str, Any]:
        inputs = self.processor(text=[text], images=images or None, return_tensors="pt", **special_tokens_of(self.tokenizer, text))
        moved = {name: value.to(self.info.device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        return {name: v.to(self.model.dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in moved.items()}

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        text, images = self.render(request.messages)
        length = self._inputs(text, images)["input_ids"].shape[1]
        if isinstance(request, GenerateRequest):
            return int(length + request.max_new_tokens)
        return int(length + max(len(self._reply(text, reply)) for reply in request.continuations))

    def _reply(self, text: str, reply: str) -> list[int]:
        """Tokens of a reply: image tokens stand before it, so the unexpanded text cuts it as well as the expanded one."""
        return split_continuation(lambda t: self.tokenizer.encode(t, **special_tokens_of(self.tokenizer, t)), text, reply)[1]

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        text, images = self.render(request.messages)
        inputs = self._inputs(text.rstrip(), images)
        length = inputs["input_ids"].shape[1]
        replies = [self._reply(text, reply) for reply in request.continuations]
        return score_prefixed(self, [inputs], [length], [replies])[0]

    def prefill(self, prompts: Sequence[dict[str, Any]]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer` for one chat: the state is its inputs."""
        return self.model(**prompts[0], use_cache=False).logits[:, -1], prompts[0]

    def extend(self, state: dict[str, Any], rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        length = state["input_ids"].shape[1]
        found = [self.model(**_lengthened(state, reply), use_cache=False).logits[0, length:] for reply in tokens]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        inputs = self._inputs(*self.render(request.messages))
        length = inputs["input_ids"].shape[1]
        reply = self.continue_tokens([inputs], request.max_new_tokens)[0]
        text = self.tokenizer.decode(reply, skip_special_tokens=True).strip()
        return GenerateResult(text, length, len(reply))

    def text_prompt(self, tokens: list[int]) -> dict[str, Any]:
        """A raw text, for `models.text`."""
        ids = torch.tensor([tokens], device=self.info.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def continue_tokens(self, prompts: Sequence[dict[str, Any]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """Decode on from one chat: greedily unless `settings` (of transformers' `generate`) say otherwise."""
        how = {"do_sample": False, "num_beams": 1} | settings
        output = self.model.generate(**prompts[0], max_new_tokens=max_new_tokens, **how)
        reply: list[int] = output[0, prompts[0]["input_ids"].shape[1] :].tolist()
        return [reply]


def _content(part: str | Image) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def _lengthened(inputs: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """The inputs of a chat with a reply's tokens after them: every per-token tensor grows, 0 marks text in token types and 1 in masks."""
    length = inputs["input_ids"].shape[1]
    longer = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape == (1, length) and name != "pixel_values":
            more = tokens if name == "input_ids" else [int(name == "attention_mask")] * len(tokens)
            longer[name] = torch.cat((value, torch.tensor([more], device=value.device, dtype=value.dtype)), dim=1)
    return longer
