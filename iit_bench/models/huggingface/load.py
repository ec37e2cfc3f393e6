"""From a folder or a Hub id to a model: any AutoModelForCausalLM or AutoModelForImageTextToText of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
)
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from iit_bench.errors import UserError
from iit_bench.models.checkpoint_check import CANNOT_BE_ASKED, CHECK_FILES, refused
from iit_bench.models.checkpoint_files import Checkpoint, find_checkpoint
from iit_bench.models.checkpoints import describe, load_weights
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.huggingface.adapter import CausalLM
from iit_bench.models.huggingface.feature_folder import open_folder
from iit_bench.models.huggingface.generation import generation_record
from iit_bench.models.huggingface.image_text_adapter import ImageTextModel
from iit_bench.models.huggingface.processors import ensure_form, load_processor, processing_record
from iit_bench.models.rendering import ensure_template
from iit_bench.models.special_tokens import drop_end_tokens
from iit_bench.models.template_arguments import fix_template
from iit_bench.models.template_check import read_tokenizer


def load(name: str, options: ModelOptions) -> Model:
    """A model from a folder or the Hub; `name` is `hf:CHECKPOINT`, or any other name with the checkpoint in the options.

    Raises:
        UserError: no such checkpoint, no safetensors, or an architecture that transformers does not know.
    """
    checkpoint = name.removeprefix("hf:") if name.startswith("hf:") else options.checkpoint
    if not checkpoint or (name.startswith("hf:") and options.checkpoint):
        raise UserError(f"model {name!r} needs one checkpoint: hf:PATH_OR_HUB_ID, without --checkpoint")
    files = find_checkpoint(checkpoint, options.adapter, trust_remote_code=options.trust_remote_code)
    with refused(f"checkpoint {checkpoint!r} cannot be read by transformers", "get its config.json again"):
        config = AutoConfig.from_pretrained(files.folder, trust_remote_code=options.trust_remote_code)
    make = _image_text_model if image_text_factory(config.model_type) else _causal_lm
    return make(name, checkpoint, files, config, options)


def image_text_factory(model_type: str) -> Any:
    """The AutoModelFor… class that loads an image-text model of this type; None for other types."""
    if model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return AutoModelForImageTextToText
    # Phi-4-multimodal is listed with models that also hear; loaded as a plain causal LM it would be blind without notice.
    hears = model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return AutoModelForMultimodalLM if hears and model_type in IMAGE_PROCESSOR_MAPPING_NAMES else None


def _named(name: str, checkpoint: str, files: Checkpoint, options: ModelOptions) -> dict[str, Any]:
    return {"name": name, "checkpoint": checkpoint, "files": files, "options": options, "trust_remote_code": options.trust_remote_code}


def _causal_lm(name: str, checkpoint: str, files: Checkpoint, config: Any, options: ModelOptions) -> Model:
    if options.processor_kwargs:
        raise UserError(f"model {name!r} is text-only and has no processor of images; leave out --processor-kwargs")
    if options.image_cache:
        raise UserError(f"model {name!r} is text-only and has no features of images; leave out --image-cache")
    what = f"the tokenizer of {checkpoint!r} cannot be read by transformers"
    tokenizer = read_tokenizer(files.tokenizer, what, "get its files again", trust_remote_code=options.trust_remote_code)
    has_template, dropped = ensure_template(tokenizer), drop_end_tokens(tokenizer)
    template = tokenizer.chat_template
    fixed = fix_template(tokenizer, options, name)  # a wrong argument is refused before the weights are read
    model, device, unused = load_weights(AutoModelForCausalLM, files, config, options)
    info = describe(
        model, **_named(name, checkpoint, files, options), device=device, template=template, accepts_images=False, unused=unused
    )
    settings = dropped | generation_record(files.folder, model, tokenizer) | fixed
    with refused(f"checkpoint {checkpoint!r} {CANNOT_BE_ASKED}", CHECK_FILES):
        return CausalLM(model, tokenizer, info.with_settings(**settings), has_template, options.way)


def _image_text_model(name: str, checkpoint: str, files: Checkpoint, config: Any, options: ModelOptions) -> Model:
    if config.is_encoder_decoder:
        raise UserError(f"checkpoint {checkpoint!r} is an encoder-decoder model ({config.model_type}): its replies continue no prompt")
    processor = load_processor(checkpoint, files.processor, options)
    ensure_form(processor, checkpoint)
    dropped = drop_end_tokens(processor.tokenizer)
    template = processor.chat_template
    fixed = fix_template(processor, options, name)
    model, device, unused = load_weights(image_text_factory(config.model_type), files, config, options)
    info = describe(model, **_named(name, checkpoint, files, options), device=device, template=template, accepts_images=True, unused=unused)
    settings = dropped | {"image_processing": processing_record(processor, options.processor_kwargs)}
    settings |= generation_record(files.folder, model, processor.tokenizer) | fixed
    folder = open_folder(Path(options.image_cache), model, settings["image_processing"], processor) if options.image_cache else None
    with refused(f"checkpoint {checkpoint!r} {CANNOT_BE_ASKED}", CHECK_FILES):
        made = ImageTextModel(model, processor, info.with_settings(**settings), options.way, folder)
    if folder and made.chats is None:
        raise UserError(f"model {name!r} reads images with every chat ({made.info.details['images']['why']}); leave out --image-cache")
    return made
