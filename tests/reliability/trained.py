"""Kill a training at random steps, again and again, and check that it ends as one that was left alone.

    python tests/reliability/trained.py OUT KILLS SEED RECIPE SET…

Each life of the training is a process forked from this one, which has made the task and trains nothing itself; it is killed by SIGKILL at a
random moment after a random step. By one process the weights have the same bits at the end. Then the same with two processes and one
in turn, of which one is killed or both: the losses of all steps are those of one process, up to rounding. After each kill there is a
whole checkpoint, or none yet. Prints one JSON object, ends with 1 at the first thing that is wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from safetensors.torch import load_file

from iit_bench.errors import MachineError
from iit_bench.training import checkpoint, loop
from iit_bench.training.parallel import joined
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from tests.warm_processes import make_threads_anew

os.register_at_fork(after_in_child=make_threads_anew)
ROUNDING = 1e-4  # of a loss: two processes add up the rows of a step in another order


def life(recipe: Any, task: Any, out: Path, report: int) -> None:
    """Train from the last checkpoint to the end; each step that begins is one byte in the pipe `report`."""
    task.score = lambda split, limit: {}
    rows = task.rows

    def told(step: int) -> Any:
        os.write(report, b".")
        return rows(step)

    task.rows = told
    processes = joined(recipe.run)
    with processes.together():
        loop.fit(task, recipe.optim, recipe.every, out, {"recipe": "trial"}, resume=True, run=recipe.run, processes=processes)


@dataclass
class Life:
    """Processes that train together, and the pipe in which each reports its steps."""

    ranks: list[int]
    pipe: int

    @classmethod
    def begun(cls, recipe: Any, task: Any, out: Path, of: int = 1) -> Life:
        """Fork so many processes, as a launcher would start them."""
        reading, writing = os.pipe()
        port = free_port() if of > 1 else 0
        ranks = []
        for number in range(of):
            if not (child := os.fork()):
                cls._rank(recipe, task, out, number, of, port, (reading, writing))  # does not return
            ranks.append(child)
        os.close(writing)
        return cls(ranks, reading)

    @staticmethod
    def _rank(recipe: Any, task: Any, out: Path, number: int, of: int, port: int, pipe: tuple[int, int]) -> None:
        code = 1
        try:
            os.close(pipe[0])
            if of > 1:
                os.environ |= {"RANK": str(number), "WORLD_SIZE": str(of), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            life(recipe, task, out, pipe[1])
            code = 0
        except MachineError as error:  # another process was killed
            assert of > 1 and "\n" not in str(error), error
            code = 3
        finally:
            if code == 1:
                traceback.print_exc()
            os._exit(code)

    def wait(self, steps: int) -> None:
        """Until so many steps have begun, in all processes together, or all have ended."""
        for _ in range(steps):
            os.read(self.pipe, 1)

    def kill(self, *victims: int) -> int:
        """Kill some; the others end by themselves, with one sentence. Returns how many were killed."""
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        codes = self.ended()
        assert all(code in (0, 3, -signal.SIGKILL) for code in codes), codes
        return codes.count(-signal.SIGKILL)

    def ended(self) -> list[int]:
        """Wait until all have ended; their exit codes."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in self.ranks]
        os.close(self.pipe)
        return codes


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def main(out: Path, kills: int, seed: int, name: str, overrides: list[str]) -> dict[str, Any]:
    """One trial."""
    torch.set_num_threads(1)
    recipe: Any = load_recipe(name, overrides).recipe
    trial = Trial(recipe, make_task(recipe), out, random.Random(seed))
    (out / "whole").mkdir()
    assert Life.begun(recipe, trial.task, out / "whole").ended() == [0]
    return {"by one": trial.killed(kills, by_two=False), "by changing processes": trial.killed(kills, by_two=True)}


@dataclass
class Trial:
    """A training that was left alone in `out`/whole, and others that are killed."""

    recipe: Any
    task: Any
    out: Path
    rng: random.Random

    def killed(self, kills: int, *, by_two: bool) -> dict[str, float]:
        """Kill so many processes, over as many trainings as that takes, each of which then ends as the one that was left alone."""
        counts: Counter[str] = Counter(kills=0)
        off = 0.0
        while counts["kills"] < kills:
            out = self.out / f"{'two' if by_two else 'one'}-{counts['trainings']}"
            out.mkdir()
            counts["trainings"] += 1
            furthest = 0
            while counts["kills"] < kills and (killed := self._live(out, by_two, counts)):
                counts["kills"] += killed
                found = checkpoint.find(out)  # raises, if it is not whole
                before, furthest = furthest, checkpoint.state(found)["step"] if found else 0
                assert furthest >= before, f"at step {furthest} after {before}"
                counts["resumed"] += bool(found)
            assert set(self._begun(out, by_two, counts).ended()) == {0}
            off = max(off, self._compared(out, exactly=not by_two))
        return {**counts, "losses off by": off}

    def _live(self, out: Path, by_two: bool, counts: Counter[str]) -> int:
        """Train until some processes are killed; returns how many were, 0 if the training ended before."""
        life = self._begun(out, by_two, counts)
        life.wait(len(life.ranks) * self.rng.randint(1, 2 * self.recipe.every.checkpoint))  # mostly there is a checkpoint more
        time.sleep(self.rng.random() * 0.05)
        return life.kill(*(life.ranks if self.rng.random() < 0.3 else [self.rng.choice(life.ranks)]))

    def _begun(self, out: Path, by_two: bool, counts: Counter[str]) -> Life:
        """The next life: by one process; or by two and by one in turn, and the two have copies of the weights, or share them, in turn."""
        number, of = counts["lives"], 2 - counts["lives"] % 2 if by_two else 1
        counts["lives"] += 1
        counts[f"lives of {of}"] += 1
        recipe = replace(self.recipe, run=replace(self.recipe.run, parallel=("ddp", "fsdp")[number // 2 % 2]))
        return Life.begun(recipe, self.task, out, of)

    def _compared(self, out: Path, *, exactly: bool) -> float:
        """How far the losses are from those of the training that was left alone."""
        whole = self.out / "whole"
        if exactly:
            expected, found = (load_file(folder / "checkpoint" / "tensors.safetensors") for folder in (whole, out))
            assert set(expected) == set(found) and all(torch.equal(expected[name], found[name]) for name in expected), "other bits"
            assert state(whole)["losses"] == state(out)["losses"], "other losses"
        assert losses(out).keys() == losses(whole).keys(), "other steps"
        off = max(abs(losses(out)[step] / loss - 1) for step, loss in losses(whole).items())
        assert off <= (0 if exactly else ROUNDING), f"a loss is off by {off}"
        return off


def state(out: Path) -> dict[str, Any]:
    """Of the checkpoint."""
    return checkpoint.state(out / "checkpoint")


def losses(out: Path) -> dict[int, float]:
    """Step -> its last loss in the log."""
    return {line["step"]: line["loss"] for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in line}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])))
