"""From a name to a loaded model: built-in models and those of entry points (`iit_bench.registry`)."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import fields
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.models.baselines import BlindModel
from iit_bench.models.contract import UNUSED_WEIGHTS, Model, ModelOptions
from iit_bench.models.loading_bars import without_bars
from iit_bench.numerals import counted
from iit_bench.registry import MODEL_GROUP, MODELS, match, resolve
from iit_bench.storage.atomic import check_writable
from iit_bench.terminal import write

OF_TRANSFORMERS = ("wings", "llava", "llava-one-rate", "base-llm", "hf:", "vllm:")
_PLACING = ("device_map", "quantization", "attn_implementation")
_WITHOUT_USE: dict[str, tuple[str, ...]] = {
    "wings": ("processor_kwargs", "adapter"),
    "llava": ("processor_kwargs", "adapter"),
    "llava-one-rate": ("processor_kwargs", "adapter"),
    "openai:": ("processor_kwargs", "adapter", "image_cache", *_PLACING),
    "vllm:": ("adapter", "image_cache", *_PLACING),
    "vlmeval:": ("chat_template_kwargs", "processor_kwargs", "adapter", "image_cache", *_PLACING),
    "random": ("chat_template_kwargs", "processor_kwargs", "adapter", "image_cache", *_PLACING),
    "majority": ("chat_template_kwargs", "processor_kwargs", "adapter", "image_cache", *_PLACING),
}


def load_model(name: str, options: ModelOptions, *, blind: bool = False, progress: bool = True) -> Model:
    """The model called `name`, loaded; with `blind`, all images are removed before it sees a chat.

    Transformers shows no bar of weights meanwhile, and the Hub shows its downloads with `progress` and where stderr is a terminal.

    Raises:
        UserError: no model has this name, or it cannot be loaded as asked.
    """
    _refuse_server_options(name, options)
    _refuse_options_without_use(name, options)
    _refuse_unusable_cache(options)
    factory = resolve(name, "model", MODELS, MODEL_GROUP)
    of_transformers = match(name, MODELS) in OF_TRANSFORMERS or "transformers" in sys.modules  # else it would be imported in vain
    with without_bars(downloads=progress and sys.stderr.isatty()) if of_transformers else contextlib.nullcontext():
        model: Model = factory(name, options)
    if unused := model.info.details.get(UNUSED_WEIGHTS):
        write(
            f"warning: model {name!r} has no place for {counted(unused['count'], 'weight')} of its checkpoint, {unused['first']!r} first; "
            "run.json records them",
            file=sys.stderr,
        )
    if blind:
        return BlindModel(model)
    return model


def _refuse_options_without_use(name: str, options: ModelOptions) -> None:
    """Options of templates, processors, adapters and placing that a built-in model has no use for would be recorded as if they had one."""
    for option in _WITHOUT_USE.get(match(name, MODELS) or "", ()):
        if getattr(options, option):
            raise UserError(f"model {name!r} has no use for --{option.replace('_', '-')}; leave it out")


def _refuse_unusable_cache(options: ModelOptions) -> None:
    if not options.image_cache:
        return
    folder = Path(options.image_cache)
    if folder.is_file():
        raise UserError(f"--image-cache {options.image_cache!r} is a file; name a folder")
    check_writable(folder)


def _refuse_server_options(name: str, options: ModelOptions) -> None:
    """Only a model behind a server has an address and a price; a model of an entry point may have both."""
    given = [field.name for field in fields(options.server) if getattr(options.server, field.name) != field.default]
    if given and match(name, MODELS) not in (None, "openai:"):
        flags = ", ".join("--" + field.replace("_", "-") for field in given)
        raise UserError(f"model {name!r} runs here, not on a server; leave out {flags}, or use --model openai:NAME")
