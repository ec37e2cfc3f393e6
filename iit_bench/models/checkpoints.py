"""From a checkpoint's files to a model on its device, and its record. Only safetensors are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.adapters import load_adapter
from iit_bench.models.checkpoint_files import Checkpoint, checkpoint_sha256, commit_of
from iit_bench.models.contract import ModelInfo, ModelOptions
from iit_bench.models.devices import pick_device, pick_dtype
from iit_bench.models.huggingface.generation import loading_settings
from iit_bench.models.rendering import template_sha256


def load_weights(factory: Any, files: Checkpoint, config: Any, options: ModelOptions) -> tuple[Any, str]:
    """The model in eval mode on its device, with its adapter if there is one, and the device. `factory` is an AutoModelFor… class.

    Raises:
        UserError: transformers or peft cannot build it, or needs a package that is not installed.
    """
    from safetensors import SafetensorError

    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device, getattr(config, "dtype", None))
    method = _quantisation(config)
    folder, what = files.folder, f"checkpoint {str(files.folder)!r}" + (f", quantised with {method}," if method else "")
    try:
        model, report = factory.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **loading_settings(folder),
            **({"device_map": {"": device}} if method else {}),  # quantised weights are made on their device and cannot be moved
        )
    except ImportError as error:  # the libraries of quantisation, or what a checkpoint's own code imports
        raise UserError(f"{what} needs a package that is not installed: {one_line(error)}") from error
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        fix = "use a machine that it is made for, or a checkpoint that is not quantised" if method else "get the file again"
        raise UserError(f"{what} cannot be loaded: {one_line(error).rstrip('.')}; {fix}") from error
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(f"checkpoint {str(folder)!r} lacks {len(missing)} weights, {missing[0]!r} first; it is not whole, get it again")
    placed = model if method else model.to(device)
    return (placed if files.adapter is None else load_adapter(placed, files.adapter)).eval(), device


def _quantisation(config: Any) -> str:
    """The method's name, e.g. "gptq"; "" for plain weights."""
    settings = getattr(config, "quantization_config", None)
    if not settings:
        return ""
    named = settings.get("quant_method") if isinstance(settings, Mapping) else getattr(settings, "quant_method", None)
    return str(getattr(named, "value", named) or "an unknown method")


def describe(
    model: Any,
    *,
    name: str,
    checkpoint: str,
    files: Checkpoint,
    device: str,
    template: Any,
    accepts_images: bool,
    trust_remote_code: bool = False,
) -> ModelInfo:
    """The record of a model of transformers that runs in this process. `template` is its chat template, as its `str` has it."""
    text_config = model.config.get_text_config()
    details: dict[str, Any] = {"architecture": type(model).__name__}
    if commit := commit_of(files.folder):
        details["commit"] = commit
    if files.adapter is not None:
        details["adapter"] = str(files.adapter)
    return ModelInfo(
        name=name,
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256(files.folder, adapter=files.adapter, trust_remote_code=trust_remote_code),
        chat_template_sha256=template_sha256(template),
        accepts_images=accepts_images,
        blind=False,
        dtype=str(model.dtype).removeprefix("torch."),
        device=device,
        max_context=getattr(text_config, "max_position_embeddings", None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        details=details,
    )
