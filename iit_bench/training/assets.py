"""Where a stage's inputs lie: a folder, or a model that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from iit_bench.errors import UserError

SHIPPED = "shipped:"


def models() -> Path:
    """Folder of the shipped nano models: base-llm, tower, wings, llava."""
    return Path(str(resources.files("iit_bench") / "assets" / "models"))


def find(value: str, key: str) -> Path:
    """The folder that recipe key `key` names.

    Args:
        value: a path, or `shipped:NAME`.
        key: for the error's sentence.

    Raises:
        UserError: there is no model at that place.
    """
    folder = models() / value.removeprefix(SHIPPED) if value.startswith(SHIPPED) else Path(value)
    if not (folder / "config.json").is_file():
        raise UserError(f"recipe key {key}: {value} is no model folder (config.json is not there); train it first, or set {key} with --set")
    return folder
