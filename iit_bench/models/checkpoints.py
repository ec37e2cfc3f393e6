"""From a checkpoint's files to a model on its device, and its record. Only safetensors are read."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from iit_bench.errors import UserError, described, one_line
from iit_bench.models.adapters import load_adapter
from iit_bench.models.checkpoint_check import PACKED, SAFETENSORS, loaded_files, shard_headers
from iit_bench.models.checkpoint_files import Checkpoint, checkpoint_sha256, commit_of
from iit_bench.models.contract import UNUSED_WEIGHTS, ModelInfo, ModelOptions
from iit_bench.models.huggingface.generation import loading_settings
from iit_bench.models.loading_report import loading_report
from iit_bench.models.placement import input_device, placing_details, placing_settings, plan_placement
from iit_bench.models.rendering import template_sha256
from iit_bench.numerals import counted
from iit_bench.progress import notice
from iit_bench.ranks import this_rank

MOST_UNSTORED = 2**26  # numbers that a model may have beside those of its files: parts that are not used; 256 MiB in float32
# Arguments of `from_pretrained`: what of a checkpoint did not fit is returned, not raised with a table of many lines.
REPORTED: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}


def load_weights(factory: Any, files: Checkpoint, config: Any, options: ModelOptions) -> tuple[Any, str, dict[str, Any]]:
    """The model in eval mode on its device, with its adapter if there is one.

    Args:
        factory: an AutoModelFor… class.
        files: the checkpoint.
        config: its configuration.
        options: device, dtype, quantisation and so on.

    Returns:
        The model; the device of its inputs; for `ModelInfo.details`, under `UNUSED_WEIGHTS`, the weights that it has no place for, if
        there are any that its class does not list as those to ignore.

    Raises:
        UserError: transformers or peft cannot build it, weights are missing or have other shapes, layers are left out, or a package is not
            installed.
    """
    from safetensors import SafetensorError

    folder, what = files.folder, f"checkpoint {str(files.folder)!r}"
    placement = plan_placement(options, config, what, getattr(factory, "_not_quantised", ()))
    method = placement.method
    what += f", quantised with {method}," if method else ""
    generation = loading_settings(folder)
    try:
        check_outline(factory, folder, config, options.trust_remote_code)
        with _without_report():
            model, report = factory.from_pretrained(
                folder,
                dtype=placement.dtype,
                use_safetensors=True,
                trust_remote_code=options.trust_remote_code,
                **REPORTED,
                **generation,
                **placement.arguments,
            )
    except UserError:
        raise
    except ImportError as error:  # the libraries of quantisation, or what a checkpoint's own code imports
        raise UserError(f"{what} needs a package that is not installed: {one_line(error)}") from error
    except Exception as error:  # a configuration of strangers may break any line of the library
        words = one_line(error) if isinstance(error, (ValueError, OSError, RuntimeError, SafetensorError)) else described(error)
        raise UserError(f"{what} cannot be loaded: {words.rstrip('.')}; {_fix(method, options)}") from error
    _refuse_unlike(report, folder)
    unused = _unused(model, report["unexpected_keys"], folder)
    placed = model if placement.placed else model.to(placement.device)
    device = input_device(placed, placement) if options.device_map else placement.device
    return (placed if files.adapter is None else load_adapter(placed, files.adapter)).eval(), device, unused


def load_whole(factory: Any, folder: Path, *, may_lack: tuple[str, ...] = (), **settings: Any) -> Any:
    """A model of transformers from a folder that has each of its weights, in its shape. Weights of an LLM without a place are named.

    Args:
        factory: an AutoModel… class, or a model's own.
        folder: of the checkpoint.
        may_lack: first parts of the names of weights that are not used; transformers fills them with random numbers.
        settings: further arguments of `from_pretrained`.

    Raises:
        UserError: a weight is missing or has another shape, or layers of a decoder are left out. Whatever transformers raises passes
            through.
    """
    if settings.keys().isdisjoint({"gguf_file", "device_map"}):
        check_outline(factory, folder, AutoConfig.from_pretrained(folder))
    with _without_report():
        model, report = factory.from_pretrained(folder, **REPORTED, **settings)
    _refuse_unlike(report, folder, may_lack)
    _name_unused(model, set(report["unexpected_keys"]), folder)
    return model


def _name_unused(model: Any, names: set[str], folder: Path) -> None:
    """Print one sentence about weights that an LLM has no place for; a tower alone may be a part of what is in the folder."""
    if model.get_output_embeddings() is None or not (unused := _unused(model, names, folder).get(UNUSED_WEIGHTS)):
        return
    if this_rank().number == 0:
        notice(
            f"warning: checkpoint {str(folder)!r} has {counted(unused['count'], 'weight')} that its config.json has no place for, "
            f"{unused['first']!r} first; the model is built without"
        )


def check_headers(factory: Any, folder: Path, config: Any, *, may_lack: tuple[str, ...] = ()) -> None:
    """Refuse what `load_whole` refuses, and print what it prints, by the names and shapes in the files' headers: no weight is read.

    Args:
        factory, folder, may_lack: as of `load_whole`.
        config: the configuration.

    Raises:
        UserError: as `load_whole`. Whatever transformers raises passes through.
    """
    outline = check_outline(factory, folder, config)
    if getattr(config, "quantization_config", None):  # packed weights have shapes of their own
        return
    stored = {name: shape for file in loaded_files(folder) for name, (shape, _) in shard_headers(file).items()}
    report = loading_report(outline, stored)
    _refuse_unlike(report, folder, may_lack)
    _name_unused(outline, report["unexpected_keys"], folder)


def check_outline(factory: Any, folder: Path, config: Any, trust_remote_code: bool = False) -> Any:
    """Refuse a configuration that describes far more numbers than the files hold; returns its model without values.

    What config.json leaves out, transformers fills with the sizes of its own default, billions of numbers for some decoders, and makes
    weights of these before it compares shapes.

    Args:
        factory: an AutoModel… class, or a model's own.
        folder: with the safetensors.
        config: its configuration.
        trust_remote_code: as in `ModelOptions`.

    Raises:
        UserError: says how many. Whatever transformers raises passes through.
    """
    stored = sum(math.prod(shape) for file in folder.glob(f"*{SAFETENSORS}") for shape, _ in shard_headers(file).values())
    own = copy.deepcopy(config)
    with torch.device("meta"):
        is_auto = hasattr(factory, "from_config")
        outline = factory.from_config(own, trust_remote_code=trust_remote_code) if is_auto else factory._from_config(own)
    needed = outline.num_parameters()
    packed = PACKED if getattr(config, "quantization_config", None) else 1
    if stored and needed > 2 * packed * stored + MOST_UNSTORED:
        raise UserError(
            f"checkpoint {str(folder)!r} is not what its config.json describes: that is a model of {needed:,} numbers, "
            f"and the weights have {stored:,}; get both from one source"
        )
    return outline


def _refuse_unlike(report: Mapping[str, Any], folder: Path, may_lack: tuple[str, ...] = ()) -> None:
    """Refuse weights that transformers has filled with random numbers: the files have none, or one of another shape."""
    if unlike := sorted((name, list(stored), list(needed)) for name, stored, needed in report["mismatched_keys"]):
        name, stored, needed = unlike[0]
        more = f", and {counted(len(unlike) - 1, 'more weight')} of other shapes" if len(unlike) > 1 else ""
        raise UserError(
            f"checkpoint {str(folder)!r} is not what its config.json describes: {name!r} is {stored}{_file_of(folder, name, stored)} and "
            f"{needed} by config.json{more}; get both from one source"
        )
    if missing := sorted(name for name in report["missing_keys"] if name.partition(".")[0] not in may_lack):
        lacks = f"checkpoint {str(folder)!r} lacks {counted(len(missing), 'weight')}, {missing[0]!r} first"
        if others := sorted(report["unexpected_keys"]):
            raise UserError(
                f"{lacks}, and has {len(others)} without a place, {others[0]!r} first; get weights and config.json from one source"
            )
        raise UserError(f"{lacks}; it is not whole, get it again")


def _file_of(folder: Path, name: str, shape: list[int]) -> str:
    """In which file of a checkpoint a tensor is, in words; "" where it has another name there, or is of no safetensors."""
    for file in sorted(folder.glob(f"*{SAFETENSORS}")) if folder.is_dir() else ():
        for stored, (own, _) in shard_headers(file).items():
            if list(own) == shape and (f".{name}".endswith(f".{stored}") or f".{stored}".endswith(f".{name}")):
                return f" in {file.name}"
    return ""


@contextmanager
def _without_report() -> Iterator[None]:
    """A context in which transformers prints no table of weights that are missing, without a place or of other shapes: we name them."""

    def others(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(others)
    try:
        yield
    finally:
        log.removeFilter(others)


def _unused(model: Any, names: set[str], folder: Path) -> dict[str, Any]:
    """What is recorded of weights without a place. transformers leaves out of `names` those that the class lists as to be ignored.

    Layers that only guess further tokens (`num_nextn_predict_layers` of the configuration) are neither recorded nor refused. Layers of a
    vision tower beyond the one whose features are taken are recorded.

    Raises:
        UserError: layers of the decoder are among them, or of a tower or another part whose configuration does not name the layer to take
            from its beginning.
    """
    if not names:
        return {}
    told = getattr(model.config.get_text_config(), "num_nextn_predict_layers", 0)
    guessing = told if isinstance(told, int) else 0
    inside = set(model.get_decoder().modules())
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList)]
    decoder = {name: len(part) for name, part in parts if part in inside}
    others = {name: len(part) for name, part in parts if part not in inside}
    unused = []
    for name in sorted(names):
        beyond = [(length, number) for length, number in _numbered(name, decoder) if number >= length]
        cut = [(length, number) for length, number in _numbered(name, others) if number >= length]
        refused = any(number >= length + guessing for length, number in beyond) or (
            not beyond and cut and not _taken_from_before(model.config)
        )
        if refused:
            length, number = (beyond or cut)[0]
            raise UserError(
                f"checkpoint {str(folder)!r} has weights of a layer {number + 1}, {name!r} for example, and its config.json names "
                f"{counted(length, 'layer')}; get both from one source"
            )
        if not beyond:
            unused.append(name)
    return {UNUSED_WEIGHTS: {"count": len(unused), "first": unused[0]}} if unused else {}


def _taken_from_before(config: Any) -> bool:
    """Whether a tower's layers are numbered from its beginning, so that later ones are not needed. Without them -2 is another layer."""
    layers = getattr(config, "vision_feature_layer", None)
    numbers = layers if isinstance(layers, (list, tuple)) else [layers]
    return bool(numbers) and all(isinstance(number, int) and number >= 0 for number in numbers)


