"""Answer requests that a server computes: several at once, each logged as soon as it is answered.

Nothing is batched here, so an answer never depends on which others were still open: a run that was killed sends again only the requests
without a line in the log.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from iit_bench.engine.faults import FirstItems
from iit_bench.engine.log import Failure, Response, ResponseLog
from iit_bench.engine.plan import Request
from iit_bench.errors import ItemError, MachineError, UserError

Ask = Callable[[Request], Response]  # called from several threads


class Skipped(Enum):
    """Why a request was not sent, where several processes work on the run."""

    DONE = "another process has logged its outcome"
    HELD = "another process is asking it"


Outcome = Response | Skipped | BaseException


@dataclass
class Asked:
    """What became of the requests that have no answer by this process."""

    failed: dict[str, ItemError] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)  # another process is asking them


def ask_concurrently(
    ask: Ask, requests: Mapping[str, Request], log: ResponseLog, at_once: int, settled: Callable[[str], None], first: FirstItems
) -> Asked:
    """Answer `requests` (by key) into the log, `at_once` at a time, in the order given. Returns the requests that have no answer.

    A request that fails for reasons of its own (ItemError) does not stop the others. Any other error does: no new request is sent, those
    in flight are waited for, and their answers are logged.

    Raises:
        UserError: the server is unavailable (MachineError of `ask`) or rejects every request, or the first ones all fail in one way;
            answers so far are in the log.
    """
    asked = Asked()
    stop: BaseException | None = None
    with _Workers(ask, requests, at_once, log) as workers:
        try:
            for key, outcome in workers.outcomes():
                if outcome is Skipped.HELD:
                    asked.held.append(key)
                    continue
                if isinstance(outcome, ItemError):
                    asked.failed[key] = outcome
                    log.note({key: Failure("item", outcome.reason, outcome.detail)})
                    try:
                        first.failed(outcome)
                    except UserError as error:
                        stop = stop or error
                        workers.drop_open()
                elif isinstance(outcome, BaseException):
                    stop = stop or outcome
                    continue
                elif not isinstance(outcome, Skipped):
                    log.append({key: outcome})
                    first.answered()
                log.release([key])
                settled(key)
        except KeyboardInterrupt:  # answers that have arrived are kept, those in flight are not waited for
            log.append({key: outcome for key, outcome in workers.arrived() if isinstance(outcome, Response)})
            raise
    if isinstance(stop, MachineError):
        raise UserError(f"{stop}; answers so far are kept, repeat the command to resume") from stop
    if stop is not None:
        raise stop
    return asked


class _Workers:
    """Threads that take requests from one queue and put outcomes on another. Leaving the context sends no new request."""

    def __init__(self, ask: Ask, requests: Mapping[str, Request], at_once: int, log: ResponseLog) -> None:
        self._ask, self._log = ask, log
        self._open: queue.SimpleQueue[tuple[str, Request]] = queue.SimpleQueue()
        # What a thread has found, and what it waits for before it asks again: that is logged. None: a thread has ended.
        self._done: queue.SimpleQueue[tuple[str, Outcome, threading.Event] | None] = queue.SimpleQueue()
        for item in requests.items():
            self._open.put(item)
        # Daemons: after Ctrl-C the process does not wait for answers that may take minutes.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(at_once, len(requests)))]

    def __enter__(self) -> _Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.drop_open()

    def outcomes(self) -> Iterator[tuple[str, Outcome]]:
        """Every outcome as it arrives, until all threads have ended. A thread asks again when the next outcome is drawn."""
        running = len(self._threads)
        while running:
            item = self._done.get()
            if item is None:
                running -= 1
            else:
                key, outcome, settled = item
                yield key, outcome
                settled.set()

    def arrived(self) -> Iterator[tuple[str, Outcome]]:
        """The outcomes that have arrived, without waiting."""
        with contextlib.suppress(queue.Empty):
            while True:
                if (item := self._done.get_nowait()) is not None:
                    yield item[:2]

    def drop_open(self) -> None:
        """Empty the queue of requests that are not sent yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._open.get_nowait()

    def _work(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                key, request = self._open.get_nowait()
                settled = threading.Event()
                try:
                    self._done.put((key, self._outcome(key, request), settled))
                except ItemError as error:
                    self._done.put((key, error, settled))
                except BaseException as error:  # noqa: BLE001 - passed to the thread that waits, which raises it
                    self.drop_open()
                    self._done.put((key, error, settled))
                settled.wait()  # a process that is killed has no more answers in hand than requests in flight
        self._done.put(None)

    def _outcome(self, key: str, request: Request) -> Response | Skipped:
        """The answer; the lock of a request is released when its outcome is logged."""
        if not self._log.take([key]):
            return Skipped.HELD
        if key in self._log.responses or key in self._log.failures:
            return Skipped.DONE
        return self._ask(request)
