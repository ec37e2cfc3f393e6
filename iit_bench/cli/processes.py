"""`iit-bench eval --processes N`: start N processes of the same command on this machine, and wait for them.

Each is a rank, as torchrun would start it (`iit_bench.ranks`). They end with their parent, however it ends: each reads its standard input,
a pipe that this process holds and never writes to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.ranks import ELSEWHERE, LAUNCH, this_rank
from iit_bench.storage import anew
from iit_bench.terminal import write

ROOT = Path(__file__).resolve().parents[2]  # folder of the packages, which the processes import as well


def run_processes(words: Sequence[str], count: int) -> int:
    """Run `iit-bench WORDS` in `count` processes, and return the exit code of the whole.

    The first shows a progress bar of what all have done; messages of the others are shown when all have ended, where they add something.
    Their threads are the cores of this machine divided among them, unless OMP_NUM_THREADS is set.

    Raises:
        UserError: this process is itself one of several.
        KeyboardInterrupt: all have been ended; what they have answered is kept.
    """
    if this_rank().several:
        raise UserError("--processes starts processes by itself, and a launcher has started this one already; leave it out")
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    environment |= {LAUNCH: uuid.uuid4().hex, "WORLD_SIZE": str(count)}
    environment.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // count, 1) if hasattr(os, "sched_getaffinity") else 1))
    with tempfile.TemporaryDirectory(prefix="iit-bench-processes-") as scratch:
        folders = [Path(scratch) / str(number) for number in range(count)]
        started = [_start(words, number, environment, folder) for number, folder in enumerate(folders)]
        try:
            codes = [process.wait() for process in started]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
        return _outcome(codes, *([_text(folder / name) for folder in folders] for name in ("output", "errors")))


def _start(words: Sequence[str], number: int, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    variables = environment | {"RANK": str(number), "LOCAL_RANK": str(number)}
    command = [sys.executable, "-m", "iit_bench.cli.processes", *words, *(["--quiet"] if number and "--quiet" not in words else [])]
    folder.mkdir()
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        return subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=output, stderr=errors if number else None)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _outcome(codes: Sequence[int], outputs: Sequence[str], messages: Sequence[str]) -> int:
    """The exit code of the whole, after what the processes have written is shown, once and as far as it adds something.

    The first has written its messages (not its output) itself.
    """
    ended = [number for number, code in enumerate(codes) if code < 0]
    writer = next((number for number, code in enumerate(codes) if code in (0, 1)), None)  # it has written the results
    if writer is not None:
        write(outputs[writer], end="", flush=True)
        write(messages[writer], end="", file=sys.stderr)
    else:
        failed = [number for number, code in enumerate(codes) if code > 0 and code != ELSEWHERE]
        if 0 not in failed:  # else the first has shown the reason
            write("".join(dict.fromkeys(messages[number] for number in failed)), end="", file=sys.stderr)
    if ended:
        names = ", ".join(f"{number + 1} by signal {-codes[number]}" for number in ended)
        fix = "the others have done its part" if writer is not None else "answers so far are kept, repeat the command to resume"
        write(f"iit-bench: of {len(codes)} processes ended: {names}; {anew.resumable(fix)}", file=sys.stderr)
    if writer is not None:
        return codes[writer]
    return 1 if ended else max((code for code in codes if code != ELSEWHERE), default=1)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended."""
    while os.read(0, 1024):
        pass
    os._exit(128 + signal.SIGTERM)


def main() -> int:
    """One of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the others at once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from iit_bench.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
