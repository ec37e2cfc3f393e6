"""The training loop, the same for every stage: AdamW, warm-up and cosine, clipping, logging, checkpoints, resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from iit_bench.errors import UserError
from iit_bench.training import checkpoint
from iit_bench.training.records import Every, Optimisation
from iit_bench.training.scores import Score

DEV_QUICK = 150  # questions of a dev score during training


class Task(Protocol):
    """One stage: a module, what of it is trained, and on what."""

    module: torch.nn.Module
    groups: Mapping[str, Sequence[torch.nn.Parameter]]  # name in LearningRates -> parameters

    def rows(self, step: int) -> Sequence[Any]:
        """What is trained on at `step` (0-based): a function of nothing but the recipe and `step`, the same in every process."""

    def weight(self, rows: Sequence[Any]) -> int:
        """What the summed loss of some rows is divided by, e.g. the number of their labelled tokens; adds up over parts."""

    def loss(self, rows: Sequence[Any]) -> torch.Tensor:
        """Summed loss of some of a step's rows, a scalar: the step's loss is the sum over all rows by `weight` of all rows."""

    def score(self, split: str, limit: int | None) -> dict[str, Score]:
        """Accuracies on "dev" or "test", of at most `limit` questions each."""


def schedule(step: int, optim: Optimisation) -> float:
    """Learning rate of `step` (0-based) as a share of the peak: linear warm-up, then a cosine down to `optim.final`."""
    warm = max(1, round(optim.warmup * optim.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, optim.steps - warm)
    return optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * done))


def prepare(task: Task, optim: Optimisation) -> torch.optim.AdamW:
    """Freeze what has learning rate 0 and make the optimiser of the rest; norms and biases do not decay."""
    rates = asdict(optim.lr)
    unknown = [name for name, rate in rates.items() if rate > 0 and not task.groups.get(name)]
    if unknown:
        raise UserError(
            f"recipe: optim.lr.{unknown[0]} is above 0, but this model has no such part; the parts are {', '.join(task.groups)}"
        )
    for parameter in task.module.parameters():
        parameter.requires_grad_(False)
    groups: list[dict[str, Any]] = []
    for name, parameters in task.groups.items():
        if rates[name] <= 0:
            continue
        for decayed in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2) == decayed]
            if chosen:
                decay = optim.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": rates[name], "peak": rates[name], "weight_decay": decay, "name": name})
        for parameter in parameters:
            parameter.requires_grad_(True)
    if not groups:
        raise UserError("recipe: every learning rate under optim.lr is 0, so nothing would be trained; set one above 0")
    return torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), foreach=True)


@dataclass(frozen=True)
class Fitted:
    """How a training went."""

    steps: int
    seconds: float  # of training, all runs together; scoring and saving included
    loss: float  # mean over the last `every.log` steps


def fit(task: Task, optim: Optimisation, every: Every, out: Path, identity: dict[str, Any], resume: bool, progress: bool = True) -> Fitted:
    """Train `task`, logging to `out/log.jsonl` and keeping a checkpoint in `out`.

    Args:
        task: the stage.
        optim: steps, rates, schedule.
        every: how often to log, score on dev, and write a checkpoint.
        out: folder of the training; exists.
        identity: what the checkpoint must agree with to be resumed (recipe hash, overrides, seed).
        resume: start from the checkpoint in `out`, if there is one.
        progress: show a bar where standard error is a terminal.

    Raises:
        UserError: the checkpoint belongs to another recipe.
    """
    optimizer = prepare(task, optim)
    names = {id(parameter): name for name, parameter in task.module.named_parameters()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    first, before = 0, 0.0
    losses: list[float] = []
    folder = checkpoint.find(out) if resume else None
    if folder is not None:
        state = checkpoint.state(folder)
        if state["identity"] != identity:
            raise UserError(f"{folder}: was written by another recipe or other --set values; give another --out or train afresh")
        checkpoint.restore(folder, task.module, optimizer, names)
        first, before, losses = state["step"], state["seconds"], state["losses"]
    start = time.monotonic()
    with (out / "log.jsonl").open("a", encoding="utf-8") as log, _Progress(optim.steps, first, progress) as shown:
        for step in range(first, optim.steps):
            share = schedule(step, optim)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            rows = task.rows(step)
            loss = task.loss(rows) / task.weight(rows)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, optim.clip, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses = [*losses[-every.log + 1 :], loss.item()]
            if not math.isfinite(losses[-1]):
                raise UserError(f"training diverged at step {step}: the loss is {losses[-1]}; lower the learning rates under optim.lr")
            done, seconds = step + 1, before + time.monotonic() - start
            record: dict[str, Any] = {}
            if done % every.log == 0 or done == optim.steps:
                record = {"step": done, "loss": round(sum(losses) / len(losses), 5), "lr": share, "seconds": round(seconds, 1)}
            if done % every.score == 0 and done < optim.steps:
                record = {**record, "step": done, "dev": {name: score.as_json() for name, score in task.score("dev", DEV_QUICK).items()}}
            if record:
                log.write(json.dumps(record) + "\n")
                log.flush()
            shown.advance(done, losses[-1])
            if done % every.checkpoint == 0 and done < optim.steps:
                state = {"identity": identity, "step": done, "seconds": seconds, "losses": losses}
                checkpoint.save(out, task.module, optimizer, names=names, state=state)
    return Fitted(optim.steps, before + time.monotonic() - start, sum(losses) / len(losses))


class _Progress:
    """A bar on stderr where that is a terminal."""

    def __init__(self, steps: int, done: int, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not (show and console.is_terminal))
        self._task = self._bar.add_task("training", total=steps, completed=done)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def advance(self, done: int, loss: float) -> None:
        self._bar.update(self._task, completed=done, description=f"loss {loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
