"""Where a model's layers lie, how its weights are stored, and which attention it computes: what `--device-map`, `--quantization` and
`--attn-implementation` mean.

All three determine a run's answers in their last digits, so each that is given is one of the model's settings (`ModelInfo.settings`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.contract import ModelOptions
from iit_bench.models.devices import device_of, pick_device, pick_dtype

if TYPE_CHECKING:
    import torch

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")  # by which accelerate places layers itself
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
QUANTIZATION = {"bnb-4bit": "bitsandbytes", "bnb-8bit": "bitsandbytes", "torchao-int8": "torchao"}  # name → package that it needs
PLACING = ("device_map", "quantization", "attn_implementation")  # the options of this file


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a checkpoint is loaded."""

    device: str  # of the whole model; with a device map it is only known once the model is loaded
    dtype: torch.dtype
    arguments: Mapping[str, Any]  # of `from_pretrained`
    method: str  # by which the weights are quantised, e.g. "gptq"; "" for plain weights
    placed: bool  # `from_pretrained` puts the weights where they stay; they cannot be moved afterwards


def plan_placement(options: ModelOptions, config: Any, what: str, plain: Sequence[str] = ()) -> Placement:
    """What the options mean for one checkpoint.

    Args:
        options: of the user.
        config: the checkpoint's, of transformers.
        what: the checkpoint's name for errors.
        plain: names of parts that --quantization leaves as they are; without any, transformers leaves out the head.

    Raises:
        UserError: an unknown name, options that exclude each other, a package that is not installed, or a device that is not available.
    """
    device_map = _device_map(options)
    device = "cpu" if device_map is not None else pick_device(options.device)
    kind = "cuda" if device_map is not None and _has_accelerator() else device
    dtype = pick_dtype(options.dtype, kind, getattr(config, "dtype", None))
    arguments: dict[str, Any] = {}
    method = quantised_with(config)
    if options.quantization:
        if method:
            raise UserError(f"{what} is quantised already, with {method}; leave out --quantization")
        method = options.quantization
        arguments["quantization_config"] = _quantization_config(options.quantization, dtype, list(plain) or None)
    if method or device_map is not None:
        arguments["device_map"] = {"": device} if device_map is None else device_map
    if options.attn_implementation:
        arguments["attn_implementation"] = _one_of(options.attn_implementation, ATTENTION, "--attn-implementation")
    return Placement(device=device, dtype=dtype, arguments=arguments, method=method, placed="device_map" in arguments)


def dispatch(model: Any, placement: Placement) -> Any:
    """Place a model that is whole in memory by the device map of `placement`, as `from_pretrained` does it for others.

    Raises:
        UserError: the map does not fit the model.
    """
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import check_device_map, get_balanced_memory

    places = placement.arguments["device_map"]
    if isinstance(places, str):
        kept: dict[str, Any] = {"no_split_module_classes": model._no_split_modules, "dtype": placement.dtype}
        memory = None if places in ("auto", "sequential") else get_balanced_memory(model, low_zero=places == "balanced_low_0", **kept)
        places = infer_auto_device_map(model, max_memory=memory, **kept)
    try:
        check_device_map(model, places)
    except ValueError as error:
        raise UserError(f"--device-map does not fit the model: {one_line(error)}; name each part, or write auto") from error
    model._offloaded = tempfile.TemporaryDirectory(prefix="iit-bench-offloaded-")  # is removed with the model
    keys = model._skip_keys_device_placement
    return dispatch_model(model, device_map=dict(places), offload_dir=model._offloaded.name, skip_keys=keys)


def refuse_placing(options: ModelOptions, why: str, names: Sequence[str] = PLACING) -> None:
    """Refuse options of this file for a model that cannot honour them.

    Raises:
        UserError: one is given.
    """
    if given := [name for name in names if getattr(options, name)]:
        raise UserError(f"{why}; leave out {', '.join('--' + name.replace('_', '-') for name in given)}")


def placing_settings(options: ModelOptions) -> dict[str, Any]:
    """The options of this file that are given, for `ModelInfo.settings`."""
    return {name: getattr(options, name) for name in PLACING if getattr(options, name)}


def placing_details(options: ModelOptions, model: Any) -> dict[str, Any]:
    """What came of them, for `ModelInfo.details`: the attention of a loaded model, its device map, its quantisation."""
    details: dict[str, Any] = {"attention": str(getattr(model.config.get_text_config(), "_attn_implementation", None) or "its own")}
    if device_map := getattr(model, "hf_device_map", None):
        details["device map"] = {name: str(device) for name, device in device_map.items()}
    if options.quantization:
        package = QUANTIZATION[options.quantization]
        settings = json.loads(json.dumps(model.config.quantization_config.to_dict(), default=str))
        details["quantization"] = {package: metadata.version(package)} | settings
    return details


def input_device(model: Any, placement: Placement) -> str:
    """The device that a loaded model is given its inputs on: of a device map the first accelerator, else the CPU (`devices.device_of`).

    Raises:
        UserError: the map names a part that the model does not have.
    """
    given = placement.arguments.get("device_map")
    if isinstance(given, Mapping):
        known = {name for name, _ in model.named_modules()} | {name for name, _ in model.named_parameters()}
        if unknown := sorted(set(given) - known):
            first = next(name for name, _ in model.named_children())
            raise UserError(f"--device-map names {unknown[0]!r}, which is no part of this model; its parts begin with {first!r}")
    return str(device_of(model))


def quantised_with(config: Any) -> str:
    """The method by which a checkpoint's own weights are quantised, e.g. "gptq"; "" for plain weights."""
    settings = getattr(config, "quantization_config", None)
    if not settings:
        return ""
    named = settings.get("quant_method") if isinstance(settings, Mapping) else getattr(settings, "quant_method", None)
    return str(getattr(named, "value", named) or "an unknown method")


def _device_map(options: ModelOptions) -> Any:
    """The device map as transformers takes it; None where none is given."""
    text = options.device_map.strip()
    if not text:
        return None
    if options.device != "auto":
        raise UserError(f"--device-map places the model itself; leave out --device {options.device}")
    if util.find_spec("accelerate") is None:
        raise UserError("--device-map needs accelerate, which is not installed; pip install accelerate")
    if not text.startswith("{"):
        return _one_of(text, DEVICE_MAPS, "--device-map", 'or a JSON object such as {"": 0}')
    try:
        places = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--device-map {text!r} is no JSON object ({one_line(error)}); mend it, or write auto") from error
    if "disk" in places.values() and len(places) > 1 and "" in places:
        raise UserError('--device-map has "" beside other parts, which accelerate does not take with "disk"; name each part of the model')
    for name, device in places.items():
        if device != "disk":
            pick_device(f"cuda:{device}" if isinstance(device, int) else str(device), f"--device-map has {name!r} on {device!r}, which")
    return places


def _quantization_config(name: str, dtype: torch.dtype, plain: list[str] | None) -> Any:
    package = QUANTIZATION[_one_of(name, tuple(QUANTIZATION), "--quantization")]
    if util.find_spec(package) is None:
        raise UserError(f"--quantization {name} needs {package}, which is not installed; pip install {package}")
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if name == "bnb-4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=plain)
    if name == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=plain)
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=plain)


def _has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _one_of(value: str, known: tuple[str, ...], flag: str, more: str = "") -> str:
    if value not in known:
        raise UserError(f"{flag} {value!r} is unknown; use {', '.join(known)}" + (f", {more}" if more else ""))
    return value