def _numbered(name: str, lists: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Where a weight's name goes through a list of modules: the list's length, and the number of the module in it, from 0."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdecimal():
            before = ".".join(parts[:place])  # a checkpoint may have been saved without the name of the part that is the base model
            length = next((n for one, n in lists.items() if f".{one}".endswith(f".{before}")), None)
            if length is not None:
                yield length, int(part)


def _fix(method: str, options: ModelOptions) -> str:
    """What may help where a checkpoint cannot be loaded."""
    if options.attn_implementation:
        return "use another --attn-implementation, or leave it out"
    if options.quantization or options.device_map:
        return "leave out --quantization and --device-map, or use a machine with more memory"
    return "use a machine that it is made for, or a checkpoint that is not quantised" if method else "get the file again"


def describe(
    model: Any,
    *,
    name: str,
    checkpoint: str,
    files: Checkpoint,
    device: str,
    template: Any,
    accepts_images: bool,
    options: ModelOptions,
    unused: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> ModelInfo:
    """The record of a model of transformers that runs in this process. `template` is its chat template, as its `str` has it, `options`
    are those that it was loaded with, and `unused` is what `load_weights` returned of weights without a place."""
    text_config = model.config.get_text_config()
    details: dict[str, Any] = {"architecture": type(model).__name__, **placing_details(options, model), **(unused or {})}
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
        parameters=model.num_parameters(),  # of weights with four bits each too, two of which share a number
        settings=placing_settings(options),
        details=details,
    )
