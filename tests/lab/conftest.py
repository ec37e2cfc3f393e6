"""A grid of two tiny cells beside the base, on the shipped base LLM and tower."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from iit_bench.lab.run import Experiment, LabOptions, run_lab

START = {
    "kind": "vlm",
    "limit": 4,
    "model": {"rank": 4},
    "data": {"turns": [1, 2], "sources": {"easyvqa": 1}},
    "optim": {"steps": 4, "batch": 4, "lr": {"projector": 2e-3}},
    "every": {"log": 2, "score": 100, "checkpoint": 2},
}
GRID: dict[str, Any] = {
    "title": "tiny",
    "bench": {"preset": "lab", "size": 6, "tiers": "T,V,VT", "observed": 2, "observed_tiers": ["VT"]},
    "rates": [2e-4],
    "seeds": [0],
    "starts": {"llava": START},
    "stage": {key: value for key, value in START.items() if key != "model"},
    "methods": [
        {"name": "full", "label": "full tuning", "start": "llava", "set": {"method": {"name": "llava"}, "optim.lr.llm": "RATE"}},
        {
            "name": "wings",
            "label": "Wings",
            "start": "llava",
            "priority": 2,
            "set": {"method": {"name": "wings", "rank": 4}, "optim.lr.visual": 1e-3, "optim.lr.llm": "RATE"},
        },
    ],
}
Make = Callable[..., LabOptions]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment whose benchmark is built, and in which nothing was run."""
    out = tmp_path_factory.mktemp("built")
    (out / "grid.yaml").write_text(yaml.safe_dump(GRID))
    Experiment(LabOptions(grid=str(out / "grid.yaml"), out=out))._benchmark(progress=False)
    return out


@pytest.fixture(scope="session")
def ran(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole grid, run in one go, models kept. Tests leave it as it is."""
    out = tmp_path_factory.mktemp("ran")
    shutil.copytree(built / "bench", out / "bench")
    standing = run_lab(LabOptions(grid=str(built / "grid.yaml"), out=out, keep=True), progress=False)
    assert standing.count("done") == 3
    return out


@pytest.fixture
def make(built: Path, tmp_path: Path) -> Make:
    """Options of an experiment in a folder of the test's, with changes of the grid by key, and of the options."""

    def options(grid: dict[str, Any] | None = None, **values: Any) -> LabOptions:
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**copy.deepcopy(GRID), **(grid or {})}))
        if not (tmp_path / "out").exists():
            shutil.copytree(built / "bench", tmp_path / "out" / "bench")
        return LabOptions(grid=str(tmp_path / "grid.yaml"), out=tmp_path / "out", **values)

    return options
