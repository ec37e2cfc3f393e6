"""Another process that holds the lock of an output folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOLDS = """
import sys
from pathlib import Path
from iit_bench.storage.folder_locks import holding
with holding(Path(sys.argv[1]), beside=sys.argv[2] == "beside", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(out: Path, how: str = "in") -> Iterator[subprocess.Popen]:
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLDS, out, how]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        yield other
        other.stdin.close()
