"""Sizes on accelerators are found by growing, remembered per model and device, and never looked for on a CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.engine.growth import FILE, found_limits, grown
from iit_bench.engine.plan import BatchLimits
from iit_bench.models.contract import ModelOptions


class Device:
    """A device on which a pass takes a fixed time and one per position, or has no room. It has its own clock."""

    def __init__(self, fixed: float, memory: int) -> None:
        self.fixed, self.memory, self.now = fixed, memory, 0.0
        self.sizes: list[int] = []

    def run(self, size: int) -> None:
        self.sizes.append(size)
        if size > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.now += self.fixed + size

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fixed", "memory", "expected"),
    [
        (10**9, 5000, 4096),  # the larger the better, until the memory is full
        (10**9, 10**9, 65536),  # … or the largest size is reached
        (2000, 10**9, 32768),  # from there on a pass gains 3 % per position, from 16384 on it gained 6 %
        (0, 10**9, 1024),  # nothing is gained
        (0, 10, 1024),  # not even the smallest fits: rows are split later
    ],
)
def test_the_size_is_the_last_that_paid(fixed: int, memory: int, expected: int) -> None:
    device = Device(fixed, memory)
    assert grown(device.run, 1024, 65536, device.clock) == expected


@pytest.fixture
def model(save_tiny: Any) -> Any:
    """A model of the CPU that says it is on a GPU, where rows of over 2500 positions do not fit."""
    from iit_bench.models.huggingface.load import load

    opened: Any = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu"))
    opened.info = dataclasses.replace(opened.info, device="cuda")
    opened.asked = []
    rehearse = opened.rehearse

    def limited(positions: int) -> None:
        opened.asked.append(positions)
        if positions > 2500:
            raise torch.OutOfMemoryError("CUDA out of memory")
        rehearse(positions)

    opened.rehearse = limited
    return opened


@pytest.mark.slow
def test_sizes_are_found_once_and_remembered(model: Any, tmp_path: Path) -> None:
    first = found_limits(model, None, folder=tmp_path)
    assert first.row_tokens in (1024, 2048) and first.way == "tree"
    model.asked.clear()
    assert found_limits(model, None, folder=tmp_path) == first
    assert model.asked == []
    model.info = dataclasses.replace(model.info, dtype="bfloat16")
    found_limits(model, None, folder=tmp_path)
    assert model.asked


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": "y"}', b"\xff\x00"])
def test_a_damaged_file_of_sizes_is_ignored_and_replaced(model: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    found_limits(model, None, folder=tmp_path)
    model.asked.clear()
    found_limits(model, None, folder=tmp_path)
    assert model.asked == []


@pytest.mark.slow
def test_nothing_is_measured_on_a_cpu_or_with_a_given_size(model: Any, tmp_path: Path) -> None:
    assert found_limits(model, 7, folder=tmp_path).rows == 7
    model.info = dataclasses.replace(model.info, device="cpu")
    assert found_limits(model, None, folder=tmp_path) == dataclasses.replace(
        BatchLimits.for_model(model.info, None, "tree"), ways=model.ways
    )
    assert model.asked == [] and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["tree", "plain"])
def test_a_rehearsal_runs_about_as_many_positions_as_asked(save_tiny: Any, way: Any) -> None:
    from iit_bench.models.huggingface.load import load

    model: Any = load(f"hf:{save_tiny('llama')}", ModelOptions(device="cpu", way="plain" if way == "plain" else "auto"))
    seen = []
    model.model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    for positions in (1024, 4096):
        seen.clear()
        model.rehearse(positions)
        assert 0.8 * positions < max(seen) < 1.3 * positions
