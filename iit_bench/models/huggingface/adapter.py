"""`hf:PATH_OR_HUB_ID`: any AutoModelForCausalLM or AutoModelForImageTextToText of transformers, with its own chat template."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from iit_bench.errors import ItemError, UserError, first_line
from iit_bench.models.checkpoints import checkpoint_sha256, pick_device, pick_dtype, resolve_checkpoint
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ModelOptions,
    ScoreRequest,
    ScoreResult,
)
from iit_bench.models.raw_text import PLAIN_TEMPLATE, RawText, special_tokens_of, until_end
from iit_bench.models.scoring import pad_left, pad_right, score_prefixed, split_continuation
from iit_bench.types import Message


def load(name: str, options: ModelOptions) -> Model:
    """A model from a folder or the Hub; `name` is `hf:CHECKPOINT`, or any other name with the checkpoint in the options.

    Raises:
        UserError: no such checkpoint, no safetensors, an architecture that transformers does not know.
    """
    checkpoint = name.removeprefix("hf:") if name.startswith("hf:") else options.checkpoint
    if not checkpoint or (name.startswith("hf:") and options.checkpoint):
        raise UserError(f"model {name!r} needs one checkpoint: hf:PATH_OR_HUB_ID, without --checkpoint")
    folder = resolve_checkpoint(checkpoint)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
    except (ValueError, OSError) as error:
        raise UserError(f"checkpoint {checkpoint!r} cannot be read by transformers: {first_line(error)}") from error
    if config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        from iit_bench.models.huggingface.image_text_adapter import VisionLanguageModel

        return VisionLanguageModel(name, checkpoint, folder, config, options)
    return CausalLM(name, checkpoint, folder, config, options)


def load_weights(factory: Any, folder: Path, config: Any, options: ModelOptions) -> tuple[Any, str]:
    """The model in eval mode on its device, and the device. `factory` is an AutoModelFor… class.

    Raises:
        UserError: transformers cannot build it.
    """
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device, getattr(config, "dtype", None))
    try:
        model, found = factory.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=options.trust_remote_code, output_loading_info=True
        )
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"checkpoint {str(folder)!r} cannot be loaded: {first_line(error)}; get the file again") from error
    if missing := sorted(found["missing_keys"]):  # transformers would go on with random numbers
        raise UserError(f"checkpoint {str(folder)!r} lacks {len(missing)} weights, {missing[0]!r} first; it is not whole, get it again")
    return model.to(device).eval(), device


def describe(name: str, checkpoint: str, folder: Path, model: Any, device: str, template: str, accepts_images: bool) -> ModelInfo:
    text_config = model.config.get_text_config()
    return ModelInfo(
        name=name,
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256(folder),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest(),
        accepts_images=accepts_images,
        blind=False,
        dtype=str(model.dtype).removeprefix("torch."),
        device=device,
        max_context=getattr(text_config, "max_position_embeddings", None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        details={"architecture": type(model).__name__},
    )


class CausalLM(RawText, Model):
    """A text-only model. A prompt is encoded once for all its replies where the model's cache is a plain one."""

    capabilities = Capabilities(
        takes_images=False, takes_raw_text=True, why_not={"takes_images": "transformers knows its architecture as one for text only"}
    )

    def __init__(self, name: str, checkpoint: str, folder: Path, config: Any, options: ModelOptions) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
        self.has_chat_template = self.tokenizer.chat_template is not None
        if not self.has_chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id or 0
        self.model, device = load_weights(AutoModelForCausalLM, folder, config, options)
        self.info = describe(name, checkpoint, folder, self.model, device, str(self.tokenizer.chat_template), accepts_images=False)
        accepted = inspect.signature(self.model.forward).parameters
        self._takes_positions, self._takes_logits_to_keep = "position_ids" in accepted, "logits_to_keep" in accepted

    # ------------------------------------------------------------ rendering

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the model's own template writes it, up to where the reply begins.

        Raises:
            ItemError: the template refuses the chat (a system turn, say).
        """
        chat = [{"role": message.role, "content": message.text} for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            raise ItemError("chat template refused", str(error)) from error

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, **special_tokens_of(self.tokenizer, text))

    def _tokens(self, request: ScoreRequest) -> tuple[list[int], list[list[int]]]:
        prompt = self.render(request.messages)
        pairs = [split_continuation(self._encode, prompt, text) for text in request.continuations]
        return pairs[0][0], [reply for _, reply in pairs]

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return len(self._encode(self.render(request.messages))) + request.max_new_tokens
        prompt, replies = self._tokens(request)
        return len(prompt) + max(map(len, replies))

    # ------------------------------------------------------------ scoring

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        tokens = [self._tokens(request) for request in batch]
        prompts = [prompt for prompt, _ in tokens]
        return score_prefixed(self, prompts, list(map(len, prompts)), [replies for _, replies in tokens])

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer`: the state is (prompts, attention mask, cache), the cache None where the model has no plain one."""
        ids, mask = pad_left(prompts, self.pad, self.info.device)
        keep = {"logits_to_keep": 1} if self._takes_logits_to_keep else {}
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **self._positions(mask, ids.shape[1]), **keep)
        cache = getattr(output, "past_key_values", None)
        plain = isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)
        return output.logits[:, -1], (prompts, mask, cache if plain else None)

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        prompts, mask, cache = state
        if cache is None:  # sliding windows, recurrent states: encode prompt and reply in one piece
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
        prompts = [self._encode(self.render(request.messages)) for request in batch]
        longest = max(request.max_new_tokens for request in batch)
        results = []
        for request, prompt, row in zip(batch, prompts, self.continue_tokens(prompts, longest), strict=True):
            reply = row[: request.max_new_tokens]
            results.append(GenerateResult(str(self.tokenizer.decode(reply, skip_special_tokens=True)).strip(), len(prompt), len(reply)))
        return results

    def continue_tokens(self, prompts: Sequence[list[int]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """Greedy unless `settings` (of transformers' `generate`) say otherwise; up to the end of the turn, which is left out."""
        ids, mask = pad_left(prompts, self.pad, self.info.device)
        how = {"do_sample": False, "num_beams": 1} | settings
        output = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, pad_token_id=self.pad, **how)
        ends = self.model.generation_config.eos_token_id
        stop = (self.tokenizer.eos_token_id, *([ends] if isinstance(ends, int) else ends or []))
        return [until_end(row, stop) for row in output[:, ids.shape[1] :].tolist()]
