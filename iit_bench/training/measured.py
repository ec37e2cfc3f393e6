"""The speed of a stage's first steps on this machine, for `iit-bench train RECIPE --dry-run --throughput measured`."""

from __future__ import annotations

import time
from typing import Any

from iit_bench.errors import UserError
from iit_bench.training.parallel import Processes
from iit_bench.training.recipe import Loaded
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task

MEASURED = "measured"
STEPS = 3  # after one whose time does not count: what is compiled or read at first use


def throughput(loaded: Loaded) -> float:
    """Tokens (of a tower images) per second of one process here; weights are read, and nothing is written.

    Raises:
        UserError: the weights are not here, nor to be downloaded, or this machine has no such device.
    """
    recipe: Any = loaded.recipe
    task = make_task(recipe)
    stepper = Stepper(task, recipe.optim, recipe.run, Processes(recipe.run))
    stepper.step(0)
    begun = time.monotonic()
    done = sum(stepper.step(step).tokens for step in range(1, 1 + STEPS))
    return done / max(time.monotonic() - begun, 1e-9)


def of_text(text: str | None) -> float | str | None:
    """What `--throughput` was given: a number above 0, "measured", or nothing.

    Raises:
        UserError: something else.
    """
    if text is None or text == MEASURED:
        return text
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UserError(f"--throughput {text}: must be tokens per second, a number above 0, or {MEASURED}")
    return number
