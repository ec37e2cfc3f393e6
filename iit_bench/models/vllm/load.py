"""From `vllm:PATH_OR_HUB_ID` to a checkpoint that vLLM runs inside this process."""

from __future__ import annotations

from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import refused
from iit_bench.models.checkpoint_files import checkpoint_sha256, resolve_checkpoint
from iit_bench.models.contract import Model, ModelInfo, ModelOptions
from iit_bench.models.rendering import ensure_template, template_sha256
from iit_bench.models.special_tokens import drop_end_tokens
from iit_bench.models.template_arguments import fix_template
from iit_bench.models.template_check import check_template
from iit_bench.models.vllm.adapter import VllmModel

PREFIX = "vllm:"
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
            f"model {name!r} needs vLLM, which cannot be imported ({one_line(error)}); pip install vllm, or use "
            f"hf:{name.removeprefix(PREFIX)}"
        ) from error
    if options.checkpoint:
        raise UserError(f"model {name!r} names its checkpoint already; leave out --checkpoint")
    if options.device != "auto":
        raise UserError("vLLM chooses its device itself; leave out --device, or hide devices from it with CUDA_VISIBLE_DEVICES")
    return _load(name, vllm, options)


def _load(name: str, vllm: Any, options: ModelOptions) -> Model:
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    folder = resolve_checkpoint(name.removeprefix(PREFIX), trust_remote_code=options.trust_remote_code)
    trust = {"trust_remote_code": options.trust_remote_code}
    with refused(f"model {name!r} cannot be read by transformers"):
        sees = AutoConfig.from_pretrained(folder, **trust).model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        renderer = AutoProcessor.from_pretrained(folder, **trust)  # of a text-only model: its tokenizer
    check_template(renderer, repr(name))
    tokenizer = getattr(renderer, "tokenizer", renderer)
    template = getattr(renderer, "chat_template", None) or tokenizer.chat_template
    if template is None and sees:
        raise UserError(f"model {name!r} has no chat template, so images cannot be placed; add a chat_template.jinja")
    has_template = template is not None or ensure_template(tokenizer)
    dropped = drop_end_tokens(tokenizer)
    text = template or tokenizer.chat_template
    fixed = fix_template(renderer, options, name)
    images: dict[str, Any] = {"limit_mm_per_prompt": {"image": MAX_IMAGES}} if sees else {}
    if options.processor_kwargs:
        if not sees:
            raise UserError(f"model {name!r} is text-only and has no processor of images; leave out --processor-kwargs")
        images["mm_processor_kwargs"] = dict(options.processor_kwargs)
    try:
        llm = vllm.LLM(model=str(folder), dtype=options.dtype, seed=options.seed, **trust, **images)
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"vLLM cannot load {str(folder)!r}: {one_line(error)}") from error
    config = llm.llm_engine.model_config
    info = ModelInfo(
        name=name,
        checkpoint=str(folder),
        checkpoint_sha256=checkpoint_sha256(folder, trust_remote_code=options.trust_remote_code),
        chat_template_sha256=template_sha256(text),
        accepts_images=sees,
        blind=False,
        dtype=str(config.dtype).removeprefix("torch."),
        device="cuda",
        max_context=int(config.max_model_len),
        settings=dropped | fixed | ({"processor_kwargs": dict(options.processor_kwargs)} if options.processor_kwargs else {}),
        details={"vllm": getattr(vllm, "__version__", "?")},
    )
    return VllmModel(llm, vllm.SamplingParams, renderer, info, has_template)
