"""Kill a training at random steps, again and again, and check that it ends with the bits of one that was left alone.

    python tests/reliability/trained.py OUT KILLS SEED RECIPE SET…

Each life of the training is a process forked from this one, which has made the task and trains nothing itself; it is killed by SIGKILL at a
random moment after a random step. Prints one JSON object, ends with 1 at the first thing that is wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from safetensors.torch import load_file

from iit_bench.training import loop
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task


def life(recipe: Any, task: Any, out: Path, report: int) -> None:
    """Train from the last checkpoint to the end; each step that begins is one byte in the pipe `report`."""
    task.score = lambda split, limit: {}
    rows = task.rows

    def told(step: int) -> Any:
        os.write(report, b".")
        return rows(step)

    task.rows = told
    loop.fit(task, recipe.optim, recipe.every, out, {"recipe": "trial"}, resume=True)


def started(recipe: Any, task: Any, out: Path) -> tuple[int, int]:
    """A process that trains: its id, and the pipe in which it reports."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            life(recipe, task, out, writing)
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    os.close(writing)
    return child, reading


def main(out: Path, kills: int, seed: int, name: str, overrides: list[str]) -> dict[str, Any]:
    """One trial."""
    torch.set_num_threads(1)
    recipe: Any = load_recipe(name, overrides).recipe
    task = make_task(recipe)
    whole, killed = out / "whole", out / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    child, pipe = started(recipe, task, whole)
    assert os.waitpid(child, 0)[1] == 0
    os.close(pipe)
    rng, done, begun = random.Random(seed), 0, []
    while True:
        child, pipe = started(recipe, task, killed)
        if done == kills:
            assert os.waitpid(child, 0)[1] == 0
            break
        for _ in range(rng.randint(1, recipe.every.checkpoint + 1)):  # often after the next checkpoint, so that there is progress
            os.read(pipe, 1)
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)
        done += 1
        if (killed / "checkpoint").exists():
            begun.append(json.loads((killed / "checkpoint" / "state.json").read_text())["step"])
    expected, found = (load_file(folder / "checkpoint" / "tensors.safetensors") for folder in (whole, killed))
    assert set(expected) == set(found) and all(torch.equal(expected[name], found[name]) for name in expected), "other bits"
    losses = [json.loads((folder / "checkpoint" / "state.json").read_text())["losses"] for folder in (whole, killed)]
    assert losses[0] == losses[1], "other losses"
    last = {line["step"]: line["loss"] for line in map(json.loads, (killed / "log.jsonl").read_text().splitlines())}
    assert last == {line["step"]: line["loss"] for line in map(json.loads, (whole / "log.jsonl").read_text().splitlines())}
    return {"kills": done, "resumed at": begun}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])))
