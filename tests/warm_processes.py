"""Python processes that need not import for seconds: forked from one that has imported the packages of others.

A process that imports torch, transformers or VLMEvalKit computes for three to six seconds before it does anything, and the tests start
many. Those whose subject is not the start itself are forked from a server, one per process of pytest. Nothing of this project is imported
in the server: a forked process imports it as a fresh one does, under its own environment.

    python tests/warm_processes.py SOCKET      # the server; started by `_server`, ends with the process that started it
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PACKAGES = ("torch", "pandas", "pyarrow.parquet", "huggingface_hub.utils._cache_manager", "PIL.Image", "tqdm", "sty", "validators")
PACKAGES += ("unittest.mock", "multiprocessing.pool", "tabulate")
MODELS = (*PACKAGES, "torch._dynamo", "torch.distributed.tensor", "transformers.modeling_utils", "datasets", "lm_eval.evaluator")
MODELS += (
    "transformers.generation.utils",
    "transformers.processing_utils",
    "torchvision.transforms.v2",
    "scipy.stats",
    "pydantic",
    "typer",
)
LARGEST_REQUEST = 200_000  # bytes: of one packet
PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Read while packages are imported: a process that wants another value than a server's gets a server of its own.
FIXED = ("HF_", "OMP_", "MKL_", "TOKENIZERS_", "PYTHONHASHSEED", "CUDA_")


class WarmProcess:
    """`python COMMAND…` as `subprocess.Popen` starts it, of which it has the part that is needed here."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        preload: Sequence[str] = PACKAGES,
    ) -> None:
        """Start it.

        Args:
            command: `sys.executable`, then a script, `-m MODULE` or `-c CODE`, then its arguments.
            preload: the modules that the server imports before it forks, unless it has.
        """
        environment = dict(os.environ if env is None else env)
        server = _server(tuple(sorted(_fixed(environment).items())))
        assert command[0] == sys.executable
        report, theirs = os.pipe()
        ends, own = [theirs], []
        for number, asked in enumerate((stdin, stdout, stderr)):
            if asked == subprocess.PIPE:
                pipe = os.pipe()
                own.append(os.fdopen(pipe[number == 0], "wb" if number == 0 else "rb", 0 if number == 0 else -1))
                ends.append(pipe[number != 0])
            else:
                own.append(None)
                ends.append(os.dup(number if asked is None else asked if isinstance(asked, int) else asked.fileno()))
        self.stdin, self.stdout, self.stderr = own
        request = {"command": list(command[1:]), "cwd": str(cwd or Path.cwd()), "environment": environment, "preload": preload}
        socket.send_fds(server, [json.dumps(request).encode()], ends)
        for end in ends:
            os.close(end)
        self._report = os.fdopen(report, "rb", 0)
        self.pid = int(self._report.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or minus the signal; None until its end."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end, and return the exit code, or minus the signal."""
        if self.returncode is None:
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, sign: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)


def start(command: Sequence[str], **more: Any) -> WarmProcess | subprocess.Popen[bytes]:
    """A `WarmProcess` on Linux, elsewhere a fresh one."""
    if sys.platform == "linux":
        return WarmProcess(command, **more)
    more.pop("preload", None)
    return subprocess.Popen(command, **more)


def run(command: Sequence[object], **more: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run(command, capture_output=True, text=True)`."""
    command = list(map(str, command))
    if sys.platform != "linux":
        more.pop("preload", None)
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)
    with open(os.memfd_create("stdout"), "w+b") as out, open(os.memfd_create("stderr"), "w+b") as err:
        code = WarmProcess(command, stdout=out, stderr=err, **more).wait()
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


@functools.cache
def _server(fixed: tuple[tuple[str, str], ...]) -> socket.socket:
    """The socket to this process's server for such variables, which ends when the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own = {name: value for name, value in os.environ.items() if not name.startswith(FIXED)} | dict(fixed)
    with theirs:
        subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=own)
    return ours


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(FIXED)}


# ---------------------------------------------------------------- the server


def serve(asked: socket.socket) -> None:
    """Fork a process per request, until the other end is closed. Returns in a forked process only once that has ended."""
    gc.disable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes that wait for a forked one are not waited for
    while True:
        text, files, _, _ = socket.recv_fds(asked, LARGEST_REQUEST, 4)
        if not text:
            return
        request = json.loads(text)
        for name in request["preload"]:
            with contextlib.suppress(ImportError):  # not installed: whoever needs it says so
                importlib.import_module(name)
        gc.freeze()  # so that forked processes neither look through what was imported nor copy it
        if os.fork() == 0:
            asked.close()
            _watch(request, files)
        for file in files:
            os.close(file)


def _watch(request: dict[str, Any], files: Sequence[int]) -> None:
    """In a process of its own: fork the one that is asked for, and report its number and its end."""
    _end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _become(request, files)
        return
    report, *rest = files
    for file in rest:
        os.close(file)
    os.write(report, f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # who asked has ended
        os.write(report, f"{code}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Run the command in this process, which then exits as the command does."""
    _end_with_parent()
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    environment, command = request["environment"], request["command"]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(environment)
    gc.enable()
    is_script = command[0] not in ("-m", "-c")
    folders = [str(Path(command[0]).resolve().parent) if is_script else request["cwd"]]
    folders += [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [*folders, *PATH]
    sys.argv[:] = command if is_script else command[1:]
    importlib.invalidate_caches()
    if is_script:
        runpy.run_path(command[0], run_name="__main__")
    elif command[0] == "-m":
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = "-c"
        exec(compile(command[1], "<string>", "exec"), _new_main())
    sys.exit()


def _new_main() -> dict[str, Any]:
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    return main.__dict__


def make_threads_anew() -> None:
    """To be called first in a forked process, by its only thread.

    Torch 2.14 makes its pool of threads anew at the first operation in a forked process. Two threads that meet there, such as those which
    load the parts of a model, end with "Invalid thread pool".
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(torch.get_num_threads())


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    given = {str(Path(__file__).resolve().parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    PATH = [folder for folder in sys.path if folder not in given]
    sys.path[:] = PATH
    os.register_at_fork(after_in_child=make_threads_anew)
    serve(socket.socket(fileno=int(sys.argv[1])))
