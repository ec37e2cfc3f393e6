"""The memory of a training's steps, as its log has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.training import loop, peak_memory
from iit_bench.training.peak_memory import PeakMemory
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from tests.training.conftest import TINY

CPU, BYTES = torch.device("cpu"), 400_000_000
linux = pytest.mark.skipif(not peak_memory.RESET.exists(), reason="the peak is read from Linux's /proc")


def held() -> None:
    """Hold this much for a moment."""
    torch.ones(BYTES // 4)


@linux
def test_what_was_held_for_a_moment_counts_until_it_is_taken() -> None:
    memory = PeakMemory(CPU)
    before = memory.take()["peak_memory"]
    held()
    most = memory.take()["peak_memory"]
    assert BYTES * 0.9 < most - before < BYTES * 1.5
    assert memory.take()["peak_memory"] < most - BYTES * 0.9


@linux
def test_what_is_no_step_does_not_count() -> None:
    memory = PeakMemory(CPU)
    before = memory.take()["peak_memory"]
    with memory.left_out():
        held()
    assert memory.take()["peak_memory"] < before + BYTES * 0.5


@linux
@pytest.mark.slow
def test_the_log_has_the_peak_of_the_steps_without_that_of_scores(tmp_path: Path) -> None:
    overrides = [*TINY["lab-base"], "optim.steps=4", "optim.batch=2", "every.log=1", "every.score=1", "every.checkpoint=9"]
    recipe: Any = load_recipe("lab-base", overrides).recipe
    task = make_task(recipe)
    rows = task.rows
    task.rows = lambda step: (held() if step == 3 else None, rows(step))[1]
    task.score = lambda split, limit: held() or {}
    loop.fit(task, recipe.optim, recipe.every, tmp_path, {}, resume=False)
    *_, third, fourth = [json.loads(line)["peak_memory"] for line in (tmp_path / "log.jsonl").open()]
    assert fourth - third > BYTES / 2


def test_where_the_peak_cannot_be_reset_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak_memory, "RESET", tmp_path / "gone" / "clear_refs")
    memory = PeakMemory(CPU)
    with memory.left_out():
        held()
    assert memory.take() == {}
