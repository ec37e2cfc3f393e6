"""What a training reports while it runs: `log.jsonl`, TensorBoard's files if the recipe asks for them, and a bar on standard error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from iit_bench.engine.lines import append_lines
from iit_bench.errors import UserError
from iit_bench.training.records import Running
from iit_bench.training.steps import Done

LOG = "log.jsonl"
BOARD = "tensorboard"


class Log:
    """Lines of `log.jsonl` in a folder, each of one step, and the same numbers for TensorBoard; nothing where `writes` is false."""

    def __init__(self, out: Path, board: bool, writes: bool) -> None:
        self._path = out / LOG
        self._file = self._path.open("ab", buffering=0) if writes else None
        self._board = _board(out / BOARD) if board and writes else None

    def add(self, record: dict[str, Any]) -> None:
        """Write a record.

        Raises:
            UserError: the disk is full.
        """
        if self._file is not None:
            append_lines(self._file, self._path, [json.dumps(record).encode() + b"\n"])
        if self._board is not None:
            for name, number in _numbers(record):
                self._board.add_scalar(name, number, record["step"])
            self._board.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def check_board(run: Running) -> None:
    """Refuse to write for TensorBoard without its package; asked before data are checked, which may take hours.

    Raises:
        UserError: the package is not installed.
    """
    if run.tensorboard and find_spec("tensorboard") is None:
        raise UserError("recipe, key 'run.tensorboard': needs the package tensorboard; pip install tensorboard, or set it to false")


def _board(folder: Path) -> Any:
    check_board(Running(tensorboard=True))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)


def _numbers(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Names and values of a record's numbers, e.g. dev/T/acc, or of a list by source held_out/SOURCE/loss."""
    numbers: list[tuple[str, float]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            numbers += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            for part in (one for one in value if isinstance(one, dict) and "source" in one):
                numbers += _numbers(part, f"{prefix}{name}/{part['source']}/")
        elif isinstance(value, int | float) and name != "step":
            numbers.append((prefix + name, value))
    return numbers


class Window:
    """Figures of the steps since the last line of the log; the loss is the mean of the last `length` steps, over interruptions too."""

    def __init__(self, length: int, losses: Sequence[float] = ()) -> None:
        self.length, self.losses = length, list(losses)
        self._begin()

    def _begin(self) -> None:
        self._norms: list[float] = []
        self._tokens = self._padded = self._passes = 0
        self._seconds = 0.0

    def add(self, done: Done, seconds: float) -> None:
        """Count a step."""
        self.losses = [*self.losses[-self.length + 1 :], done.loss]
        self._norms.append(done.norm)
        self._tokens += done.tokens
        self._padded += done.padded
        self._passes += done.passes
        self._seconds += seconds

    @property
    def loss(self) -> float:
        """Mean loss of the last `length` steps."""
        return sum(self.losses) / len(self.losses)

    def take(self) -> dict[str, Any]:
        """The figures, and begin anew.

        Returns:
            `loss`; of the gradient before clipping the mean and the largest norm; tokens of the steps since, padding not counted,
            and per second of training; the share of what was computed that was padding; passes per step.
        """
        steps = max(1, len(self._norms))
        figures = {
            "loss": round(self.loss, 5),
            "norm": {"mean": _digits(sum(self._norms) / steps), "max": _digits(max(self._norms, default=0.0))},
            "tokens": self._tokens,
            "tokens_per_second": round(self._tokens / self._seconds, 1) if self._seconds else None,
            "padding": round(self._padded / max(1, self._padded + self._tokens), 4),
            "passes": round(self._passes / steps, 2),
        }
        self._begin()
        return figures


def _digits(number: float) -> float:
    return float(f"{number:.5g}")


class Progress:
    """A bar on stderr where that is a terminal."""

    def __init__(self, steps: int, done: int, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Bar(*columns, console=console, disable=not (show and console.is_terminal))
        self._task = self._bar.add_task("training", total=steps, completed=done)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def advance(self, done: int, loss: float) -> None:
        """Show that `done` steps are done."""
        self._bar.update(self._task, completed=done, description=f"loss {loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
