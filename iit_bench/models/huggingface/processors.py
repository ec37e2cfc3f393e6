"""Processors of image-text models: loaded, given the form of checkpoints without chats, and recorded."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import refused
from iit_bench.models.contract import ModelOptions
from iit_bench.models.huggingface.processor_limits import PIXEL_EDGES, check_limits
from iit_bench.models.rendering import apply_template, choose_template
from iit_bench.models.template_check import check_template

# Of checkpoints without chats, whose processor puts the prompt's images first and ends it itself (PaliGemma).
ONE_QUESTION = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('the model has no chats and takes no system prompt; leave it out') }}"
    "{% endif %}"
    "{% if messages | length > 1 %}{{ raise_exception('the model has no chats and answers one question; run the tiers T and V') }}"
    "{% endif %}"
    "{% for p in messages[0].content if p.type == 'image' %}IMAGE{% endfor %}"
    "{{ messages[0].content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join | trim }}"
)

OURS = frozenset({"return_tensors", "data_format", "input_data_format"})  # settings that the models here decide


def load_processor(checkpoint: str, folder: Path, options: ModelOptions) -> Any:
    """The checkpoint's processor, with `options.processor_kwargs` as settings of its processor of images.

    Raises:
        UserError: it cannot be loaded, a package that it needs is missing, or it has no such setting or takes no such value.
    """
    processor = _from_folder(checkpoint, folder, options, {})
    if getattr(processor, "image_processor", None) is None:
        raise UserError(
            f"checkpoint {checkpoint!r} takes images, but has no processor for them; add preprocessor_config.json and processor_config.json"
        )
    if type(processor).__name__ == "IdeficsProcessor":
        raise UserError(f"checkpoint {checkpoint!r}: the processor of Idefics 1 puts all images behind the text; use Idefics 2 or 3")
    check_limits(processor, checkpoint)
    if not options.processor_kwargs:
        return processor
    if ours := sorted(OURS & set(options.processor_kwargs)):
        raise UserError(f"{ours[0]!r} of the processor of images is not a user's to set; leave it out of --processor-kwargs")
    known = sorted(set(getattr(processor.image_processor.valid_kwargs, "__annotations__", {})) - OURS)
    if unknown := sorted(set(options.processor_kwargs) - set(known)):
        raise UserError(f"the processor of {checkpoint!r} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    changed = _from_folder(checkpoint, folder, options, options.processor_kwargs)
    check_limits(changed, checkpoint)
    _try(changed, checkpoint, options.processor_kwargs)
    for setting, value in options.processor_kwargs.items():
        if not _has(changed.image_processor, setting, value):
            raise UserError(f"the processor of {checkpoint!r} does not take {setting}={value!r}; leave it out of --processor-kwargs")
    return changed


def _from_folder(checkpoint: str, folder: Path, options: ModelOptions, settings: Mapping[str, Any]) -> Any:
    from transformers import AutoProcessor

    with refused(f"the processor of {checkpoint!r}", f"get its files again{', or leave out --processor-kwargs' if settings else ''}"):
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=options.trust_remote_code, **settings)
    check_template(processor, repr(checkpoint))
    return processor


def _try(processor: Any, checkpoint: str, settings: Mapping[str, Any]) -> None:
    """Process one image: some processors take a value of any type and stumble over it later.

    Types are checked of settings that come with a call, as they do where the whole processor passes its own on with every chat.
    """
    with_call = {setting: value for setting, value in settings.items() if setting not in PIXEL_EDGES}  # of these a call warns
    try:
        processor.image_processor(Image.new("RGB", (64, 64)), return_tensors="pt")
        processor.image_processor(Image.new("RGB", (64, 64)), return_tensors="pt", **with_call)
    except Exception as error:
        given = ", ".join(f"{setting}={value!r}" for setting, value in settings.items())
        raise UserError(f"the processor of {checkpoint!r} cannot process an image with {given}: {one_line(error)}") from error


def _has(image_processor: Any, setting: str, value: Any) -> bool:
    if setting in PIXEL_EDGES:
        size = image_processor.size
        edge = getattr(size, "shortest_edge" if setting == "min_pixels" else "longest_edge", None)
        return value in (edge, getattr(image_processor, setting, None))
    held = getattr(image_processor, setting, None)
    if isinstance(value, Mapping) and held is not None:
        return {name: getattr(held, name, None) for name in value} == dict(value)
    return bool(held == value) or (isinstance(value, (list, tuple)) and list(held or ()) == list(value))


def ensure_form(processor: Any, checkpoint: str) -> None:
    """Give the processor the chat template of its tokenizer if it has none, or the form of one question if there are no chats.

    Raises:
        UserError: there is no chat template and no form is known, or the template places no images.
    """
    processor.chat_template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    choose_template(processor)
    if not processor.chat_template:
        if not takes_suffix(processor):
            raise UserError(f"checkpoint {checkpoint!r} has no chat template, so images cannot be placed; add a chat_template.jinja")
        processor.chat_template = one_question(processor)
    text, image = {"type": "text", "text": "?"}, {"type": "image"}
    without, with_image = (_rendered(processor, parts) for parts in ([text], [image, text]))
    if with_image == without or "'type'" in with_image:  # the second: parts written out as they are held in Python
        raise UserError(f"the chat template of {checkpoint!r} is for text only and places no images; add a chat_template.jinja that does")


def one_question(processor: Any) -> str:
    """The template of a processor without chats: its images, then its words."""
    return ONE_QUESTION.replace("IMAGE", str(getattr(processor, "image_token", "")))


def _rendered(processor: Any, parts: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    try:
        return apply_template(processor, [{"role": "user", "content": parts}], add_generation_prompt=True)
    except TemplateError as error:  # it adds the parts to a string, for example
        return f"'type' {one_line(error)}"


def takes_suffix(processor: Any) -> bool:
    """Whether the processor tells a prompt from its suffix by token type: the model reads the first both ways, the second forwards."""
    return "suffix" in inspect.signature(type(processor).__call__).parameters


def processing_record(processor: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What determines the pixels that the model sees, for `ModelInfo.settings`: classes, backend ("torchvision", "pil"), versions."""
    images = processor.image_processor
    record = {
        "processor": type(processor).__name__,
        "image_processor": type(images).__name__,
        "backend": getattr(images, "backend", ""),
        "pillow": _version("pillow"),
        "torchvision": _version("torchvision"),
    }
    return record | ({"processor_kwargs": dict(settings)} if settings else {})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""  # not installed
