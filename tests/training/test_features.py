"""A frozen tower's features are kept within a bound, and what is dropped is computed again."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from iit_bench.training import loop
from iit_bench.training.features import Features
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from iit_bench.types import Image

SHAPE = (3, 4)
EACH = 3 * 4 * 4  # bytes
ROOM = 5  # images


def image(number: int) -> Image:
    return Image(bytes([number]))


def compute(images: Sequence[Image]) -> torch.Tensor:
    return torch.stack([torch.full(SHAPE, float(one.data[0])) for one in images])


@pytest.mark.oracle
def test_features_are_computed_as_often_as_functools_lru_cache_says() -> None:
    kept = Features(ROOM * EACH + EACH // 2)
    oracle = functools.lru_cache(maxsize=ROOM)(lambda number: number)
    for number in torch.randint(9, (400,), generator=torch.Generator().manual_seed(0)).tolist():
        assert kept.of([image(number)], compute).unique().tolist() == [oracle(number)]
        assert kept.held <= kept.most
    info = oracle.cache_info()
    assert kept.computed == info.misses > ROOM
    assert kept.dropped == info.misses - info.currsize


def test_a_batch_larger_than_the_bound_is_whole_and_in_order() -> None:
    kept = Features(2 * EACH)
    numbers = [4, 1, 4, 7, 0, 1]
    assert kept.of([image(number) for number in numbers], compute)[:, 0, 0].tolist() == numbers
    assert (kept.computed, kept.dropped, kept.held) == (4, 2, 2 * EACH)


def test_what_is_kept_of_a_batch_does_not_hold_the_whole_batch() -> None:
    kept = Features(EACH)
    kept.of([image(number) for number in range(6)], compute)
    assert [row.untyped_storage().nbytes() for row in kept._kept.values()] == [EACH]


@pytest.mark.slow
def test_without_room_a_training_has_the_same_losses_and_the_log_counts(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    lines = {}
    for room in (0, 2048):
        steps = ("optim.steps=4", "every.log=1", "every.score=100", "optim.batch=3", "data.turns=[1]", f"run.features={room}")
        recipe = load_recipe("lab-wings-stage2", [*tiny["lab-wings-stage2"], *steps]).recipe
        (tmp_path / str(room)).mkdir()
        loop.fit(make_task(recipe), recipe.optim, recipe.every, tmp_path / str(room), {}, resume=False)
        lines[room] = [json.loads(line) for line in (tmp_path / str(room) / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[2048]]
    assert [line["images"] for line in lines[0]] == [{"computed": 3 * step, "dropped": 3 * step} for step in range(1, 5)]
    assert lines[2048][-1]["images"]["dropped"] == 0
