"""The records of a source counted, in one process or, where there are many, in several: the result is the same."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from iit_bench.errors import ItemError
from iit_bench.tools.worker_process import end_with_parent
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.records import Part

EXAMPLES = 3  # of each reason
AT_ONCE = 256  # records between two moves of the progress bar
SEVERAL_FROM = 20_000  # records: fewer are counted before another process has imported what it needs
MOST_PROCESSES = 8


@dataclass(kw_only=True)
class Refused:
    """Records that share a reason.

    Attributes:
        count: how many.
        examples: the first of them, with what is wrong.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Tally:
    """What some records of a source are.

    Attributes:
        refused: by reason.
        numbers: of the refused records, ascending.
        tokens: of the others, images included.
        labelled: of these, those that are learned.
        images: of the same records.
    """

    refused: dict[str, Refused] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    tokens: int = 0
    labelled: int = 0
    images: int = 0

    def add(self, after: Tally) -> None:
        """Add the records that come after these."""
        for reason, more in after.refused.items():
            of = self.refused.setdefault(reason, Refused())
            of.count += more.count
            of.examples += more.examples[: EXAMPLES - len(of.examples)]
        self.numbers += after.numbers
        self.tokens += after.tokens
        self.labelled += after.labelled
        self.images += after.images


def count(source: Source, pixels: bool, advance: Callable[[int], None]) -> Tally:
    """Check all records of a source.

    Args:
        source: opened.
        pixels: decode images whole.
        advance: is called with the number of records that were done since the last call.
    """
    processes = min(MOST_PROCESSES, _cores()) if len(source.records) >= SEVERAL_FROM else 1
    if processes > 1:
        try:
            return _added(source, _in_processes(source, pixels, processes), advance)
        except BrokenProcessPool:  # a script that starts no processes (no `if __name__ == "__main__"`), or too little memory: begin anew
            pass
    one_by_one = (_tally(source, pixels, numbers) for numbers in _ranges(source))
    return _added(source, one_by_one, lambda done: advance(done if processes == 1 else 0))


def still_refused(source: Source, pixels: bool, numbers: Sequence[int]) -> int:
    """Check some records again: how many are refused."""
    return len(_tally(source, pixels, numbers).numbers)


def _added(source: Source, parts: Iterator[Tally], advance: Callable[[int], None]) -> Tally:
    whole = Tally()
    for numbers, part in zip(_ranges(source), parts, strict=True):
        whole.add(part)
        advance(len(numbers))
    return whole


def _ranges(source: Source) -> list[range]:
    total = len(source.records)
    return [range(first, min(first + AT_ONCE, total)) for first in range(0, total, AT_ONCE)]


def _tally(source: Source, pixels: bool, numbers: Sequence[int]) -> Tally:
    tally = Tally()
    for number in numbers:
        try:
            row = source.check(number, pixels)
        except ItemError as error:
            tally.numbers.append(number)
            of = tally.refused.setdefault(error.reason, Refused())
            of.count += 1
            if len(of.examples) < EXAMPLES:
                of.examples.append(f"{source.records.name(number)}{': ' * bool(error.detail)}{error.detail}")
        else:
            tally.tokens, tally.labelled = tally.tokens + len(row.ids), tally.labelled + row.labelled
            tally.images += len(row.images)
    return tally


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_OPENED: list[tuple[Source, bool]] = []  # of a process of the pool


def _in_processes(source: Source, pixels: bool, processes: int) -> Iterator[Tally]:
    fresh = multiprocessing.get_context("spawn")  # a fork would share open files' places, and locks that threads hold
    arguments = (source.part, source.encoding, source.revision, pixels)
    with ProcessPoolExecutor(processes, mp_context=fresh, initializer=_open, initargs=arguments) as pool:
        yield from pool.map(_tally_here, _ranges(source))


def _open(part: Part, encoding: Encoding, revision: str, pixels: bool) -> None:
    end_with_parent()
    _OPENED.append((Source(part, encoding, revision), pixels))


def _tally_here(numbers: range) -> Tally:
    source, pixels = _OPENED[-1]
    return _tally(source, pixels, numbers)
