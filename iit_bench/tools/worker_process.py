"""A Python module in a process of its own, for tools that change the process they run in: a line of JSON in, a line of JSON out.

This process starts it as `WorkerProcess`; the module's `main` talks through `requests` and `replies`. All that the tool prints goes to a
log file, so it cannot break the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError

PR_SET_PDEATHSIG = 1  # of Linux's prctl
ROOT = Path(__file__).resolve().parents[2]  # folder of the packages, which the worker imports as well


class WorkerProcess:
    """`python -m MODULE ARGUMENTS…` in `folder`, ended by `close`."""

    def __init__(
        self, module: str, *arguments: str, tool: str, folder: Path, log: Path, fix: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start the process.

        Args:
            tool: the program that runs in it, for the error's sentence.
            folder: its current folder.
            log: file to which its standard error is appended.
            fix: what to do if it ends unasked, the end of the error's sentence.
            environment: its variables; those of this process if None.
        """
        self._tool, self._log, self._fix = tool, log, fix
        variables = dict(os.environ if environment is None else environment)
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), variables.get("PYTHONPATH"))))
        command = [sys.executable, "-m", module, *arguments]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    def ask(self, request: Any) -> Any:
        """Send a request and wait for the reply; both are JSON values.

        Raises:
            UserError: the process has ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `read` reports it
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """Wait for a reply.

        Raises:
            UserError: the process has ended; names its last words or its exit code.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{self._tool}'s process ended ({''.join(last) or f'exit code {code}'}); {self._fix}")

    def close(self, kill: bool = False) -> None:
        """End the process: it may finish what it does and clean up, or is killed at once."""
        if kill:
            self._process.kill()
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(b"\n")  # without this last line the pipe's end means that this process was killed
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()


def replies() -> Callable[[Any], None]:
    """In the worker: the function that sends a reply. From then on standard output is standard error, for everything else that prints.

    From then on, too, the worker ends with the process that started it, whatever it is doing.
    """
    _end_with_starting_thread()
    threading.Thread(target=_listen, daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(reply: Any) -> None:
        print(json.dumps(reply), file=out, flush=True)

    return send


def requests() -> Iterator[Any]:
    """In the worker: the requests, until `WorkerProcess.close`."""
    while (line := _LINES.get()).strip():
        yield json.loads(line)


_LINES: queue.SimpleQueue[str] = queue.SimpleQueue()  # what standard input has given; an empty one for `WorkerProcess.close`


def _listen() -> None:
    """Read requests while others are worked on, so that the end of the process that sends them is noticed at once, on any system.

    What an orphan writes would be in the way of whoever resumes the work.
    """
    for line in sys.stdin:
        _LINES.put(line)
        if not line.strip():
            return
    os._exit(1)


def end_with_parent() -> None:
    """In a process of `multiprocessing`, to be called first: end at once when the process that started this one ends, however it ends.

    A pool's processes wait for work at a pipe whose other end they hold themselves, so they would wait without end.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_with_starting_thread() -> None:
    """On Linux the kernel ends this process as soon as the thread that started it has ended, even where no thread of this one can run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
