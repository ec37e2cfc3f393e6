"""One step of a training: its rows in passes, their gradients, clipping, AdamW. What a stage has to offer is `Task`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from iit_bench.errors import UserError
from iit_bench.training import heap, passes, precision
from iit_bench.training.parallel import Processes
from iit_bench.training.records import Optimisation, Running
from iit_bench.training.scores import Score


class Task(Protocol):
    """One stage: a module, what of it is trained, and on what."""

    module: torch.nn.Module
    groups: Mapping[str, Sequence[torch.nn.Parameter]]  # name in LearningRates -> parameters

    def rows(self, step: int) -> Sequence[Any]:
        """What is trained on at `step` (0-based): a function of nothing but the recipe and `step`, the same in every process."""

    def held_out(self) -> Sequence[Any]:
        """Rows like those of a step that no step trains on, for the validation loss; the same in every process. May be empty."""

    def held_out_sources(self) -> list[dict[str, Any]]:
        """Of which sources these rows are, in order: `source` and `rows`, 0 where nothing of it is held out. Empty only without rows."""

    def size(self, row: Any) -> int:
        """What a row costs, e.g. its tokens: rows of like size are computed together."""

    def weight(self, rows: Sequence[Any]) -> int:
        """What the summed loss of some rows is divided by, e.g. the number of their labelled tokens; adds up over parts."""

    def loss(self, rows: Sequence[Any]) -> torch.Tensor:
        """Summed loss of some of a step's rows, a scalar: the step's loss is the sum over all rows by `weight` of all rows."""

    def packs(self) -> bool:
        """Whether the rows of a pass are computed without padding, so that the fewest passes cost least."""

    def describe(self, row: Any) -> str:
        """What a person recognises a row by, e.g. its text."""

    def counts(self) -> dict[str, Any]:
        """What the log has of the stage itself since the training began or was resumed, in this process; may be empty."""

    def score(self, split: str, limit: int | None) -> dict[str, Score]:
        """Accuracies on "dev" or "test", of at most `limit` questions each."""


def schedule(step: int, optim: Optimisation) -> float:
    """Learning rate of `step` (0-based) as a share of the peak: linear warm-up, then a cosine down to `optim.final`."""
    warm = max(1, round(optim.warmup * optim.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, optim.steps - warm)
    return optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * done))


def freeze(task: Task, optim: Optimisation) -> None:
    """Let only groups with a learning rate above 0 have gradients.

    Raises:
        UserError: a rate is given for a group that the model lacks, or none is above 0.
    """
    rates = asdict(optim.lr)
    unknown = [name for name, rate in rates.items() if rate > 0 and not task.groups.get(name)]
    if unknown:
        raise UserError(
            f"recipe: optim.lr.{unknown[0]} is above 0, but this model has no such part; the parts are {', '.join(task.groups)}"
        )
    if not any(rates[name] > 0 for name in task.groups):
        raise UserError("recipe: every learning rate under optim.lr is 0, so nothing would be trained; set one above 0")
    for parameter in task.module.parameters():
        parameter.requires_grad_(False)
    for name, parameters in task.groups.items():
        for parameter in parameters:
            parameter.requires_grad_(rates[name] > 0)


def prepare(task: Task, optim: Optimisation) -> torch.optim.AdamW:
    """Freeze what has learning rate 0, and make the optimiser of the rest.

    Norms and biases do not decay (docs/spec/wings.md#b13-training).
    """
    freeze(task, optim)
    rates = asdict(optim.lr)
    groups: list[dict[str, Any]] = []
    for name, parameters in task.groups.items():
        if rates[name] <= 0:
            continue
        for decayed in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2) == decayed]
            if chosen:
                decay = optim.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": rates[name], "peak": rates[name], "weight_decay": decay, "name": name})
    return torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), fused=True)  # every number is read and written once a step


class Diverged(UserError):
    """The loss or the gradient is not a finite number; weights are those of the step before."""

    def __init__(self, step: int, what: str, rows: Sequence[int]) -> None:
        self.step, self.rows = step, list(rows)
        named = ", ".join(map(str, rows))
        of = f", from row{'s' * (len(rows) > 1)} {named} of its batch (see log.jsonl)" if rows else ""
        fix = f"{'look at these rows, or ' if rows else ''}lower the learning rates under optim.lr"
        super().__init__(f"training diverged at step {step}: {what}{of}; what was saved before is kept: {fix}")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step was.

    Attributes:
        loss: mean over its labelled tokens.
        norm: of the whole gradient, before it is clipped.
        tokens: of all rows, without padding.
        padded: tokens of padding that were computed.
        passes: how many passes each process computed.
    """

    loss: float
    norm: float
    tokens: int
    padded: int
    passes: int


class Stepper:
    """A task with its optimiser, on this process's device, as `run` says.

    A trained parameter that no row of a step uses has gradient 0 there, whatever the passes and processes.
    """

    def __init__(self, task: Task, optim: Optimisation, run: Running, processes: Processes) -> None:
        self.task, self.optim, self.run, self.processes = task, optim, run, processes
        heap.keep_freed_memory()
        task.module.train()
        freeze(task, optim)
        if run.checkpointing:
            precision.keep_little(task.module)
        processes.spread(task)
        self.optimizer = prepare(task, optim)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._packs = run.precision == "float32" and task.packs()
        self._fixed_cost = passes.fixed_cost(processes.device.type, self._packs)
        self._most = passes.most(run, self._packs)

    def rates(self, step: int) -> dict[str, float]:
        """The learning rate of each trained group at `step`."""
        share = schedule(step, self.optim)
        return {group["name"]: group["peak"] * share for group in self.optimizer.param_groups}

    def step(self, step: int) -> Done:
        """Train on the rows of `step`.

        Raises:
            Diverged: the loss or the gradient is not finite; nothing is changed.
        """
        share = schedule(step, self.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        rows = self.task.rows(step)
        loss, done = self.gradients(rows)
        if not math.isfinite(loss):
            raise Diverged(step, f"the loss is {loss}", self.not_finite(rows))
        norm = float(self.processes.whole(torch.nn.utils.clip_grad_norm_(self.trained, self.optim.clip, foreach=True)))
        if not math.isfinite(norm):
            raise Diverged(step, f"the norm of the gradient is {norm}", ())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Done(loss=loss, norm=norm, **done)

    def gradients(self, rows: Sequence[Any]) -> tuple[float, dict[str, int]]:
        """Put the gradients of the mean loss over `rows` into the parameters; returns the loss and the numbers of `Done`."""
        lengths = [self.task.size(row) for row in rows]
        plans = passes.plan(lengths, self.processes.of, self._most, self._fixed_cost)
        weight = self.task.weight(rows)
        total = 0.0
        mine = plans[self.processes.number]
        for place, chosen in enumerate(mine):
            with self.processes.alone(last=place == len(mine) - 1):
                loss = self._pass(rows, chosen, own=mine) / weight
                if (
                    loss.requires_grad
                ):  # text without images does not reach the projector; where nothing else is trained, it has no gradient
                    (loss * self.processes.of if self.processes.of > 1 else loss).backward()  # the gradients of processes are averaged
            total += loss.item()
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        padded = sum(passes.padding(lengths, plan, self._packs) for plan in plans)
        return self.processes.sum(total), {"tokens": sum(lengths), "padded": padded, "passes": len(mine)}

    def _pass(self, rows: Sequence[Any], chosen: Sequence[int], own: Sequence[Sequence[int]] = ()) -> torch.Tensor:
        """Summed loss of the chosen rows. Where there are none, a row is computed for nothing, because other processes wait for the pass.

        It is one of the process's `own` passes if it has any, so that it opens no image of another's rows.
        """
        some = [rows[row] for row in chosen] or [min([rows[row] for one in own for row in one] or rows, key=self.task.size)]

        def loss() -> torch.Tensor:
            with precision.computed_in(self.run, self.processes.device):
                return self.task.loss(some)

        found: torch.Tensor = self.processes.inside(loss)
        return found if chosen else found * 0

    def validation(self, rows: Sequence[Any]) -> float:
        """Mean loss over rows that are not trained on."""
        lengths = [self.task.size(row) for row in rows]
        plans = passes.plan(lengths, self.processes.of, self._most, self._fixed_cost)
        with torch.no_grad():
            mine = plans[self.processes.number]
            total = sum(float(self._pass(rows, chosen, own=mine)) for chosen in mine)
        return self.processes.sum(total) / self.task.weight(rows)

    def score(self, limit: int) -> dict[str, Score]:
        """Scores on dev. Each process computes them all: weights may be shared among processes."""
        return self.processes.inside(lambda: self.task.score("dev", limit))

    def not_finite(self, rows: Sequence[Any]) -> list[int]:
        """Indices of the rows whose own loss is not finite; none where all are not, because then it is the weights."""
        with torch.no_grad():
            found = [row for row in range(len(rows)) if not math.isfinite(float(self._pass(rows, [row])))]
        return found if len(found) < len(rows) else []
