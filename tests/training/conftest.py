"""A tiny base LLM and tower, made by the real stages in a few steps, for the stages that build on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

TINY = {
    "lab-base": ("model.layers=2", "model.width=48", "model.heads=2", "model.mlp=64", "model.vocabulary=400"),
    "lab-tower": ("model.embedding=8", "model.hidden=[8, 16, 16]", "model.depths=[1, 1, 1]", "optim.batch=8"),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of an untrained tiny LLM, tower, and of stage-1 models with and without a visual learner."""
    root = tmp_path_factory.mktemp("inputs")
    folders = {name: root / name for name in ("llm", "tower", "wings-stage1", "llava-stage1")}
    for recipe, name in (("lab-base", "llm"), ("lab-tower", "tower")):
        make_task(load_recipe(recipe, TINY[recipe]).recipe).save(folders[name])
    for name in ("wings-stage1", "llava-stage1"):
        overrides = (f"inputs.llm={folders['llm']}", f"inputs.tower={folders['tower']}", "model.rank=4")
        make_task(load_recipe(f"lab-{name}", overrides).recipe).save(folders[name])
    return folders


@pytest.fixture
def tiny(inputs: dict[str, Path]) -> dict[str, tuple[str, ...]]:
    """Overrides that make each shipped stage tiny."""
    start = (f"inputs.llm={inputs['llm']}", f"inputs.tower={inputs['tower']}", "model.rank=4", "optim.batch=6")
    return {
        "lab-base": (*TINY["lab-base"], "optim.batch=6"),
        "lab-tower": TINY["lab-tower"],
        "lab-wings-stage1": start,
        "lab-wings-stage2": (f"inputs.model={inputs['wings-stage1']}", "model.rank=4", "optim.batch=6"),
        "lab-llava-stage1": start,
        "lab-llava-stage2": (f"inputs.model={inputs['llava-stage1']}", "model.rank=4", "optim.batch=6"),
    }
