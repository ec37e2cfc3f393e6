"""Progress on stderr, with an estimate of the time left; nothing at all where `--quiet` asked for silence."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


Clock = Callable[[], float]
BETWEEN_LINES = 30.0  # seconds


class Job:
    """Several evaluations under one bar: the line above theirs, which counts the items of all and estimates the time of all.

    The items of an evaluation that has not begun are those that were planned; where its own bars turn out longer, the whole grows.
    """

    def __init__(
        self, progress: Progress | None, planned: Mapping[str, int], say: Callable[[str], None] | None = None, clock: Clock = time.monotonic
    ) -> None:
        """`say` gets a line now and then, where a display would not be seen."""
        self._progress, self._say, self._clock = progress, say, clock
        self._started = self._said = clock()
        self._planned = dict(planned)
        self._done = dict.fromkeys(planned, 0)
        self._begun = dict.fromkeys(planned, 0)  # items of the bars of a part so far
        self._part = ""
        self._line = progress.add_task("all suites", total=sum(planned.values())) if progress else None

    @property
    def total(self) -> int:
        return sum(self._planned.values())

    @property
    def done(self) -> int:
        return sum(self._done.values())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """While one of the planned evaluations runs; afterwards it counts as done, however many items it turned out to have."""
        self._part = name
        try:
            yield
        finally:
            self._planned[name] = self._done[name]
            self._part = ""
            self._show()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        part = self._part
        self._begun[part] += total
        self._planned[part] = max(self._planned[part], self._begun[part])
        line = self._progress.add_task(title, total=total) if self._progress else None

        def advance(count: int) -> None:
            self._done[part] += count
            if self._progress is not None and line is not None:
                self._progress.advance(line, count)
            self._show()

        self._show()
        yield advance

    def _show(self) -> None:
        if self._progress is not None and self._line is not None:
            self._progress.update(self._line, total=self.total, completed=self.done)
        now = self._clock()
        if self._say is not None and now - self._said >= BETWEEN_LINES and 0 < self.done < self.total:
            self._said = now
            left = (now - self._started) / self.done * (self.total - self.done)
            self._say(f"all suites: {self.done:,} of {self.total:,} items, about {math.ceil(left / 60)} min left")


_JOB: ContextVar[Job | None] = ContextVar("job", default=None)


@contextmanager
def bar(title: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar; yields `advance(count)`. Inside `whole_job` it stands below the job's own."""
    job = _JOB.get()
    if job is not None:
        with job.bar(title, total) as advance:
            yield advance
        return
    if not show:
        yield lambda count: None
        return
    with _display() as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def whole_job(planned: Mapping[str, int], show: bool = True) -> Iterator[Job]:
    """One display for several evaluations: name of each -> items it is planned to have."""
    say = None if not show or sys.stderr.isatty() else lambda line: print(line, file=sys.stderr, flush=True)
    with _display() if show else _nothing() as progress:
        job = Job(progress, planned, say)
        token = _JOB.set(job)
        try:
            yield job
        finally:
            _JOB.reset(token)


def _display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=False)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


@contextmanager
def download_bar(title: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes, with speed; yields `advance(bytes)`, which also takes bytes back."""
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(title, total=total or None)
        yield lambda count: progress.advance(task, count)
