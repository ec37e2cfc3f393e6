"""The models that are shipped with the project, by name; `--checkpoint` takes any other of the same family instead."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

from iit_bench.models.contract import Model, ModelOptions

ASSETS = Path(str(resources.files("iit_bench"))) / "assets" / "models"


def load_wings(name: str, options: ModelOptions) -> Model:
    """`wings`: the lab's nano Wings, or `--checkpoint`. `llava`, `llava-one-rate`: the same decoder and tower without learners."""
    from iit_bench.models.wings.load import load

    return load(name, _with_default(name, options))


def load_base_llm(name: str, options: ModelOptions) -> Model:
    """`base-llm`: the text-only model that the bundled multimodal ones started from."""
    from iit_bench.models.huggingface.load import load

    return load(name, _with_default(name, options))


def _with_default(name: str, options: ModelOptions) -> ModelOptions:
    return options if options.checkpoint else dataclasses.replace(options, checkpoint=str(ASSETS / name))
