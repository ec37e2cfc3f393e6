"""Two processes train as one does: the same loss and gradients of a step, the same loss curve, and a folder that either resumes."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from iit_bench.errors import UserError
from iit_bench.training import loop, passes
from iit_bench.training.parallel import Processes, joined
from iit_bench.training.recipe import load_recipe
from iit_bench.training.records import Running
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task, run
from tests import warm_processes
from tests.training.chats.conftest import llava, picture

pytestmark = [pytest.mark.slow, pytest.mark.oracle]
SCRIPT = Path(__file__).with_name("several.py")
RECIPE = "lab-wings-stage2"


def _several() -> ModuleType:
    spec = importlib.util.spec_from_file_location("training_several", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


several = _several()


@pytest.fixture(scope="module")
def overrides(inputs: dict[str, Path]) -> list[str]:
    start = [f"inputs.model={inputs['wings-stage1']}", "model.rank=4", "optim.batch=3", "data.turns=[1]", "test=false", "limit=2"]
    return [*start, f"optim.steps={several.STEPS}", "every.checkpoint=2", "every.log=1", "every.score=100", "run.accumulate=60"]


@pytest.fixture(scope="module")
def by_two(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that two processes wrote."""
    out = tmp_path_factory.mktemp("two")
    _write_own_data(out)
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    # torchrun, which forks the two processes from itself: they need not import torch and transformers again.
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--start-method", "fork", "--run-path"]
    done = warm_processes.run(
        [sys.executable, "-m", *launcher, SCRIPT, out, RECIPE, *overrides], env=environment, preload=warm_processes.MODELS
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def _write_own_data(out: Path) -> None:
    """Chats with one image, with two and with none, of which no two have an image in common."""
    records = [llava(number, [None, f"{number}.png", [f"{number}.png", f"{number}-too.png"]][number % 3]) for number in range(12)]
    for number, record in enumerate(records):
        if number % 3 == 2:
            record["conversations"][0]["value"] += " And <image>?"
        if number % 4 == 1:
            record["conversations"] += [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "yes"}]
        for name in (f"{number}.png", f"{number}-too.png"):
            (out / name).write_bytes(picture(f"hsl({30 * number}, 90%, {60 if 'too' in name else 40}%)"))
    (out / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@dataclass(frozen=True)
class Figures:
    """What `several.figures` gives, and the gradients of the first step."""

    steps: list[dict[str, float]]
    gradients: dict[str, torch.Tensor]

    @classmethod
    def by_one(cls, task: Any, recipe: Any, folder: Path, steps: int = several.STEPS) -> Figures:
        """Of this process by itself."""
        stepper = Stepper(task, recipe.optim, recipe.run, Processes(recipe.run))
        found = several.figures(stepper, folder / "one.safetensors", steps)
        return cls(found, load_file(folder / "one.safetensors"))

    @classmethod
    def written(cls, name: str, folder: Path) -> Figures:
        """Of the two processes."""
        return cls(json.loads((folder / "steps.json").read_text())[name], load_file(folder / f"{name}.safetensors"))


def assert_same_step(found: Figures, expected: Figures) -> None:
    """Loss and gradients of the first step; each gradient as a vector, to its own length, and one of next to none to the longest's."""
    assert found.steps[0]["loss"] == pytest.approx(expected.steps[0]["loss"], rel=1e-6)
    assert set(found.gradients) == set(expected.gradients)
    least = 1e-4 * max(float(tensor.norm()) for tensor in expected.gradients.values())
    for name, tensor in expected.gradients.items():
        off = float((found.gradients[name] - tensor).norm())
        assert off <= 1e-6 * max(float(tensor.norm()), least), (name, off)


@pytest.fixture(scope="module")
def alone(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Figures:
    recipe: Any = load_recipe(RECIPE, overrides).recipe
    return Figures.by_one(several.Mixed(make_task(recipe)), recipe, tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("way", ["ddp", "fsdp", "recomputed ddp", "recomputed fsdp"])
def test_two_processes_have_the_loss_and_gradients_of_one(way: str, by_two: Path, alone: Figures) -> None:
    """Also where each layer is computed again in the backward pass, as in the paper's recipes."""
    assert_same_step(Figures.written(way, by_two), alone)


@pytest.mark.parametrize("name", several.RIVALS)
def test_two_processes_have_the_gradients_of_one_under_a_frozen_llm(name: str, by_two: Path, overrides: list[str], tmp_path: Path) -> None:
    recipe = several.recipe_of_rival(name, overrides)
    expected = Figures.by_one(several.Mixed(make_task(recipe)), recipe, tmp_path, steps=1)
    for way in ("ddp", "fsdp"):
        assert_same_step(Figures.written(f"{name} {way}", by_two), expected)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_have_the_loss_curve_of_one(way: str, by_two: Path, alone: Figures) -> None:
    found = Figures.written(way, by_two).steps
    for name in ("loss", "validation"):
        assert [step[name] for step in found] == pytest.approx([step[name] for step in alone.steps], rel=1e-4)
    assert len({step["loss"] for step in found}) == several.STEPS


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_have_the_loss_curve_of_one_on_a_mixture_of_own_data(
    way: str, by_two: Path, overrides: list[str], tmp_path: Path
) -> None:
    recipe = several.recipe_of_mixture(by_two, RECIPE, overrides)
    expected = Figures.by_one(make_task(recipe), recipe, tmp_path)
    found = Figures.written(f"mixture {way}", by_two)
    for name in ("loss", "validation"):
        assert [step[name] for step in found.steps] == pytest.approx([step[name] for step in expected.steps], rel=1e-6)
    assert_same_step(found, expected)


def test_each_process_opens_the_images_of_its_own_rows(by_two: Path, overrides: list[str]) -> None:
    rows = make_task(several.recipe_of_mixture(by_two, RECIPE, overrides)).rows(0)
    shares = passes.share([len(row.ids) for row in rows], 2)
    images = [sorted(image.name.rpartition(": ")[2] for row in share for image in rows[row].images) for share in shares]
    opened = [sorted(json.loads((by_two / f"opened-{number}.json").read_text())) for number in range(2)]
    assert opened == images
    assert all(images) and not set(images[0]) & set(images[1])


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_one_process_resumes_what_two_began_and_says_so(
    way: str, by_two: Path, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe: Any = load_recipe(RECIPE, overrides).recipe
    resumed, straight = several.Mixed(make_task(recipe)), several.Mixed(make_task(recipe))
    loop.fit(resumed, recipe.optim, recipe.every, by_two / way, {}, resume=True, run=recipe.run)
    note = "resumed by 1 process, begun by 2 processes: from here on the same up to rounding"
    assert capsys.readouterr().err == note + "\n"
    loop.fit(straight, recipe.optim, recipe.every, tmp_path, {}, resume=False, run=recipe.run)
    lines = [json.loads(line) for line in (by_two / way / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4]
    assert lines[2]["note"] == note
    expected = dict(straight.module.state_dict())
    for name, tensor in resumed.module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=2e-4)  # AdamW's first steps turn rounding into parts of the rate


def test_the_command_saves_a_whole_model_where_weights_were_shared(by_two: Path, overrides: list[str], tmp_path: Path) -> None:
    run(RECIPE, overrides, tmp_path / "one", progress=False)
    two, one = (json.loads((folder / "training.json").read_text()) for folder in (by_two / "whole", tmp_path / "one"))
    assert (two["processes"], one["processes"]) == (2, 1)
    assert two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-4)
    assert not (by_two / "whole" / "checkpoint").exists()
    expected = load_file(tmp_path / "one" / "model.safetensors")
    found = load_file(by_two / "whole" / "model.safetensors")
    assert set(found) == set(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-2, atol=1e-3)


def test_ranks_without_an_address_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match="torchrun"):
        joined(Running())


def test_port_0_is_refused_before_anything_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchrun --master-port 0` without --standalone hands it on as it is."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--standalone"):
        joined(Running())


def test_a_task_of_a_slurm_array_trains_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_COUNT", "8"), ("SLURM_ARRAY_JOB_ID", "1")):
        monkeypatch.setenv(name, value)
    processes = joined(Running())
    assert (processes.number, processes.of) == (0, 1)
