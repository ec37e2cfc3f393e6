"""`vllm:PATH_OR_HUB_ID`: a checkpoint run by vLLM inside this process, where vLLM is installed; the same prompts and tokens as under `hf:`.

Written against vLLM's documented offline interface (`LLM.generate` on token prompts, `prompt_logprobs`); it has never been run with vLLM
itself, only with a stand-in of that interface (tests/models/vllm/test_vllm_offline.py). A server that vLLM runs is reached by `openai:`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from iit_bench.errors import ItemError, UserError, first_line
from iit_bench.images import decode_item
from iit_bench.models.checkpoints import checkpoint_sha256, resolve_checkpoint
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ModelOptions,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    cut_at,
)
from iit_bench.models.raw_text import PLAIN_TEMPLATE, Pair, RawText, joined, special_tokens_of
from iit_bench.models.scoring import split_continuation
from iit_bench.types import Message

MAX_IMAGES = 8  # of one chat; vLLM reserves memory for them


def load(name: str, options: ModelOptions) -> Model:
    """A checkpoint behind vLLM's `LLM`; `name` is `vllm:PATH_OR_HUB_ID`.

    Raises:
        UserError: vLLM is not installed, cannot load the checkpoint, or is asked for what it decides itself.
    """
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            f"model {name!r} needs vLLM, which cannot be imported ({error}); pip install vllm, or use hf:{name.removeprefix('vllm:')}"
        ) from error
    if options.checkpoint:
        raise UserError(f"model {name!r} names its checkpoint already; leave out --checkpoint")
    if options.device != "auto":
        raise UserError("vLLM chooses its device itself; leave out --device, or hide devices from it with CUDA_VISIBLE_DEVICES")
    return VllmModel(name, vllm, options)


class VllmModel(RawText, Model):
    """vLLM batches and caches prefixes itself; a batch here is only what is asked for in one call."""

    def __init__(self, name: str, vllm: Any, options: ModelOptions) -> None:
        from transformers import AutoConfig, AutoProcessor
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        folder = resolve_checkpoint(name.removeprefix("vllm:"))
        trust = {"trust_remote_code": options.trust_remote_code}
        sees = AutoConfig.from_pretrained(folder, **trust).model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        self._renderer = AutoProcessor.from_pretrained(folder, **trust)  # of a text-only model: its tokenizer
        self.tokenizer = getattr(self._renderer, "tokenizer", self._renderer)
        template = getattr(self._renderer, "chat_template", None) or self.tokenizer.chat_template
        self.has_chat_template = template is not None
        if not self.has_chat_template:
            if sees:
                raise UserError(f"model {name!r} has no chat template, so images cannot be placed; add a chat_template.jinja")
            self.tokenizer.chat_template = template = PLAIN_TEMPLATE
        self.placeholder = str(getattr(self._renderer, "image_token", None) or "")
        images = {"limit_mm_per_prompt": {"image": MAX_IMAGES}} if sees else {}
        try:
            self.llm = vllm.LLM(model=str(folder), dtype=options.dtype, seed=options.seed, **trust, **images)
        except (ValueError, OSError, RuntimeError) as error:
            raise UserError(f"vLLM cannot load {str(folder)!r}: {first_line(error)}") from error
        self._sampling = vllm.SamplingParams
        why_not = {} if sees else {"takes_images": "transformers knows its architecture as one for text only"}
        self.capabilities = Capabilities(takes_images=sees, takes_raw_text=True, why_not=why_not)
        config = self.llm.llm_engine.model_config
        self.info = ModelInfo(
            name=name,
            checkpoint=str(folder),
            checkpoint_sha256=checkpoint_sha256(folder),
            chat_template_sha256=hashlib.sha256(str(template).encode()).hexdigest(),
            accepts_images=sees,
            blind=False,
            dtype=str(config.dtype).removeprefix("torch."),
            device="cuda",
            max_context=int(config.max_model_len),
            details={"vllm": getattr(vllm, "__version__", "?")},
        )

    # ------------------------------------------------------------ prompts

    @property
    def context_limit(self) -> int:
        """Two tokens less than the model takes: vLLM generates at least one, and our own models never read a reply's last."""
        return super().context_limit - 2

    def render(self, messages: Sequence[Message]) -> str:
        """The chat as the model's own template writes it, up to where the reply begins.

        Raises:
            ItemError: the template refuses it.
        """
        try:
            return str(self._renderer.apply_chat_template([self._turn(m) for m in messages], tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            raise ItemError("chat template refused", str(error)) from error

    def _turn(self, message: Message) -> dict[str, Any]:
        if not self.capabilities.takes_images:
            return {"role": message.role, "content": message.text}
        parts = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts]
        return {"role": message.role, "content": parts}

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, **special_tokens_of(self.tokenizer, text)))

    def _prompt(self, tokens: list[int], messages: Sequence[Message] = ()) -> dict[str, Any]:
        """vLLM's TokensPrompt: an image's placeholder in the tokens is drawn out by vLLM itself."""
        images = [decode_item(image) for message in messages for image in message.images]
        return {"prompt_token_ids": tokens} | ({"multi_modal_data": {"image": images}} if images else {})

    def _pairs_of(self, request: ScoreRequest) -> list[Pair]:
        prompt = self.render(request.messages)
        return [split_continuation(self._encode, prompt, text) for text in request.continuations]

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return len(self._encode(self.render(request.messages))) + request.max_new_tokens
        return max(len(before) + len(after) for before, after in self._pairs_of(request)) + 1

    def _run(self, prompts: Sequence[Mapping[str, Any]], sampling: Any) -> list[Any]:
        """vLLM's outputs, in order.

        Raises:
            ItemError: it refuses a prompt (too long with its images, too many of them); the engine finds out which.
        """
        try:
            return list(self.llm.generate(list(prompts), sampling, use_tqdm=False))
        except ValueError as error:
            raise ItemError("refused by vLLM", first_line(error)) from error

    # ------------------------------------------------------------ scoring

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        pairs = [self._pairs_of(request) for request in batch]
        flat = [(pair, request.messages) for request, some in zip(batch, pairs, strict=True) for pair in some]
        scores = iter(self._scored([self._prompt([*before, *after], chat) for (before, after), chat in flat], [pair for pair, _ in flat]))
        return [_of_prompt([next(scores) for _ in some]) for some in pairs]

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        return self._scored([self._prompt([*before, *after]) for before, after in pairs], pairs)

    def _scored(self, prompts: Sequence[Mapping[str, Any]], pairs: Sequence[Pair]) -> list[ScoreResult]:
        outputs = self._run(prompts, self._sampling(temperature=0, max_tokens=1, prompt_logprobs=1, detokenize=False))
        return [_read(output, reply) for output, (_, reply) in zip(outputs, pairs, strict=True)]

    # ------------------------------------------------------------ generating

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        prompts = [self._prompt(self._encode(self.render(request.messages)), request.messages) for request in batch]
        sampling = [self._sampling(temperature=0, max_tokens=request.max_new_tokens) for request in batch]
        return [_reply(output) for output in self._run(prompts, sampling)]

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        prompts = [self._prompt(self._cut_prompt(request)) for request in batch]
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
            raise UserError(f"vLLM does not know a setting of generation ({error}); leave it out of --gen-kwargs") from error


def _read(output: Any, reply: Sequence[int]) -> ScoreResult:
    """The last tokens of an echoed prompt: `prompt_logprobs` has per token a dict of the most likely one and of the token itself."""
    if list(output.prompt_token_ids[-len(reply) :]) != list(reply):
        raise ItemError("refused by vLLM", "the prompt does not end in the reply's tokens")
    own = [tokens[token] for tokens, token in zip(output.prompt_logprobs[-len(reply) :], reply, strict=True)]
    total = float(sum(one.logprob for one in own))
    return ScoreResult((total,), (len(reply),), (all(one.rank == 1 for one in own),), len(output.prompt_token_ids) - len(reply))


def _of_prompt(scores: Sequence[ScoreResult]) -> ScoreResult:
    return joined(scores, scores[0].prompt_tokens)


def _reply(output: Any) -> GenerateResult:
    said = output.outputs[0]
    return GenerateResult(said.text.strip(), len(output.prompt_token_ids), len(said.token_ids))
