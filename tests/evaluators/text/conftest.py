"""Snapshots of the text-only benchmarks, a tiny model, and ways to run the suite with it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import evaluate_text_model, load_tasks_of
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """Snapshots of what wings-text reads, but for MMLU's and CMMLU's many subjects."""
    root = tmp_path_factory.mktemp("text-snapshots")
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](root, 6)
    old = runpy.run_path(str(DATA / "make_snapshots.py"))
    for make in ("openbookqa", "hellaswag", "winogrande"):
        old[make](root, 6)
    old["mmlu"](root, ["anatomy"], 6)
    old["cmmlu"](root, ["anatomy"], 6)
    return root


@pytest.fixture(scope="session")
def checkpoint(save_tiny) -> str:
    return f"hf:{save_tiny('llama', max_position_embeddings=512)}"


@pytest.fixture(scope="session")
def model(checkpoint) -> Model:
    return load_model(checkpoint, ModelOptions(device="cpu"))


@pytest.fixture
def options(checkpoint, data_root, tmp_path) -> Callable[..., RunOptions]:
    def make(*tasks: str, **more) -> RunOptions:
        given = {"model": checkpoint, "out": tmp_path / "run", "suite": "text", "data_root": data_root, "device": "cpu"}
        return RunOptions(tasks=tasks, **(given | {"limit": 4, "max_new_tokens": 8} | more))

    return make


@pytest.fixture
def run_with(tmp_path) -> Callable:
    """Runs the suite with a model that is loaded already."""

    def run(model: Model, options: RunOptions):
        return evaluate_text_model(model, load_tasks_of(options, tmp_path / "scratch"), options, progress=False)

    return run


@pytest.fixture(scope="session")
def as_kind() -> Callable[[Model, type], Model]:
    """as_kind(model, kind) → the same loaded model with the methods of a subclass."""

    def change(model: Model, kind: type) -> Model:
        other = object.__new__(kind)
        other.__dict__.update(model.__dict__)
        return other

    return change
