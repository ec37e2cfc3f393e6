"""In mode `released` a step of the trainer has the authors' loss and gradients (docs/spec/wings.md#part-d-golden-vectors)."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from iit_bench.training.method import groups_of
from iit_bench.training.parallel import Processes
from iit_bench.training.records import LearningRates, Optimisation, Running
from iit_bench.training.steps import Stepper

pytestmark = pytest.mark.oracle

TESTS = Path(__file__).parents[1]
ROOTS = [TESTS / "data" / "wings_golden"] + ([Path(os.environ["WINGS_GOLDEN_DIR"])] if "WINGS_GOLDEN_DIR" in os.environ else [])
FOLDERS = [folder for root in ROOTS for folder in sorted(root.iterdir()) if (folder / "grads.json").is_file()]


def _reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wings_golden_of_steps", TESTS / "models" / "wings" / "golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


golden = _reader()


class GoldenTask:
    """The authors' batch as one row, because in mode `released` the rows of a batch influence each other."""

    def __init__(self, folder: Path) -> None:
        read = golden.Folder(folder)
        inputs = read.read("inputs")
        self.module = golden.golden_model(read).train()
        self.groups = groups_of(self.module)
        if "image_features" in inputs:
            golden._give_features(read, self.module, inputs["image_features"])
        self._call = golden._call(read, inputs) | {"labels": inputs["labels"]}

    def rows(self, step: int) -> list[dict[str, Any]]:
        return [self._call]

    def size(self, row: dict[str, Any]) -> int:
        return int(row["input_ids"].numel())

    def packs(self) -> bool:
        return False

    def weight(self, rows: Sequence[dict[str, Any]]) -> int:
        return 1

    def loss(self, rows: Sequence[dict[str, Any]]) -> torch.Tensor:
        return self.module(**rows[0]).loss


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_loss_and_gradients_of_a_step_are_those_of_the_authors_code(folder: Path, checkpointing: bool) -> None:
    task = GoldenTask(folder)
    stages = json.loads((folder / "grads.json").read_text())
    groups = {group: {id(p) for p in parameters} for group, parameters in task.groups.items()}
    ids = {name: id(p) for name, p in task.module.named_parameters()}
    rates = {group: 1e-3 for group, own in groups.items() if any(ids[name] in own for name in stages["param_grad_norm"])}
    run = Running(checkpointing=checkpointing)
    made = Stepper(task, Optimisation(steps=1, batch=1, lr=LearningRates(**rates)), run, Processes(run))
    loss, _ = made.gradients(task.rows(0))
    assert loss == pytest.approx(stages["loss"], rel=1e-5)
    found = {name: p.grad for name, p in task.module.named_parameters()}
    for name, expected in golden.read(folder, "grads").items():
        torch.testing.assert_close(found[name][tuple(map(slice, expected.shape))], expected, **golden.GRADIENT)
    for name, norm in stages["param_grad_norm"].items():
        assert float(found[name].norm()) == pytest.approx(norm, rel=1e-4, abs=1e-6), name
