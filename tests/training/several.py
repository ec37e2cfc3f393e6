"""What one of several processes does in `test_parallel.py`: python -m torch.distributed.run --nproc-per-node 2 several.py OUT RECIPE SET…

Writes OUT/steps.json: per way of sharing the work the losses of some steps, of rivals and of OUT/own.jsonl too; OUT/NAME.safetensors: the
gradients of each first step; and OUT/opened-RANK.json: which images of that file this process opened in the first step. Then trains half of
the recipe in OUT/WAY, as if it were stopped, and all of it in OUT/whole by the command's own function.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from iit_bench.training import loop
from iit_bench.training.chats.pictures import Folder
from iit_bench.training.chats.schemas import Picture
from iit_bench.training.parallel import joined
from iit_bench.training.recipe import load_recipe
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task, run
from iit_bench.types import Image

STEPS, STOPPED = 4, 2
RIVALS = {"lora": "{name: lora, rank: 2}", "dora": "{name: dora, rank: 2}", "prefix": "{name: prefix, length: 3}"}  # the LLM is frozen


class Mixed:
    """A task whose steps have rows with an image and rows without: two of these, so that one process has no image in its last pass."""

    def __init__(self, task: Any, stop: int = STEPS) -> None:
        from iit_bench.data import facts
        from iit_bench.training import chat

        self._task, self._stop = task, stop
        self.module, self.groups = task.module, task.groups
        self._texts = [chat.encode(task.tokenizer, chat.messages([question])) for question in facts.questions("taught")[:16]]

    def rows(self, step: int) -> Any:
        if step == self._stop:
            raise KeyboardInterrupt
        return [*self._task.rows(step)[:1], *self._texts[3 * step : 3 * step + 3]]

    def score(self, split: str, limit: int | None) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def recipe_of_rival(name: str, overrides: list[str], *more: str) -> Any:
    """A rival's stage 2, from the stage beside the one that the overrides name."""
    kept = [item for item in overrides if not item.startswith(("inputs.model=", "model."))]
    (start,) = (Path(item.partition("=")[2]).with_name("llava-stage1") for item in overrides if item.startswith("inputs.model="))
    own = [f"inputs.model={start}", f"method={RIVALS[name]}", "optim.lr={adapter: 1e-3, projector: 1e-3}"]
    return load_recipe("lab-llava-stage2", [*kept, *own, *more]).recipe


def recipe_of_mixture(out: Path, recipe: str, overrides: list[str], *more: str) -> Any:
    """The recipe on OUT/own.jsonl and the lab's facts; images are checked by their headers, so that what opens one whole is a step."""
    mixture = f"data.mixture=[{{source: {out / 'own.jsonl'}, weight: 3}}, {{source: 'lab:facts'}}]"
    return load_recipe(recipe, [*overrides, mixture, "data.pixels=false", "optim.batch=8", *more]).recipe


def opened_by(stepper: Stepper) -> list[str]:
    """The images' files that this process opens in step 0, in order."""
    opened: list[str] = []
    load = Folder.load

    def told(self: Folder, picture: Picture) -> Image:
        opened.append(picture.path)
        return load(self, picture)

    Folder.load = told  # type: ignore[method-assign]
    try:
        stepper.gradients(stepper.task.rows(0))
    finally:
        Folder.load = load  # type: ignore[method-assign]
    stepper.optimizer.zero_grad()
    return opened


def figures(stepper: Stepper, gradients: Path, steps: int = STEPS) -> list[dict[str, float]]:
    """Per step its loss, and the validation loss after it; writes the first step's gradients by parameter to the file `gradients`."""
    found = []
    for step in range(steps):
        loss, _ = stepper.gradients(stepper.task.rows(step))
        whole = {name: stepper.processes.whole(p.grad) for name, p in stepper.task.module.named_parameters() if p.grad is not None}
        if step == 0 and stepper.processes.writes:
            save_file({name: tensor.contiguous() for name, tensor in whole.items()}, gradients)
        stepper.optimizer.zero_grad()
        stepper.step(step)
        found.append({"loss": loss, "validation": stepper.validation(stepper.task.held_out()[:5])})
    return found


def main(out: Path, recipe: str, overrides: list[str]) -> None:
    """See above."""
    torch.set_num_threads(1)
    found = {}

    def keep(name: str, stepper: Stepper, steps: int = STEPS) -> None:
        found[name] = figures(stepper, out / f"{name}.safetensors", steps)

    for name in RIVALS:
        for way in ("ddp", "fsdp"):
            rival = recipe_of_rival(name, overrides, f"run.parallel={way}")
            keep(f"{name} {way}", Stepper(Mixed(make_task(rival)), rival.optim, rival.run, joined(rival.run)), steps=1)
    for way in ("ddp", "fsdp"):
        own = recipe_of_mixture(out, recipe, overrides, f"run.parallel={way}")
        stepper = Stepper(make_task(own), own.optim, own.run, joined(own.run))
        if way == "ddp":
            (out / f"opened-{stepper.processes.number}.json").write_text(json.dumps(opened_by(stepper)))
        keep(f"mixture {way}", stepper)
    for way in ("ddp", "fsdp"):
        for name, more in ((f"recomputed {way}", ["run.checkpointing=true"]), (way, [])):
            made: Any = load_recipe(recipe, [*overrides, f"run.parallel={way}", *more]).recipe
            keep(name, Stepper(Mixed(make_task(made)), made.optim, made.run, joined(made.run)), steps=1 if more else STEPS)
        processes = joined(made.run)
        (out / way).mkdir(exist_ok=True)
        try:
            stopped = Mixed(make_task(made), STOPPED)
            loop.fit(stopped, made.optim, made.every, out / way, {}, resume=True, run=made.run, processes=processes)
        except KeyboardInterrupt:
            pass
        processes.wait()
        if processes.writes:
            (out / "steps.json").write_text(json.dumps(found))
    run(recipe, [*overrides, "run.parallel=fsdp"], out / "whole", progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
