"""Whether a model takes images, as far as that is known before it is loaded or downloaded."""

from __future__ import annotations

import json
from pathlib import Path

from iit_bench.models.bundled import ASSETS
from iit_bench.models.checkpoint_files import parse_hub_place
from iit_bench.models.contract import TEXT_ONLY, ModelOptions
from iit_bench.registry import MODELS, match


def text_only(name: str, options: ModelOptions) -> str:
    """Why a model of transformers takes no images, by the config.json that this machine has of it.

    Args:
        name: of the model.
        options: of its loading.

    Returns:
        The reason; "" where it may take some: of other families, of several models, and of what is not downloaded yet.
    """
    family = match(name, MODELS)
    if family not in ("hf:", "base-llm"):
        return ""
    config = _config(options.checkpoint or (str(ASSETS / name) if family == "base-llm" else name.removeprefix("hf:")))
    try:
        model_type = json.loads(config.read_text(encoding="utf-8"))["model_type"] if config else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""  # loading it says what is wrong
    if not isinstance(model_type, str) or not model_type:
        return ""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from iit_bench.models.huggingface.load import image_text_factory

    return "" if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or image_text_factory(model_type) else TEXT_ONLY


def _config(checkpoint: str) -> Path | None:
    """The config.json of a folder, or of a repository in the Hub's cache; None where this machine has none."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder / "config.json" if (folder / "config.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    hub_id, subfolder, revision = parse_hub_place(checkpoint)
    try:
        found = try_to_load_from_cache(hub_id, f"{subfolder}/config.json" if subfolder else "config.json", revision=revision or None)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
