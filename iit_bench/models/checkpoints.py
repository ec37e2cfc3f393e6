"""From a checkpoint to a model on its device: folders and Hub ids, their hash and weights. Only safetensors are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iit_bench.errors import UserError, first_line
from iit_bench.models.contract import ModelInfo, ModelOptions
from iit_bench.models.devices import pick_device, pick_dtype
from iit_bench.models.huggingface.generation import loading_settings
from iit_bench.models.rendering import template_sha256
from iit_bench.storage.format import sha256_file
from iit_bench.storage.tables import canonical_json

if TYPE_CHECKING:
    pass

# What determines answers: weights, configuration, tokenizer, template. Not read-me files, training logs or images.
PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*token*.json", "*.model", "vocab.*", "merges.txt", "*.jinja")


def resolve_checkpoint(checkpoint: str) -> Path:
    """The local folder of a checkpoint; a Hub id is downloaded (or found in the cache) first.

    Raises:
        UserError: neither a folder nor available from the Hub, or without safetensors.
    """
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        folder = _download(checkpoint)
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"checkpoint {checkpoint!r} has no *.safetensors file; convert it with save_pretrained, other formats are not read")
    if not (folder / "config.json").is_file():
        raise UserError(f"checkpoint {checkpoint!r} has no config.json; name the folder that save_pretrained wrote")
    return folder


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(PATTERNS)))
    except (HFValidationError, RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"checkpoint {hub_id!r} is neither a folder nor available from the Hub ({first_line(error)}); check the path or the network"
        ) from error


def checkpoint_sha256(folder: Path) -> str:
    """One hash for all files that determine answers, by name and content."""
    files = {path.name: path for pattern in PATTERNS for path in folder.glob(pattern)}
    return hashlib.sha256(canonical_json([(name, sha256_file(files[name])) for name in sorted(files)]).encode()).hexdigest()


def load_weights(factory: Any, folder: Path, config: Any, options: ModelOptions) -> tuple[Any, str]:
    """The model in eval mode on its device, and the device. `factory` is an AutoModelFor… class.

    Raises:
        UserError: transformers cannot build it.
    """
    from safetensors import SafetensorError

    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device, getattr(config, "dtype", None))
    try:
        model, report = factory.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **loading_settings(folder),
        )
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"checkpoint {str(folder)!r} cannot be loaded: {first_line(error)}; get the file again") from error
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise UserError(f"checkpoint {str(folder)!r} lacks {len(missing)} weights, {missing[0]!r} first; it is not whole, get it again")
    return model.to(device).eval(), device


def describe(model: Any, *, name: str, checkpoint: str, folder: Path, device: str, template: Any, accepts_images: bool) -> ModelInfo:
    """The record of a model of transformers that runs in this process. `template` is its chat template, as its `str` has it."""
    text_config = model.config.get_text_config()
    return ModelInfo(
        name=name,
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256(folder),
        chat_template_sha256=template_sha256(template),
        accepts_images=accepts_images,
        blind=False,
        dtype=str(model.dtype).removeprefix("torch."),
        device=device,
        max_context=getattr(text_config, "max_position_embeddings", None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        details={"architecture": type(model).__name__},
    )
