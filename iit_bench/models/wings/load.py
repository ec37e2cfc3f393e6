"""From a name and options to a model: a folder of this project or one with the authors' names, in mode `strict` or `released`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import CANNOT_BE_ASKED, CHECK_FILES, refused
from iit_bench.models.checkpoint_files import Checkpoint, resolve_checkpoint
from iit_bench.models.checkpoints import describe, load_weights
from iit_bench.models.contract import Model, ModelInfo, ModelOptions
from iit_bench.models.huggingface.feature_folder import FeatureFolder, computed_by, weights_sha256
from iit_bench.models.placement import dispatch, input_device, plan_placement, refuse_placing
from iit_bench.models.special_tokens import drop_end_tokens
from iit_bench.models.template_arguments import fix_template
from iit_bench.models.template_check import read_tokenizer
from iit_bench.models.wings.adapter import WingsModel
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.released.adapter import ReleasedWingsModel
from iit_bench.models.wings.released.checkpoint import (
    DTYPES,
    check_files_finite,
    check_finite,
    check_names,
    empty_model,
    load_official,
    read_headers,
)
from iit_bench.models.wings.released.names import is_official, read_config
from iit_bench.models.wings.released.scripts import SCRIPTS

# Fields of the configuration that determine an image's features beside the tower's weights.
OF_IMAGES = ("vision_config", "vision_feature_layer", "image_size", "image_mean", "image_std", "image_background", "max_image_pixels")
DETAILS = ("mode", "learners", "learner_layers", "lora_dim", "learner_scale", "has_router", "router_width", "image_token_length")


def load(name: str, options: ModelOptions) -> Model:
    """Load the Wings checkpoint in a folder or on the Hub: as `save_pretrained` of model and tokenizer wrote it, or the authors' own.

    Args:
        name: the model's name in reports.
        options: `checkpoint` is required.

    Raises:
        UserError: no such checkpoint, not a Wings model, damaged, or without a chat template.
    """
    checkpoint = options.checkpoint
    if not checkpoint:
        raise UserError(f"model {name!r} needs a checkpoint: give its folder with --checkpoint")
    folder = resolve_checkpoint(checkpoint)
    model, device = _load_model(checkpoint, folder, options)
    tokenizer = _load_tokenizer(checkpoint, folder)
    _check_placeholder(model.config, tokenizer, checkpoint)
    dropped = drop_end_tokens(tokenizer)
    conversation = model.config.conversation
    template = tokenizer.chat_template if conversation is None else SCRIPTS[conversation]
    if not template:
        raise UserError(f"checkpoint {checkpoint!r} has no chat template, so chats cannot be rendered; add a chat_template.jinja")
    accepts_images = hasattr(model.model, "vision_tower")
    files = Checkpoint(folder=folder)
    info = describe(
        model,
        name=name,
        checkpoint=checkpoint,
        files=files,
        device=device,
        template=template,
        accepts_images=accepts_images,
        options=options,
    )
    adapter = ReleasedWingsModel if model.config.mode == "released" else WingsModel
    fixed = dropped | fix_template(tokenizer if conversation is None else None, options, name)
    info = _with_limits(info, model.config).with_settings(**fixed)
    features = _image_folder(model, name, options)
    with refused(f"checkpoint {checkpoint!r} {CANNOT_BE_ASKED}", CHECK_FILES):
        return adapter(model, tokenizer, info, options.way, features)


def _check_placeholder(config: WingsConfig, tokenizer: Any, checkpoint: str) -> None:
    """Refuse an id for images' places that is no token's; below 0 is none, of models that take no images.

    Raises:
        UserError: names it.
    """
    with refused(f"checkpoint {checkpoint!r} has image_token_id {config.image_token_id}", "get its config.json and tokenizer again"):
        if config.image_token_id >= 0 and tokenizer.convert_ids_to_tokens(config.image_token_id) is None:
            raise ValueError("the tokenizer has no such token")


def _image_folder(model: WingsForConditionalGeneration, name: str, options: ModelOptions) -> FeatureFolder | None:
    """The folder of features for this model's tower, if one was given.

    Raises:
        UserError: the model has no tower.
    """
    if not options.image_cache:
        return None
    if not hasattr(model.model, "vision_tower"):
        raise UserError(f"model {name!r} is text-only and has no features of images; leave out --image-cache")
    config = model.config.to_dict()
    identity = {"tower": weights_sha256(model.model.vision_tower.state_dict()), **{key: config[key] for key in OF_IMAGES}}
    return FeatureFolder(Path(options.image_cache), identity | computed_by(model))


def _with_limits(info: ModelInfo, config: WingsConfig) -> ModelInfo:
    """The record with Wings' own details, and with the shortest of all limits of the context, in tokens."""
    limits = [info.max_context and info.max_context - config.prefix_length, config.router_width if config.has_router else None]
    if config.mode == "released":
        limits += [config.tokenizer_max_length, config.released_window]
    return dataclasses.replace(
        info,
        max_context=min((limit for limit in limits if limit is not None), default=None),
        details={
            **info.details,
            **{key: getattr(config, key) for key in DETAILS},
            **({"prefix_length": config.prefix_length} if config.prefix_length else {}),
        },
    )


def _load_tokenizer(checkpoint: str, folder: Path) -> Any:
    return read_tokenizer(folder, f"checkpoint {checkpoint!r} has no readable tokenizer", "add its files")


def _load_model(checkpoint: str, folder: Path, options: ModelOptions) -> tuple[WingsForConditionalGeneration, str]:
    """The model on its device: from one of this project's folders, or from one with the authors' names."""
    fields = read_config(folder)
    if fields.get("model_type") == WingsConfig.model_type:
        with refused(f"config.json of checkpoint {checkpoint!r}"):
            config = WingsConfig.from_pretrained(folder)
            outline = empty_model(config)
        check_names(outline, read_headers(folder), folder, official=False)
        model, device, _ = load_weights(WingsForConditionalGeneration, Checkpoint(folder=folder), config, options)
        check_files_finite(folder) if options.device_map or options.quantization else check_finite(model.state_dict(), checkpoint)
        return model, device
    headers = read_headers(folder)
    if not is_official(fields, headers):
        raise UserError(f"checkpoint {checkpoint!r} is not a Wings model; for other models use --model hf:{checkpoint}")
    refuse_placing(options, f"checkpoint {checkpoint!r} has the authors' names, whose weights are read as they are", ("quantization",))
    stored = next((DTYPES[header.dtype] for header in headers.values() if header.dtype in DTYPES), None)
    placement = plan_placement(options, SimpleNamespace(dtype=stored), f"checkpoint {checkpoint!r}")
    model = load_official(folder, placement.device, placement.dtype)
    if options.attn_implementation:
        try:
            model.set_attn_implementation(options.attn_implementation)
        except (ValueError, ImportError) as error:
            raise UserError(f"{one_line(error).rstrip('.')}; use another --attn-implementation, or leave it out") from error
    if not options.device_map:
        return model, placement.device
    return (placed := dispatch(model, placement)), input_device(placed, placement)
