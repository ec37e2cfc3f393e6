"""The training loop, the same for every stage: steps, logging, validation, checkpoints, resuming."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.terminal import write
from iit_bench.training import checkpoint
from iit_bench.training.identity import difference
from iit_bench.training.logs import Log, Progress, Window
from iit_bench.training.parallel import Processes
from iit_bench.training.peak_memory import PeakMemory
from iit_bench.training.records import Every, Optimisation, Running
from iit_bench.training.steps import Diverged, Stepper, Task, prepare, schedule

__all__ = ["Fitted", "Task", "fit", "prepare", "schedule"]


@dataclass(frozen=True)
class Fitted:
    """How a training went."""

    steps: int
    seconds: float  # of training, all runs together; scoring and saving included
    loss: float  # mean over the last `every.log` steps


def fit(
    task: Task,
    optim: Optimisation,
    every: Every,
    out: Path,
    identity: dict[str, Any],
    resume: bool,
    progress: bool = True,
    run: Running | None = None,
    processes: Processes | None = None,
    limit: int = 0,
) -> Fitted:
    """Train `task`, logging to `out/log.jsonl` and keeping a checkpoint in `out`.

    Args:
        task: the stage.
        optim: steps, rates, schedule.
        every: how often to log, score on dev, and write a checkpoint.
        out: folder of the training; exists.
        identity: what the checkpoint must agree with to be resumed (recipe hash, overrides, seed).
        resume: start from the checkpoint in `out`, if there is one.
        progress: show a bar where standard error is a terminal, and a note where other processes began the training.
        run: how steps are computed.
        processes: this process among those of the training; default: the only one.
        limit: most questions of a score, as the recipe has it; 0 = no limit of its own.

    Raises:
        UserError: the checkpoint belongs to another recipe, the loss is not finite, or the disk is full.
    """
    run = run or Running()
    processes = processes or Processes(run)
    stepper = Stepper(task, optim, run, processes)
    held_out = (task.held_out(), task.held_out_sources())
    with Log(out, board=run.tensorboard, writes=processes.writes) as log:
        begun = _resumed(stepper, out, identity, every, log, progress) if resume else _Begun(0, 0.0, Window(every.log))
        window, memory, start = begun.window, PeakMemory(processes.device), time.monotonic()
        with Progress(optim.steps, begun.step, progress and processes.writes) as shown:
            for step in range(begun.step, optim.steps):
                before = time.monotonic()
                try:
                    result = stepper.step(step)
                except Diverged as error:
                    log.add({"step": step, "diverged": str(error), "rows": _described(task, error)})
                    raise
                window.add(result, time.monotonic() - before)
                done, seconds = step + 1, begun.seconds + time.monotonic() - start
                shown.advance(done, result.loss)
                record: dict[str, Any] = {}
                if done % every.log == 0 or done == optim.steps:
                    rates = {"lr": schedule(step, optim), "rates": stepper.rates(step)}
                    record = {"step": done, **window.take(), **memory.take(), **rates, **task.counts(), "seconds": round(seconds, 1)}
                if done % every.score == 0 and done < optim.steps:
                    with memory.left_out():
                        record = {**record, "step": done, **_scores(stepper, held_out, min(limit or every.questions, every.questions))}
                if record:
                    log.add(record)
                if done % every.checkpoint == 0 or done == optim.steps:
                    state = {"identity": identity, "step": done, "seconds": seconds, "losses": window.losses, "processes": processes.of}
                    with memory.left_out():
                        checkpoint.save(out, task.module, stepper.optimizer, state, processes)
    return Fitted(optim.steps, begun.seconds + time.monotonic() - start, window.loss)


@dataclass(frozen=True)
class _Begun:
    """Where a training starts."""

    step: int
    seconds: float
    window: Window


def _resumed(stepper: Stepper, out: Path, identity: dict[str, Any], every: Every, log: Log, show: bool) -> _Begun:
    """Read the last whole checkpoint, where there is one."""
    folder = stepper.processes.decided(lambda: checkpoint.find(out))
    if folder is None:
        return _Begun(0, 0.0, Window(every.log))
    state = checkpoint.state(folder)
    if other := difference(state["identity"], identity):
        raise UserError(f"{folder}: was written by another recipe or other --set values ({other}); give another --out, or empty the folder")
    checkpoint.restore(folder, stepper.task.module, stepper.optimizer, stepper.processes)
    before = state.get("processes", 1)
    if before != stepper.processes.of:  # a step is the same sum, in another order
        of = [counted(number, "process", "processes") for number in (stepper.processes.of, before)]
        note = f"resumed by {of[0]}, begun by {of[1]}: from here on the same up to rounding"
        log.add({"step": state["step"], "note": note})
        if show and stepper.processes.writes:
            write(note, file=sys.stderr, flush=True)
    return _Begun(state["step"], state["seconds"], Window(every.log, state["losses"]))


def _scores(stepper: Stepper, held_out: tuple[Any, list[dict[str, Any]]], limit: int) -> dict[str, Any]:
    """Dev scores, and the loss on rows that are not trained on, of all of them and of each source's."""
    rows, sources = held_out
    scores: dict[str, Any] = {"dev": {name: score.as_json() for name, score in stepper.score(limit).items()}}
    total, first = 0.0, 0
    for one in sources:
        some = rows[first : first + one["rows"]]
        loss = stepper.validation(some) if some else None
        scores.setdefault("held_out", []).append(one if loss is None else {**one, "loss": round(loss, 5)})
        total += (loss or 0.0) * (stepper.task.weight(some) if some else 0)
        first += len(some)
    return scores | ({"validation": round(total / stepper.task.weight(rows), 5)} if rows else {})


def _described(task: Task, error: Diverged) -> list[dict[str, Any]]:
    """The rows that an error names, as a person recognises them."""
    rows = task.rows(error.step)
    return [{"row": row, "text": task.describe(rows[row])} for row in error.rows]
