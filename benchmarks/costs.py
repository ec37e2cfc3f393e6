"""What the benchmarks that start processes share: CPU time and peak memory of one, and how a figure grows with the size of the work."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall: float  # seconds
    cpu: float  # seconds, of user and system, of all threads
    peak: int  # bytes, of resident memory
    output: str


def cost_of(code: str, arguments: Sequence[str] = (), tree: Path = HERE) -> Cost:
    """Run `code` in a new interpreter, on one thread, with the packages of the checkout `tree` first.

    Raises:
        RuntimeError: it failed.
    """
    paths = [str(tree), str(tree / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=tree, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"a benchmark's process ended with code {process.returncode}; its message is above")
    scale = 1 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * scale, output)


def growth_exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """b of the least-squares fit of figure = a · size^b: 1 where the figure is in proportion to the size."""
    x, y = ([math.log(value) for value in values] for values in (sizes, figures))
    return slope(x, y)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line through the points."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
