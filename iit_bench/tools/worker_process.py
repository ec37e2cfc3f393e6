"""A Python module in a process of its own, for tools that change the process they run in: a line of JSON in, a line of JSON out.

This process starts it as `WorkerProcess`; the module's `main` talks through `requests` and `replies`. All that the tool prints goes to a
log file, so it cannot break the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError

PR_SET_PDEATHSIG = 1  # of Linux's prctl
PARENT_IS_ASKED_FOR = 0.1  # every so many seconds
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
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()


def replies() -> Callable[[Any], None]:
    """In the worker: the function that sends a reply. From then on standard output is standard error, for everything else that prints."""
    _end_with_parent()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(reply: Any) -> None:
        print(json.dumps(reply), file=out, flush=True)

    return send


def requests() -> Iterator[Any]:
    """In the worker: the requests, until `WorkerProcess.close`."""
    for line in sys.stdin:
        yield json.loads(line)


def _end_with_parent() -> None:
    """End at once when the process that started this one is killed: what an orphan writes is in the way of whoever resumes the work."""
    parent = os.getppid()
    if sys.platform == "linux":  # by the kernel, as soon as the thread that started this process has ended
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_IS_ASKED_FOR)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
