"""Checkpoints with a changed file, as a stranger may publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iit_bench.models.contract import ModelOptions
from iit_bench.models.huggingface.load import load


def open_model(folder: Path, **options: Any) -> Any:
    """The model in a folder, on the CPU and in float32; further `ModelOptions` may be named."""
    return load(f"hf:{folder}", ModelOptions(device="cpu", dtype="float32", **options))


def edit(file: Path, **fields: Any) -> None:
    """Give the JSON object in a file other values."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
