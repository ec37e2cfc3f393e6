"""Any AutoModelForCausalLM of transformers behind the model contract, with its own chat template."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.models.huggingface.generation import end_tokens, greedy_settings
from iit_bench.models.raw_text import RawText, until_end
from iit_bench.models.reasoning import read_reply, reasoning_of, reply_limit
from iit_bench.models.rendering import encode_prompt, render_prompt, text_turns
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.scoring import pad_left, pad_right, score_prefixed
from iit_bench.models.special_tokens import pad_token
from iit_bench.types import Message

TEXT_ONLY = "transformers knows its architecture as one for text only"


class CausalLM(RawText, Model):
    """A text-only model. A prompt is encoded once for all its replies where the model's cache is a plain one."""

    capabilities = Capabilities(takes_images=False, takes_raw_text=True, why_not={"takes_images": TEXT_ONLY})

    def __init__(self, model: Any, tokenizer: Any, info: ModelInfo, has_chat_template: bool) -> None:
        self.model, self.tokenizer, self.has_chat_template = model, tokenizer, has_chat_template
        self.reasoning = reasoning_of(tokenizer)
        self.capabilities = replace(type(self).capabilities, reasons=self.reasoning.expected)
        self.pad = pad_token(tokenizer, model)
        self._delimiter = learn_delimiter(tokenizer, text_turns)
        self.info = info.with_settings(**self._delimiter.settings())
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions, self._takes_logits_to_keep = "position_ids" in accepted, "logits_to_keep" in accepted

    # ------------------------------------------------------------ prompts

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the model's own template writes it, up to where the reply begins.

        Raises:
            ItemError: the template refuses the chat.
        """
        return render_prompt(self.tokenizer, text_turns(messages))

    def _encoded(self, request: ScoreRequest) -> EncodedReplies:
        return encode_replies(self.tokenizer, self._delimiter.context(self.render(request.messages)), request.continuations)

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return len(encode_prompt(self.tokenizer, self.render(request.messages))) + request.longest
        encoded = self._encoded(request)
        return len(encoded.prompt) + max(map(len, encoded.replies))

    # ------------------------------------------------------------ scoring

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        encoded = [self._encoded(request) for request in batch]
        prompts = [one.prompt for one in encoded]
        return score_prefixed(self, prompts, list(map(len, prompts)), [one.replies for one in encoded], [one.merged for one in encoded])

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer`: the state is (prompts, attention mask, cache), the cache None where the model has no plain one."""
        ids, mask = pad_left(prompts, self.pad, self.info.device)
        keep = {"logits_to_keep": 1} if self._takes_logits_to_keep else {}
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **self._positions(mask, ids.shape[1]), **keep)
        cache = getattr(output, "past_key_values", None)
        plain = isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)
        return output.logits[:, -1], (prompts, mask, cache if plain else None)

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: a branch of the cache per reply, or prompt and reply in one piece where there is no cache."""
        prompts, mask, cache = state
        if cache is None:  # sliding windows, recurrent states
            return self._whole([prompts[row] for row in rows], tokens)
        ids, token_mask = pad_right(tokens, self.pad, self.info.device)
        chosen = torch.tensor(rows, device=mask.device)
        whole = torch.cat((mask[chosen], token_mask), dim=1)
        branch = DynamicCache()
        for index, layer in enumerate(cache.layers):
            branch.update(layer.keys[chosen], layer.values[chosen], index)
        positions = self._positions(whole, ids.shape[1])
        return self.model(input_ids=ids, attention_mask=whole, past_key_values=branch, use_cache=True, **positions).logits

    def _whole(self, prompts: Sequence[list[int]], tokens: Sequence[list[int]]) -> torch.Tensor:
        ids, mask = pad_right([[*prompt, *more] for prompt, more in zip(prompts, tokens, strict=True)], self.pad, self.info.device)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **self._positions(mask, ids.shape[1])).logits
        width = max(map(len, tokens))
        start = torch.tensor([len(prompt) for prompt in prompts], device=logits.device)
        index = (start[:, None] + torch.arange(width, device=logits.device)).clamp(max=logits.shape[1] - 1)
        return logits.gather(1, index[:, :, None].expand(-1, -1, logits.shape[2]))

    def _positions(self, mask: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
        """Positions of the last `count` columns: padding does not count."""
        if not self._takes_positions:
            return {}
        return {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -count:]}

    # ------------------------------------------------------------ generating

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        texts = [self.render(request.messages) for request in batch]
        prompts = [encode_prompt(self.tokenizer, text) for text in texts]
        limit = reply_limit(self.tokenizer, batch, texts, self.reasoning, width=max(map(len, prompts)))
        rows = self.continue_tokens(prompts, max(request.longest for request in batch), **(greedy_settings(self.model) | limit))
        return [
            read_reply(self.tokenizer, row, request, prompt=text, prompt_tokens=len(prompt), reasoning=self.reasoning)
            for request, text, prompt, row in zip(batch, texts, prompts, rows, strict=True)
        ]

    def continue_tokens(self, prompts: Sequence[list[int]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after each prompt up to the end of the turn, which is left out.

        `settings` are arguments of transformers' `generate`; where they are silent, decoding is greedy but obeys the penalties of
        generation_config.json, as lm-eval's does.
        """
        ids, mask = pad_left(prompts, self.pad, self.info.device)
        ends = end_tokens(self.model, self.tokenizer)
        own = {"max_new_tokens": max_new_tokens, "pad_token_id": self.pad, "eos_token_id": ends or None}
        output = self.model.generate(input_ids=ids, attention_mask=mask, **({"do_sample": False, "num_beams": 1} | settings | own))
        return [until_end(row, ends) for row in output[:, ids.shape[1] :].tolist()]
