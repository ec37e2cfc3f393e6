"""Shows progress on stderr, with an estimate of the time left; nothing with `--quiet`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from iit_bench.terminal import label, write

if TYPE_CHECKING:
    from rich.progress import Progress


Clock = Callable[[], float]
SECONDS_BETWEEN_LINES = 30.0


def notice(text: str) -> None:
    """One sentence that a user must read whatever else is shown, on stderr."""
    write(f"iit-bench: {text}", file=sys.stderr, flush=True)


class Job:
    """One bar over several evaluations, above their own bars: counts the items of all, and estimates the time left for all.

    An evaluation that has not started counts with its planned items. If its own bars have more items, the total grows.

    Args:
        planned: name of each evaluation -> its planned items.
        progress: display of the bars; None for no display.
        print_line: gets a line every 30 seconds, where stderr is no terminal and a display could not be seen.
    """

    def __init__(
        self,
        planned: Mapping[str, int],
        *,
        progress: Progress | None = None,
        print_line: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._progress, self._print_line, self._clock = progress, print_line, clock
        self._start_time = self._last_line_time = clock()
        self._planned = dict(planned)
        self._done = dict.fromkeys(planned, 0)
        self._started = dict.fromkeys(planned, 0)  # items of a part's bars so far
        self._part = ""
        self._line = progress.add_task("all suites", total=sum(planned.values())) if progress else None

    @property
    def total(self) -> int:
        """Items of all parts."""
        return sum(self._planned.values())

    @property
    def done(self) -> int:
        """Finished items of all parts."""
        return sum(self._done.values())

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A context in which one of the planned evaluations runs; after it, all of its items count as done."""
        self._part = name
        try:
            yield
        finally:
            self._planned[name] = self._done[name]
            self._part = ""
            self._show()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of the current part; yields `advance(count)`."""
        part = self._part
        self._started[part] += total
        self._planned[part] = max(self._planned[part], self._started[part])
        line = self._progress.add_task(label(title), total=total) if self._progress else None

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
        is_due = now - self._last_line_time >= SECONDS_BETWEEN_LINES
        if self._print_line is not None and is_due and 0 < self.done < self.total:
            self._last_line_time = now
            seconds_left = (now - self._start_time) / self.done * (self.total - self.done)
            self._print_line(f"all suites: {self.done:,} of {self.total:,} items, about {math.ceil(seconds_left / 60)} min left")


_JOB: ContextVar[Job | None] = ContextVar("job", default=None)


@contextmanager
def bar(title: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar; yields `advance(count)`. Inside `whole_job` it is shown below the job's bar."""
    job = _JOB.get()
    if job is not None:
        with job.bar(title, total) as advance:
            yield advance
        return
    if not show:
        yield lambda count: None
        return
    with display() as progress:
        task = progress.add_task(label(title), total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def whole_job(planned: Mapping[str, int], show: bool = True) -> Iterator[Job]:
    """One display for several evaluations; `planned`: name of each -> its planned items."""
    print_line = None if not show or sys.stderr.isatty() else lambda line: write(line, file=sys.stderr, flush=True)
    with display() if show else nullcontext() as progress:
        job = Job(planned, progress=progress, print_line=print_line)
        token = _JOB.set(job)
        try:
            yield job
        finally:
            _JOB.reset(token)


def display(transient: bool = False) -> Any:
    """Bars on stderr, a `rich.progress.Progress`; `transient`: nothing is left of them. Descriptions are no markup, and made by `label`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=transient)


@contextmanager
def download_bar(title: str, total: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes, with speed; yields `advance(bytes)`; a negative number takes bytes back."""
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(label(title), total=total or None)
        yield lambda count: progress.advance(task, count)
